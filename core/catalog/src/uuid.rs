//! Names of 128 random bits, as texts.

use crate::quote::is_printable;

/// The name that `text` is, in any letter case and with the hyphens anywhere; `None` if it is well formed, but too long to be any. The
/// error is in the API's words.
pub(crate) fn parse(text: &str) -> Result<Option<u128>, String> {
    if text.len() != 36 {
        return Err("UUID must be 36 characters".to_owned());
    }
    let hyphens = text.bytes().filter(|byte| *byte == b'-').count();
    if hyphens > 4 {
        return Err(format!("UUID should have maximum of 4 \"-\"; got {hyphens}"));
    }
    if hyphens % 2 != 0 {
        return Err("Input (without hyphens) must be even length".to_owned());
    }
    let digits = || text.bytes().filter(|byte| *byte != b'-');
    if let Some(bad) = digits().find(|byte| !byte.is_ascii_hexdigit()) {
        let shown = Some(char::from(bad)).filter(|c| is_printable(*c));
        let shown = shown.map(|c| format!(" '{c}'")).unwrap_or_default();
        return Err(format!(
            "Invalid UUID: encoding/hex: invalid byte: U+{bad:04X}{shown}"
        ));
    }
    if hyphens != 4 {
        return Ok(None);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default();
    Ok(Some(
        digits().fold(0, |id, byte| (id << 4) | u128::from(digit(byte))),
    ))
}
