//! Texts as the API's error messages quote them.

use std::fmt::Write;

/// `text` between double quotes, with the escapes that clients know from these messages: `\"`, `\\`, `\n` and the
/// like, `\x01` for other control bytes and for what is not UTF-8, `\u00a0` for what cannot be printed.
pub fn quote(text: &[u8]) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for chunk in text.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_char(&mut quoted, c));
        chunk
            .invalid()
            .iter()
            .for_each(|byte| push_hex(&mut quoted, *byte));
    }
    quoted.push('"');
    quoted
}

/// Whether `c` can be shown as it is.
pub fn is_printable(c: char) -> bool {
    // The standard library knows, but only tells when it escapes: combining marks count as printable behind a letter.
    matches!(c, ' '..='~') || (!c.is_ascii() && format!("x{c}").escape_debug().nth(1) == Some(c))
}

fn push_char(quoted: &mut String, c: char) {
    let code = u32::from(c);
    let written = match c {
        '"' | '\\' => write!(quoted, "\\{c}"),
        '\x07' => write!(quoted, "\\a"),
        '\x08' => write!(quoted, "\\b"),
        '\x0c' => write!(quoted, "\\f"),
        '\n' => write!(quoted, "\\n"),
        '\r' => write!(quoted, "\\r"),
        '\t' => write!(quoted, "\\t"),
        '\x0b' => write!(quoted, "\\v"),
        _ if is_printable(c) => write!(quoted, "{c}"),
        _ if code < 0x20 => write!(quoted, "\\x{code:02x}"),
        _ if code < 0x1_0000 => write!(quoted, "\\u{code:04x}"),
        _ => write!(quoted, "\\U{code:08x}"),
    };
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

fn push_hex(quoted: &mut String, byte: u8) {
    let written = write!(quoted, "\\x{byte:02x}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_follows_the_unicode_categories() {
        for c in [
            ' ',
            'a',
            '~',
            '\u{e9}',
            '\u{301}',
            '\u{fffd}',
            '\u{4e16}',
            '\u{1f600}',
            '"',
            '\\',
        ] {
            assert!(is_printable(c), "{c:?}");
        }
        for c in [
            '\0', '\n', '\x7f', '\u{85}', '\u{a0}', '\u{ad}', '\u{200b}', '\u{2028}', '\u{e000}', '\u{feff}',
        ] {
            assert!(!is_printable(c), "{c:?}");
        }
    }

    #[test]
    fn quotes_as_the_api_does() {
        let cases: [(&[u8], &str); 8] = [
            (b"z\"\nz\xff\xc3\xa9\0", r#""z\"\nz\xffé\x00""#),
            (
                "\u{200b}\u{e0001}\x7f\\\t\x07".as_bytes(),
                r#""\u200b\U000e0001\u007f\\\t\a""#,
            ),
            (b"a/b c", r#""a/b c""#),
            (b"q\"\\\n\t\x01\x7f", r#""q\"\\\n\t\x01\u007f""#),
            (
                "\u{a0}\u{e9}\u{200b}e\u{301}".as_bytes(),
                "\"\\u00a0\u{e9}\\u200be\u{301}\"",
            ),
            ("\u{1f600}\u{e0001}".as_bytes(), "\"\u{1f600}\\U000e0001\""),
            (b"\xff\xc3a", r#""\xff\xc3a""#),
            (b"", r#""""#),
        ];
        for (text, expected) in cases {
            assert_eq!(quote(text), expected);
        }
    }
}
