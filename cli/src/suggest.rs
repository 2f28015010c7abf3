//! What somebody may have meant who mistyped a name.

/// How many letters may be wrong.
const SLIPS_MAX: usize = 2;

/// The longest name that is compared; longer ones are no slip of the finger.
const NAME_BYTES_MAX: usize = 32;

/// The one of `names` that is most like `typed`, if one is like it; the first of those that are equally so.
pub(crate) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if typed.len() > NAME_BYTES_MAX {
        return None;
    }
    let near = names.map(|name| (slips(typed, name), name));
    // Of a short name more than half must be right.
    near.filter(|(slips, name)| *slips <= SLIPS_MAX && 2 * slips < name.len().max(typed.len()))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

/// How many letters have to be put in, taken out or replaced, or neighbours exchanged, to make one of the other: the optimal string alignment
/// distance.
fn slips(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut now = vec![row + 1];
        for (column, wanted) in other.iter().enumerate() {
            let mut least = (last[column] + usize::from(letter != wanted))
                .min(last[column + 1] + 1)
                .min(now[column] + 1);
            if row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *wanted {
                let exchanged: &[usize] = &before_last;
                least = least.min(exchanged[column - 1] + 1);
            }
            now.push(least);
        }
        before_last = std::mem::replace(&mut last, now);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let names = || ["kv", "get", "members", "maint", "monitor", "reload"].into_iter();
        for (typed, meant) in [
            ("kvs", Some("kv")),
            ("gett", Some("get")),
            ("member", Some("members")),
            ("memebrs", Some("members")),
            ("relod", Some("reload")),
            ("bogus", None),
            ("x", None),
            ("-x", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names()), meant, "{typed}");
        }
        assert_eq!(nearest(&"members".repeat(1000), names()), None);
    }

    #[test]
    fn slips_are_counted() {
        for (one, other, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
        ] {
            assert_eq!(slips(one, other), count, "{one} {other}");
        }
    }
}
