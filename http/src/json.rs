//! JSON as the API's clients expect it, byte for byte: compact or indented by four spaces, safe to put into HTML,
//! with byte strings in base64 and empty ones as `null`.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// Writes a value. `capacity` is a guess of how many bytes it will be. With `pretty` it is indented and ends in a
/// newline.
pub(crate) fn to_vec(value: &impl Serialize, pretty: bool, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(if pretty { capacity * 2 } else { capacity });
    value
        .serialize(&mut Serializer::with_formatter(
            &mut out,
            Style {
                pretty,
                depth: 0,
                filled: false,
            },
        ))
        .expect("our types serialise, and writing to a vector cannot fail");
    if pretty {
        out.push(b'\n');
    }
    out
}

/// Bytes that are written in base64, or as `null` if there are none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob<'a>(pub(crate) &'a [u8]);

impl Serialize for Blob<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Bytes that are mostly UTF-8, as a string; what is not is replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(self.0))
    }
}

/// Serialises the items of an iterator as an array.
pub(crate) struct Array<F>(pub(crate) F);

impl<I, F> Serialize for Array<F>
where
    I: IntoIterator<Item: Serialize>,
    F: Fn() -> I,
{
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

struct Style {
    pretty: bool,
    depth: usize,
    /// Whether the innermost open array or object has anything in it.
    filled: bool,
}

impl Style {
    fn open<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(out)?;
        }
        self.filled = true;
        out.write_all(bracket)
    }

    fn item<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        self.line(out)
    }

    fn line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        if self.pretty {
            out.write_all(b"\n")?;
            for _ in 0..self.depth {
                out.write_all(b"    ")?;
            }
        }
        Ok(())
    }
}

impl Formatter for Style {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(if self.pretty { b": " } else { b":" })
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        // Whole numbers without a fraction, and an exponent only where the number would get long.
        let size = value.abs();
        if size == 0.0 || (1e-6..1e21).contains(&size) {
            return write!(out, "{value}");
        }
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => write!(out, "{digits}e+{exponent}"),
            Some(_) | None => out.write_all(text.as_bytes()),
        }
    }

    fn write_byte_array<W: ?Sized + Write>(&mut self, out: &mut W, value: &[u8]) -> io::Result<()> {
        if value.is_empty() {
            return out.write_all(b"null");
        }
        out.write_all(b"\"")?;
        // A multiple of three, so that only the last piece can be padded.
        let mut text = [0; 4096];
        for piece in value.chunks(3072) {
            let length = STANDARD
                .encode_slice(piece, &mut text)
                .expect("the base64 of 3072 bytes is 4096 bytes long");
            out.write_all(&text[..length])?;
        }
        out.write_all(b"\"")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let bytes = fragment.as_bytes();
        let mut written = 0;
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let (escape, length): (&[u8], usize) = match byte {
                b'<' => (b"\\u003c", 1),
                b'>' => (b"\\u003e", 1),
                b'&' => (b"\\u0026", 1),
                // The line and the paragraph separator, which old JavaScript does not allow in strings.
                0xe2 if bytes[at..].starts_with("\u{2028}".as_bytes()) => (b"\\u2028", 3),
                0xe2 if bytes[at..].starts_with("\u{2029}".as_bytes()) => (b"\\u2029", 3),
                _ => {
                    at += 1;
                    continue;
                }
            };
            out.write_all(&bytes[written..at])?;
            out.write_all(escape)?;
            at += length;
            written = at;
        }
        out.write_all(&bytes[written..])
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        let code = match escape {
            CharEscape::Quote => return out.write_all(b"\\\""),
            CharEscape::ReverseSolidus => return out.write_all(b"\\\\"),
            CharEscape::LineFeed => return out.write_all(b"\\n"),
            CharEscape::CarriageReturn => return out.write_all(b"\\r"),
            CharEscape::Tab => return out.write_all(b"\\t"),
            CharEscape::Solidus => b'/',
            CharEscape::Backspace => 0x08,
            CharEscape::FormFeed => 0x0c,
            CharEscape::AsciiControl(code) => code,
        };
        write!(out, "\\u{code:04x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compact(value: &impl Serialize) -> String {
        String::from_utf8(to_vec(value, false, 0)).unwrap()
    }

    #[test]
    fn strings_are_safe_in_html() {
        assert_eq!(
            compact(&"a<b>&c\u{2028}\u{2029}\u{2027}\u{e9}"),
            r#""a\u003cb\u003e\u0026c\u2028\u2029‧é""#
        );
        assert_eq!(
            compact(&"\"\\/\n\r\t\u{8}\u{c}\u{1}\u{7f}"),
            "\"\\\"\\\\/\\n\\r\\t\\u0008\\u000c\\u0001\u{7f}\""
        );
        assert_eq!(compact(&Text(b"a\xffb")), "\"a\u{fffd}b\"");
    }

    #[test]
    fn blobs_are_base64_or_null() {
        assert_eq!(compact(&Blob(b"")), "null");
        assert_eq!(compact(&Blob(b"bar")), "\"YmFy\"");
        assert_eq!(compact(&Blob(b"ab")), "\"YWI=\"");
        for length in [3071, 3072, 3073, 10_000] {
            let blob = vec![0xa5; length];
            assert_eq!(compact(&Blob(&blob)), format!("\"{}\"", STANDARD.encode(&blob)));
        }
    }

    #[test]
    fn numbers_are_exact() {
        assert_eq!(
            compact(&[u64::MAX, 3_304_740_253_564_472_344]),
            "[18446744073709551615,3304740253564472344]"
        );
    }

    #[test]
    fn fractions_are_as_short_as_can_be() {
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (100.0, "100"),
            (-0.25, "-0.25"),
            (0.00001, "0.00001"),
            (0.000_001, "0.000001"),
            (0.000_000_1, "1e-7"),
            (-1.25e-9, "-1.25e-9"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-2.5e300, "-2.5e+300"),
        ] {
            assert_eq!(compact(&number), expected);
        }
        assert_eq!(compact(&f64::NAN), "null");
    }

    #[test]
    fn pretty_indents_by_four_and_ends_in_a_newline() {
        #[derive(Serialize)]
        struct Sample {
            empty: Vec<u8>,
            rows: Vec<Vec<u8>>,
            none: Option<u8>,
        }
        let sample = Sample {
            empty: vec![],
            rows: vec![vec![1, 2], vec![]],
            none: None,
        };
        let expected = "{\n    \"empty\": [],\n    \"rows\": [\n        [\n            1,\n            2\n        ],\n        \
                        []\n    ],\n    \"none\": null\n}\n";
        assert_eq!(String::from_utf8(to_vec(&sample, true, 0)).unwrap(), expected);
        assert_eq!(compact(&sample), r#"{"empty":[],"rows":[[1,2],[]],"none":null}"#);
    }
}
