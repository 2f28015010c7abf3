//! Durations in the syntax of Go's standard library, which Consul's configuration uses: `300ms`, `1.5h`, `1m30s`.

use std::time::Duration;

/// Why a text is not a duration. The messages are those of Go's `time.ParseDuration`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a sequence of numbers with units, or too long to represent (about 292 years).
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit other than `ns`, `us`, `ms`, `s`, `m` and `h`.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// A well-formed duration below zero, which nothing in Lictor can use.
    #[error("time: negative duration {0:?}")]
    Negative(String),
}

/// Parses a duration such as `300ms`, `-0s`, `1.5h` or `1m30s`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) | None => (false, text),
    };
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: u128 = 0;
    if rest != "0" {
        while !rest.is_empty() {
            let number = Number::split(&mut rest).ok_or_else(invalid)?;
            let end = rest
                .find(|c: char| c == '.' || c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (unit, after) = rest.split_at(end);
            rest = after;
            if unit.is_empty() {
                return Err(DurationError::MissingUnit(text.to_owned()));
            }
            let unit_nanos = unit_nanos(unit).ok_or_else(|| DurationError::UnknownUnit {
                unit: unit.to_owned(),
                text: text.to_owned(),
            })?;
            nanos = nanos.saturating_add(number.times(unit_nanos));
        }
    }
    let nanos = i64::try_from(nanos).map_err(|_| invalid())?;
    if negative && nanos != 0 {
        return Err(DurationError::Negative(text.to_owned()));
    }
    Ok(Duration::from_nanos(nanos.unsigned_abs()))
}

/// A decimal number: `whole + fraction / scale`.
struct Number {
    whole: u64,
    fraction: u64,
    scale: u64,
}

impl Number {
    /// Takes a number off the front of `rest`; `None` if there is no digit, or the whole part is too large.
    fn split(rest: &mut &str) -> Option<Self> {
        let whole_digits = split_digits(rest);
        let mut fraction_digits = "";
        if let Some(after) = rest.strip_prefix('.') {
            *rest = after;
            fraction_digits = split_digits(rest);
        }
        if whole_digits.is_empty() && fraction_digits.is_empty() {
            return None;
        }
        // Digits beyond the fifteenth are below a nanosecond even for hours.
        let fraction_digits = &fraction_digits[..fraction_digits.len().min(15)];
        let number = |digits: &str| {
            if digits.is_empty() {
                Some(0)
            } else {
                digits.parse().ok()
            }
        };
        Some(Self {
            whole: number(whole_digits)?,
            fraction: number(fraction_digits)?,
            scale: 10_u64.pow(u32::try_from(fraction_digits.len()).ok()?),
        })
    }

    fn times(&self, unit: u64) -> u128 {
        let unit = u128::from(unit);
        u128::from(self.whole) * unit + u128::from(self.fraction) * unit / u128::from(self.scale)
    }
}

fn split_digits<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    digits
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // The micro sign and the Greek letter mu.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("-0s", 0),
            ("+5s", 5_000_000_000),
            ("300ms", 300_000_000),
            ("1.5h", 5_400_000_000_000),
            ("1m30s", 90_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("7ns", 7),
            ("1.982236623764038s", 1_982_236_623),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("2562047h47m16.854775807s", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_in_gos_words() {
        for (text, message) in [
            ("", r#"time: invalid duration """#),
            ("x", r#"time: invalid duration "x""#),
            ("-", r#"time: invalid duration "-""#),
            (".s", r#"time: invalid duration ".s""#),
            ("10", r#"time: missing unit in duration "10""#),
            ("1h5", r#"time: missing unit in duration "1h5""#),
            ("1q", r#"time: unknown unit "q" in duration "1q""#),
            ("1 s", r#"time: unknown unit " s" in duration "1 s""#),
            (
                "9223372036854775808ns",
                r#"time: invalid duration "9223372036854775808ns""#,
            ),
            (
                "99999999999999999999s",
                r#"time: invalid duration "99999999999999999999s""#,
            ),
            ("-5s", r#"time: negative duration "-5s""#),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), message);
        }
    }
}
