//! Small encodings that the configuration and the command line share.

use std::io;

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

/// Padded base64 that, like Go's, does not mind set bits after the last byte.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// A text is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("illegal base64 data at input byte {offset}")]
pub struct IllegalBase64 {
    /// Where it stops being base64: the offending character, or the group of four that is incomplete.
    pub offset: usize,
}

/// Decodes padded standard base64. Line ends are skipped wherever they stand.
pub fn decode_base64(text: &[u8]) -> Result<Vec<u8>, IllegalBase64> {
    let joined: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    LENIENT.decode(&joined).map_err(|error| IllegalBase64 {
        offset: match error {
            base64::DecodeError::InvalidByte(offset, _)
            | base64::DecodeError::InvalidLastSymbol(offset, _) => offset,
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => {
                joined.len().saturating_sub(1) / 4 * 4
            }
        },
    })
}

/// What the operating system said, in the form `no such file or directory`: without the number, and in lower case
/// because it ends a sentence.
pub fn system_error(error: &io::Error) -> String {
    let text = error.to_string();
    let text = match text.find(" (os error ") {
        Some(end) => &text[..end],
        None => &text,
    };
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_round_trips_and_names_the_offset() {
        assert_eq!(decode_base64(b"aGVsbG8="), Ok(b"hello".to_vec()));
        assert_eq!(decode_base64(b"aGVs\r\nbG8=\n"), Ok(b"hello".to_vec()));
        assert_eq!(decode_base64(b""), Ok(Vec::new()));
        assert_eq!(
            decode_base64(b"aGVsbG9="),
            Ok(b"hello".to_vec()),
            "trailing bits are ignored"
        );
        for (text, offset) in [("abc", 0), ("!", 0), ("!!", 0), ("aGVs!G8=", 4), ("aGVsbG8", 4)] {
            assert_eq!(
                decode_base64(text.as_bytes()),
                Err(IllegalBase64 { offset }),
                "{text}"
            );
        }
        assert_eq!(
            IllegalBase64 { offset: 3 }.to_string(),
            "illegal base64 data at input byte 3"
        );
    }

    #[test]
    fn system_errors_end_a_sentence() {
        let error = std::fs::read("/definitely/not/there").unwrap_err();
        assert_eq!(system_error(&error), "no such file or directory");
        assert_eq!(system_error(&io::Error::other("Plain")), "plain");
    }
}
