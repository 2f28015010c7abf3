//! Values as filters write them.

use lictor_catalog::quote;

/// The text of a literal in double quotes, given without them. `None` if it has a line break or an escape that is none.
pub(super) fn unquote(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '\n']) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = rest[at..].strip_prefix('\\')?;
        let kind = escape.chars().next()?;
        let after = &escape[kind.len_utf8()..];
        let plain = match kind {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' => Some(b'\\'),
            _ => None,
        };
        rest = if let Some(plain) = plain {
            out.push(plain);
            after
        } else if kind == 'x' {
            let (code, after) = digits(after, 2, 16)?;
            out.push(u8::try_from(code).ok()?);
            after
        } else if matches!(kind, '0'..='7') {
            let (code, after) = digits(escape, 3, 8)?;
            out.push(u8::try_from(code).ok()?);
            after
        } else {
            let count = match kind {
                'u' => 4,
                'U' => 8,
                _ => return None,
            };
            let (code, after) = digits(after, count, 16)?;
            let c = char::from_u32(code)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            after
        };
    }
    out.extend_from_slice(rest.as_bytes());
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// Exactly `count` digits, and what follows.
fn digits(text: &str, count: usize, radix: u32) -> Option<(u32, &str)> {
    let (digits, after) = text.split_at_checked(count)?;
    let all = digits.chars().all(|c| c.is_digit(radix));
    let code = u32::from_str_radix(digits, radix).ok()?;
    all.then_some((code, after))
}

/// A whole number: decimal, or in base 16, 8 or 2 behind `0x`, `0o` or `0`, `0b`. The error is a text for the client.
pub(super) fn parse_int(text: &str) -> Result<i64, String> {
    let error = |why| {
        Err(format!(
            "strconv.ParseInt: parsing {}: {why}",
            quote(text.as_bytes())
        ))
    };
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) | None => (false, text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let prefixed = [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((lower.strip_prefix(prefix)?, radix)));
    let (digits, radix) = prefixed
        .filter(|(digits, radix)| *radix != 8 || !digits.is_empty())
        .unwrap_or((&lower, 10));
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return error("invalid syntax");
    }
    let signed = if negative {
        i64::from_str_radix(&format!("-{digits}"), radix)
    } else {
        i64::from_str_radix(digits, radix)
    };
    signed.or_else(|_| error("value out of range"))
}

/// A truth value. The error is a text for the client.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {}: invalid syntax",
            quote(text.as_bytes())
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (text, expected) in [
            ("", Some("")),
            (r"a\tb\\c", Some("a\tb\\c")),
            (r"\x41\101\u00e9\U0001F600", Some("AA\u{e9}\u{1f600}")),
            (r"\xff", Some("\u{fffd}")),
            (r"a\", None),
            (r"\'", None),
            (r"\q", None),
            (r"\x4", None),
            (r"\x+1", None),
            (r"\8", None),
            (r"\400", None),
            (r"\ud800", None),
            ("a\nb", None),
            (r"\é", None),
        ] {
            assert_eq!(unquote(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn whole_numbers() {
        for (text, expected) in [
            ("80", 80),
            ("-5", -5),
            ("+5", 5),
            ("0", 0),
            ("-0", 0),
            ("0x1F", 31),
            ("017", 15),
            ("0o17", 15),
            ("0b101", 5),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse_int(text), Ok(expected), "{text}");
        }
        for text in ["", "-", "abc", "1.5", "08", "0x", "--1", "0x-1", " 1"] {
            let error = format!("strconv.ParseInt: parsing \"{text}\": invalid syntax");
            assert_eq!(parse_int(text), Err(error));
        }
        assert_eq!(
            parse_int("9223372036854775808"),
            Err("strconv.ParseInt: parsing \"9223372036854775808\": value out of range".to_owned())
        );
    }

    #[test]
    fn truth_values() {
        assert_eq!(parse_bool("True"), Ok(true));
        assert_eq!(parse_bool("f"), Ok(false));
        assert_eq!(
            parse_bool("yes"),
            Err("strconv.ParseBool: parsing \"yes\": invalid syntax".to_owned())
        );
    }
}
