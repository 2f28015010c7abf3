//! Texts as the API's clients know them: durations, unsigned numbers, percent-escapes.
//!
//! The words of the errors are part of the API: clients match on them.

use std::borrow::Cow;
use std::time::Duration;

use lictor_catalog::quote;
use lictor_machine::UnixMillis;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Parses an unsigned decimal number of 64 bits. The error is the whole text for the client.
pub(crate) fn parse_uint(text: &[u8]) -> Result<u64, String> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(format!(
            "strconv.ParseUint: parsing {}: invalid syntax",
            quote(text)
        ));
    }
    text.iter()
        .try_fold(0_u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
        .ok_or_else(|| format!("strconv.ParseUint: parsing {}: value out of range", quote(text)))
}

/// A duration that may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    /// Below zero.
    Negative,
    /// Zero or more.
    Positive(Duration),
}

/// Parses a duration such as `1m30s`, `0.5s` or `-2h`: decimal numbers, each with a unit of ns, us, ms, s, m or h, that fit 63 bits of
/// nanoseconds together. The error is a text for the client.
pub(crate) fn parse_duration(text: &str) -> Result<Signed, String> {
    parse_signed(text).map_err(|error| {
        let text = quote(text.as_bytes());
        match error {
            BadDuration::Invalid => format!("time: invalid duration {text}"),
            BadDuration::MissingUnit => format!("time: missing unit in duration {text}"),
            BadDuration::UnknownUnit(unit) => {
                format!("time: unknown unit {} in duration {text}", quote(unit.as_bytes()))
            }
        }
    })
}

/// Why a text is not a duration.
enum BadDuration<'a> {
    Invalid,
    MissingUnit,
    UnknownUnit(&'a str),
}

fn parse_signed(text: &str) -> Result<Signed, BadDuration<'_>> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) | None => (false, text),
    };
    if rest == "0" {
        return Ok(Signed::Positive(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(BadDuration::Invalid);
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (nanos, after) = parse_part(rest)?;
        total = total
            .checked_add(nanos)
            .filter(|total| i64::try_from(*total).is_ok())
            .ok_or(BadDuration::Invalid)?;
        rest = after;
    }
    if negative && total > 0 {
        Ok(Signed::Negative)
    } else {
        Ok(Signed::Positive(Duration::from_nanos(total)))
    }
}

/// Units of durations, in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// One number and its unit, in nanoseconds, and what follows.
fn parse_part(text: &str) -> Result<(u64, &str), BadDuration<'_>> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(BadDuration::Invalid);
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    if unit.is_empty() {
        return Err(BadDuration::MissingUnit);
    }
    let found = UNITS.iter().find(|(name, _)| *name == unit);
    let (_, scale) = *found.ok_or(BadDuration::UnknownUnit(unit))?;

    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().map_err(|_| BadDuration::Invalid)?
    };
    // 18 digits are finer than a nanosecond of an hour, and fit 64 bits.
    let digits = &fraction[..fraction.len().min(18)];
    let (fraction, divisor) = digits.bytes().fold((0_u64, 1_u64), |(value, divisor), digit| {
        (value * 10 + u64::from(digit - b'0'), divisor * 10)
    });
    let part = u128::from(fraction) * u128::from(scale) / u128::from(divisor);
    let nanos = u128::from(whole) * u128::from(scale) + part;
    let nanos = u64::try_from(nanos).map_err(|_| BadDuration::Invalid)?;
    Ok((nanos, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Writes a duration as [`parse_duration`] reads it, in its largest units: `1h2m3.5s`, `200ms`, `0s`.
pub(crate) fn format_duration(duration: Duration) -> String {
    /// A number of `unit` nanoseconds with as many decimals as it takes.
    fn decimal(nanos: u64, unit: u64) -> String {
        let (whole, fraction) = (nanos / unit, nanos % unit);
        if fraction == 0 {
            return whole.to_string();
        }
        let width = unit.ilog10() as usize;
        let text = format!("{whole}.{fraction:0width$}");
        text.trim_end_matches('0').to_owned()
    }

    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        1_000_000_000.. => {
            let seconds = nanos / 1_000_000_000;
            let rest = decimal(nanos - seconds / 60 * 60_000_000_000, 1_000_000_000);
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{rest}s"),
                (0, minutes) => format!("{minutes}m{rest}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

/// Writes a time in whole seconds, as RFC 3339 does: `2026-11-21T21:21:40Z`.
pub(crate) fn format_time(time: UnixMillis) -> String {
    /// Days in the 400 years after which the calendar repeats itself.
    const ERA: u64 = 146_097;

    let seconds = time.0 / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their leap day at the end. The first of March of year 0 was 719468 days before 1970.
    let days = days + 719_468;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Several errors as one text.
pub(crate) fn errors(texts: &[String]) -> String {
    let plural = if texts.len() == 1 { "" } else { "s" };
    let mut all = format!("{} error{plural} occurred:\n", texts.len());
    for text in texts {
        all.push_str("\t* ");
        all.push_str(text);
        all.push('\n');
    }
    all.push('\n');
    all
}

/// What percent-escapes stand for; with `plus`, a plus sign stands for a space, as in query strings.
/// `None` if an escape is malformed.
pub(crate) fn unescape(text: &str, plus: bool) -> Option<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    let Some(first) = bytes
        .iter()
        .position(|byte| *byte == b'%' || (plus && *byte == b'+'))
    else {
        return Some(Cow::Borrowed(bytes));
    };
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let (&[high, low], after) = after.split_first_chunk::<2>()?;
                out.push(hex(high)? << 4 | hex(low)?);
                rest = after;
            }
            b'+' if plus => out.push(b' '),
            byte => out.push(byte),
        }
    }
    Some(Cow::Owned(out))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Percent-escapes a path.
pub(crate) fn escape_path(path: &[u8]) -> String {
    percent_encode(path, PATH).to_string()
}

/// Percent-escapes a name or a value for a query string, where a space becomes a plus sign.
pub(crate) fn escape_query(part: &[u8]) -> String {
    percent_encode(part, UNRESERVED).to_string().replace("%20", "+")
}

/// What is escaped in a query string: all but letters, digits and these.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// What is escaped in a path.
const PATH: &AsciiSet = &UNRESERVED
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uints_are_decimal_and_of_64_bits() {
        assert_eq!(parse_uint(b"0"), Ok(0));
        assert_eq!(parse_uint(b"007"), Ok(7));
        assert_eq!(parse_uint(b"18446744073709551615"), Ok(u64::MAX));
        for bad in ["", "-1", "+5", "5.5", "0x10", "1_000", " 1", "zz"] {
            let expected = format!("strconv.ParseUint: parsing \"{bad}\": invalid syntax");
            assert_eq!(parse_uint(bad.as_bytes()), Err(expected));
        }
        assert_eq!(
            parse_uint(b"18446744073709551616"),
            Err("strconv.ParseUint: parsing \"18446744073709551616\": value out of range".to_owned())
        );
    }

    #[test]
    fn durations() {
        let nanos = |n| Ok(Signed::Positive(Duration::from_nanos(n)));
        for (text, expected) in [
            ("0", nanos(0)),
            ("-0", nanos(0)),
            ("0s", nanos(0)),
            ("10s", nanos(10_000_000_000)),
            ("60000ms", nanos(60_000_000_000)),
            ("1.982236623764038s", nanos(1_982_236_623)),
            ("15.0s", nanos(15_000_000_000)),
            ("1h2m3.5s4ms5us6ns", nanos(3_723_504_005_006)),
            (".5s", nanos(500_000_000)),
            ("5.s", nanos(5_000_000_000)),
            ("3\u{b5}s", nanos(3_000)),
            ("+5s", nanos(5_000_000_000)),
            ("0.5h", nanos(1_800_000_000_000)),
            ("-1s", Ok(Signed::Negative)),
            ("9223372036854775807ns", nanos(i64::MAX as u64)),
        ] {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
        let invalid = |text: &str| format!("time: invalid duration {}", quote(text.as_bytes()));
        for text in [
            "9223372036854775808ns",
            "2562048h",
            "99999999999999999999s",
            "",
            "-",
            ".s",
            "s",
            "\u{e9}",
        ] {
            assert_eq!(parse_duration(text), Err(invalid(text)));
        }
        for (text, error) in [
            ("5", "time: missing unit in duration \"5\""),
            ("1s2", "time: missing unit in duration \"1s2\""),
            ("-5.", "time: missing unit in duration \"-5.\""),
            ("5S", "time: unknown unit \"S\" in duration \"5S\""),
            ("1s zz", "time: unknown unit \"s zz\" in duration \"1s zz\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
        ] {
            assert_eq!(parse_duration(text), Err(error.to_owned()));
        }
    }

    #[test]
    fn durations_are_written_in_their_largest_units() {
        for (nanos, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (999, "999ns"),
            (1_500, "1.5\u{b5}s"),
            (1_500_000, "1.5ms"),
            (200_000_000, "200ms"),
            (10_000_000_000, "10s"),
            (59_999_999_999, "59.999999999s"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (u64::MAX, "5124095h34m33.709551615s"),
        ] {
            assert_eq!(format_duration(Duration::from_nanos(nanos)), expected);
            if i64::try_from(nanos).is_ok() {
                assert_eq!(
                    parse_duration(expected),
                    Ok(Signed::Positive(Duration::from_nanos(nanos)))
                );
            }
        }
        assert_eq!(
            format_duration(Duration::MAX),
            format_duration(Duration::from_nanos(u64::MAX))
        );
    }

    #[test]
    fn times_follow_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (978_220_800, "2000-12-31T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_795_296_100, "2026-11-21T21:21:40Z"),
        ] {
            assert_eq!(format_time(UnixMillis(seconds * 1000 + 999)), expected);
        }
        assert!(format_time(UnixMillis(u64::MAX)).ends_with('Z'));
    }

    #[test]
    fn several_errors_are_one_text() {
        let errors = |texts: &[&str]| errors(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        assert_eq!(errors(&["a"]), "1 error occurred:\n\t* a\n\n");
        assert_eq!(errors(&["a", "b"]), "2 errors occurred:\n\t* a\n\t* b\n\n");
    }

    #[test]
    fn escapes_round_trip() {
        assert_eq!(
            unescape("a%2Fb+c%20%c3%A9", false).as_deref(),
            Some("a/b+c \u{e9}".as_bytes())
        );
        assert_eq!(unescape("a+b", true).as_deref(), Some(&b"a b"[..]));
        assert!(matches!(
            unescape("plain+", false),
            Some(Cow::Borrowed(b"plain+"))
        ));
        for bad in ["%", "%2", "%zz", "a%2g", "%%20"] {
            assert_eq!(unescape(bad, false), None, "{bad}");
        }
        assert_eq!(escape_path(b"/v1/a b?c<!\xff;="), "/v1/a%20b%3Fc%3C%21%FF;=");
        assert_eq!(escape_query(b"a b/&+-"), "a+b%2F%26%2B-");
    }
}
