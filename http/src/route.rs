//! From a request's path to its endpoint.
//!
//! A path is decoded before it is looked at, so `%2F` is a slash. Exact patterns match themselves; a pattern that ends
//! in a slash owns everything below it, slashes included. The first pattern that fits counts.

mod table;

use std::borrow::Cow;

use lictor_catalog::is_printable;

pub(crate) use self::table::{Endpoint, ROUTES, Route};
use crate::text::{escape_path, unescape};

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Routed<'a> {
    /// To an endpoint, with what follows its pattern.
    Endpoint(&'static Route, Cow<'a, [u8]>),
    /// To the server's root.
    Root,
    /// Elsewhere: the escaped path to use instead.
    Moved(String),
    /// Nowhere.
    Unknown,
    /// Nowhere: it has characters that cannot be printed.
    Unprintable,
    /// Nowhere: a percent-escape is malformed.
    Malformed,
}

/// Finds the endpoint for a path, as it came in the request and without its query. `unprintable`: whether characters
/// that cannot be printed are let through.
pub(crate) fn route(raw: &str, unprintable: bool) -> Routed<'_> {
    let Some(path) = unescape(raw, false) else {
        return Routed::Malformed;
    };
    if !unprintable && !printable(&path) {
        return Routed::Unprintable;
    }
    if let Some(mut cleaned) = cleaned(&path) {
        if lacks_slash(&cleaned) {
            cleaned.push(b'/');
        }
        return Routed::Moved(escape_path(&cleaned));
    }
    if *path == *b"/" {
        return Routed::Root;
    }
    for route in ROUTES {
        let pattern = route.pattern.as_bytes();
        let subtree = pattern.ends_with(b"/");
        if subtree && path.starts_with(pattern) && path.ends_with(route.ending.as_bytes()) {
            let mut rest = match path {
                Cow::Borrowed(path) => Cow::Borrowed(&path[pattern.len()..]),
                Cow::Owned(mut path) => Cow::Owned(path.split_off(pattern.len())),
            };
            // The slash may be the pattern's own; then there is nothing to take off.
            if let Some(end) = rest.len().checked_sub(route.ending.len()) {
                rest = match rest {
                    Cow::Borrowed(rest) => Cow::Borrowed(&rest[..end]),
                    Cow::Owned(mut rest) => {
                        rest.truncate(end);
                        Cow::Owned(rest)
                    }
                };
            }
            return Routed::Endpoint(route, rest);
        }
        if *path == *pattern && route.ending.is_empty() {
            return Routed::Endpoint(route, Cow::Borrowed(b""));
        }
        if pattern.strip_suffix(b"/") == Some(&*path) {
            return Routed::Moved(escape_path(&path) + "/");
        }
    }
    Routed::Unknown
}

/// Whether the path is a subtree's pattern but for the slash at the end.
fn lacks_slash(path: &[u8]) -> bool {
    ROUTES
        .iter()
        .any(|route| route.pattern.as_bytes().strip_suffix(b"/") == Some(path))
}

fn printable(path: &[u8]) -> bool {
    // Bytes that are not UTF-8 are let through: they are the key's own business.
    path.iter().all(|byte| matches!(byte, b' '..=b'~'))
        || path
            .utf8_chunks()
            .all(|chunk| chunk.valid().chars().all(is_printable))
}

/// The path without empty parts, `.` and `..`, if it has such. A slash at the end stays.
fn cleaned(path: &[u8]) -> Option<Vec<u8>> {
    let suspicious = !path.starts_with(b"/") || path.windows(2).any(|pair| pair == b"//" || pair == b"/.");
    if !suspicious {
        return None;
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut cleaned = Vec::with_capacity(path.len() + 1);
    for part in &parts {
        cleaned.push(b'/');
        cleaned.extend_from_slice(part);
    }
    if parts.is_empty() || path.ends_with(b"/") {
        cleaned.push(b'/');
    }
    (cleaned != path).then_some(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn key(raw: &str) -> Vec<u8> {
        let routed = route(raw, false);
        let Routed::Endpoint(
            Route {
                endpoint: Endpoint::Kv,
                ..
            },
            key,
        ) = routed
        else {
            panic!("{raw}: {routed:?}")
        };
        key.into_owned()
    }

    #[test]
    fn keys_are_whatever_follows() {
        for (raw, expected) in [
            ("/v1/kv/foo", &b"foo"[..]),
            ("/v1/kv/", b""),
            ("/v1/kv/a%2Fx%2F1", b"a/x/1"),
            ("/v1/kv/a%20b%2Bc+d%3F", b"a b+c+d?"),
            ("/v1/kv/a/b/", b"a/b/"),
            ("/v1/kv/%C3%A7", "\u{e7}".as_bytes()),
            ("/v1/kv/%ff", b"\xff"),
            ("/v1/kv/tf/state-env:stage", b"tf/state-env:stage"),
            ("/v1/kv/.lock", b".lock"),
            ("/v1/kv/a/.lock/..b/...", b"a/.lock/..b/..."),
            ("/%76%31/kv/a", b"a"),
        ] {
            assert_eq!(key(raw), expected, "{raw}");
        }
    }

    #[test]
    fn paths_that_are_not_clean_move() {
        for (raw, expected) in [
            ("/v1/kv", "/v1/kv/"),
            ("/v1/agent/join", "/v1/agent/join/"),
            ("/v1/agent/service", "/v1/agent/service/"),
            ("/v1/agent/service/deregister", "/v1/agent/service/deregister/"),
            ("/v1//agent/service/deregister", "/v1/agent/service/deregister/"),
            ("/v1/coordinate/node", "/v1/coordinate/node/"),
            ("/v1/event/fire//a", "/v1/event/fire/a"),
            ("/v1/kv//a%20b%3Fc%2Fd/%3C", "/v1/kv/a%20b%3Fc/d/%3C"),
            ("/v1/kv/%2Fabs", "/v1/kv/abs"),
            ("/v1/kv/a/../b/", "/v1/kv/b/"),
            ("/v1/kv/./a", "/v1/kv/a"),
            ("/v1/kv/a/..", "/v1/kv/"),
            ("/v1//kv/a/../", "/v1/kv/"),
            ("/v1/kv/../x", "/v1/x"),
            ("/x/..", "/"),
            ("/../../v1/kv/a", "/v1/kv/a"),
            ("*", "/%2A"),
        ] {
            assert_eq!(route(raw, false), Routed::Moved(expected.to_owned()), "{raw}");
        }
    }

    #[test]
    fn what_leads_nowhere() {
        for raw in [
            "/v1/nope",
            "/V1/kv/x",
            "/v1/KV/x",
            "/v1/txn/",
            "/v1/status/leader/",
            "/v1/status",
            "/v1/agent/self/",
            "/v1/coordinate/datacenters/",
            "/v1/operator/raft",
            "/v1/txnx",
            "/v1/agent/health/service/",
            "/v1/agent/check/",
        ] {
            assert_eq!(route(raw, false), Routed::Unknown, "{raw}");
        }
        for raw in [
            "/v1/kv/%00",
            "/v1/kv/a%0a",
            "/v1/nope%01",
            "/v1/kv/%e2%80%8b",
            "/%7f",
        ] {
            assert_eq!(route(raw, false), Routed::Unprintable, "{raw}");
        }
        assert!(matches!(route("/v1/kv/%01", true), Routed::Endpoint(_, key) if *key == *b"\x01"));
        for raw in ["/v1/kv/%zz", "/v1/kv/%", "/v1/kv/%4"] {
            assert_eq!(route(raw, false), Routed::Malformed, "{raw}");
        }
        assert_eq!(route("/", false), Routed::Root);
    }

    #[test]
    fn every_pattern_leads_to_its_own_endpoint() {
        for expected in ROUTES {
            let argument = if expected.pattern.ends_with('/') {
                "a/b"
            } else {
                ""
            };
            let path = format!("{}{argument}{}", expected.pattern, expected.ending);
            let Routed::Endpoint(found, rest) = route(&path, false) else {
                panic!("{path}")
            };
            assert_eq!((found, &rest[..]), (expected, argument.as_bytes()));
        }
    }

    #[test]
    fn names_of_their_own_are_no_arguments() {
        let endpoint = |path| {
            let Routed::Endpoint(route, rest) = route(path, false) else {
                panic!("{path}")
            };
            (route.endpoint, rest)
        };
        for (path, expected, rest) in [
            ("/v1/agent/service/register", Endpoint::RegisterService, ""),
            ("/v1/agent/service/register/", Endpoint::LocalService, "register/"),
            ("/v1/agent/service/deregister/a", Endpoint::DeregisterService, "a"),
            ("/v1/connect/intentions/match", Endpoint::IntentionMatch, ""),
            ("/v1/connect/intentions/x", Endpoint::Intention, "x"),
            ("/v1/connect/intentions", Endpoint::Intentions, ""),
            ("/v1/query/a/b/execute", Endpoint::QueryExecute, "a/b"),
            ("/v1/query/a%2Fexplain", Endpoint::QueryExplain, "a"),
            ("/v1/query/execute", Endpoint::QueryExecute, "execute"),
            ("/v1/query/execute/", Endpoint::Query, "execute/"),
            ("/v1/query/", Endpoint::Query, ""),
            ("/v1/config", Endpoint::SetConfig, ""),
            ("/v1/config/", Endpoint::Config, ""),
        ] {
            assert_eq!(
                endpoint(path),
                (expected, Cow::Borrowed(rest.as_bytes())),
                "{path}"
            );
        }
    }
}
