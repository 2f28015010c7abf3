//! Parsing of single values.

use std::net::IpAddr;
use std::time::Duration;

use super::{JoinAddress, address, duration};

/// The most entries of a list of addresses to join.
const MAX_JOIN_ADDRESSES: usize = 1024;

/// Parses single values and gathers what is wrong with them.
#[derive(Default)]
pub(super) struct Parsing {
    pub(super) problems: Vec<String>,
}

impl Parsing {
    /// `None`: zero or less, which means off.
    pub(super) fn port(&mut self, key: &str, value: i64) -> Option<u16> {
        match u16::try_from(value) {
            Ok(0) => None,
            Ok(port) => Some(port),
            Err(_) if value < 0 => None,
            Err(_) => {
                self.problems.push(format!("{key}: invalid port: {value}"));
                None
            }
        }
    }

    /// `None`: not set, or nothing but spaces.
    pub(super) fn ips(&mut self, key: &str, value: Option<&str>) -> Option<Vec<IpAddr>> {
        let found = self.keep(address::parse_ips(key, value?))?;
        (!found.is_empty()).then_some(found)
    }

    pub(super) fn ip(&mut self, key: &str, value: Option<&str>) -> Option<IpAddr> {
        let value = value.filter(|text| !text.trim().is_empty())?;
        self.keep(address::parse_ip(key, value))
    }

    pub(super) fn duration(&mut self, key: &str, value: Option<&str>, default: Duration) -> Duration {
        let Some(value) = value else { return default };
        let parsed = duration::parse_duration(value)
            .map_err(|error| format!("{key}: invalid duration: {value:?}: {error}"));
        self.keep(parsed).unwrap_or(default)
    }

    pub(super) fn headers(
        &mut self,
        headers: impl IntoIterator<Item = (String, String)>,
    ) -> Vec<(String, String)> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let printable = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
        let headers: Vec<_> = headers.into_iter().collect();
        for (name, value) in &headers {
            if name.is_empty() || !name.bytes().all(token) {
                self.problems.push(format!(
                    "http_config.response_headers: invalid header name: {name:?}"
                ));
            }
            if !value.bytes().all(printable) {
                self.problems.push(format!(
                    "http_config.response_headers[{name}]: invalid header value: {value:?}"
                ));
            }
        }
        headers
    }

    pub(super) fn join(&mut self, key: &str, entries: &[String], default_port: u16) -> Vec<JoinAddress> {
        if entries.len() > MAX_JOIN_ADDRESSES {
            self.problems.push(format!(
                "{key}: {} entries; at most {MAX_JOIN_ADDRESSES} are allowed",
                entries.len()
            ));
            return Vec::new();
        }
        let mut found = Vec::with_capacity(entries.len());
        for entry in entries {
            let parsed =
                JoinAddress::parse(entry, default_port).map_err(|problem| format!("{key}: {problem}"));
            found.extend(self.keep(parsed).filter(|address| !found.contains(address)));
        }
        found
    }

    /// The value, if there is one; else its problem is noted.
    pub(super) fn keep<T>(&mut self, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|problem| self.problems.push(problem)).ok()
    }
}
