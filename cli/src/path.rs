//! Paths of keys.

/// A path in its shortest form: without empty elements, `.` and `..`.
pub(crate) fn clean(prefix: &str) -> String {
    let mut elements: Vec<&str> = Vec::new();
    for element in prefix.split('/') {
        match element {
            "" | "." => {}
            ".." => drop(elements.pop()),
            element => elements.push(element),
        }
    }
    elements.join("/")
}

/// A key below a prefix that is clean.
pub(crate) fn below(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_their_shortest_form() {
        for (path, wanted) in [
            ("a/b", "a/b"),
            ("/a//b/", "a/b"),
            ("a/./b/../c", "a/c"),
            ("../a", "a"),
            ("", ""),
            ("/", ""),
        ] {
            assert_eq!(clean(path), wanted);
        }
        assert_eq!(
            (below("a/b", "c"), below("", "c")),
            ("a/b/c".to_owned(), "c".to_owned())
        );
    }
}
