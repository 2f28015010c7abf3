//! How failures and durations are worded: as in Consul, whose texts people's alerts look for.

use std::io;
use std::time::Duration;

/// What went wrong, in the words of the system.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    if error.raw_os_error().is_none() {
        return text;
    }
    // "Connection refused (os error 111)" is "connection refused" to everybody else.
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}

/// A duration as in configuration files: `90ms`, `1.5s`, `1m30s`.
pub(super) fn duration(time: Duration) -> String {
    if time < Duration::from_mins(1) {
        return format!("{time:?}");
    }
    let (hours, minutes) = (time.as_secs() / 3600, time.as_secs() / 60 % 60);
    let rest = Duration::new(time.as_secs() % 60, time.subsec_nanos());
    let hours = if hours > 0 {
        format!("{hours}h")
    } else {
        String::new()
    };
    if rest.is_zero() {
        return format!("{hours}{minutes}m0s");
    }
    format!("{hours}{minutes}m{rest:?}")
}

/// Bytes as text, whatever they are.
pub(super) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_worded_as_everywhere_else() {
        let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert_eq!(reason(&refused), "connection refused");
        assert_eq!(
            reason(&io::Error::other("It broke (os error)")),
            "It broke (os error)"
        );
    }

    #[test]
    fn durations_are_written_as_in_configuration_files() {
        let written = [1, 90, 1_500, 60_000, 90_500, 3_600_000, 7_384_000]
            .map(|millis| duration(Duration::from_millis(millis)));
        assert_eq!(
            written,
            ["1ms", "90ms", "1.5s", "1m0s", "1m30.5s", "1h0m0s", "2h3m4s"]
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        assert_eq!(lossy(b"a\xffb".to_vec()), "a\u{fffd}b");
        assert_eq!(lossy("ä".into()), "ä");
    }
}
