//! From a request's path to its endpoint.
//!
//! A path is decoded before it is looked at, so `%2F` is a slash. Exact patterns match themselves; a pattern that ends
//! in a slash owns everything below it, slashes included. The first pattern that fits counts.

use std::borrow::Cow;

use lictor_catalog::is_printable;
use trillium::Method;

use crate::text::{escape_path, unescape};

/// Something that answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v1/kv/KEY`
    Kv,
    /// `/v1/txn`
    Txn,
    /// `/v1/status/leader`
    Leader,
    /// `/v1/status/peers`
    Peers,
    /// `/v1/agent/self`
    About,
    /// `/v1/agent/members`
    Members,
    /// `/v1/agent/metrics`
    Metrics,
    /// `/v1/agent/monitor`
    Monitor,
    /// `/v1/agent/host`
    Host,
    /// `/v1/agent/join/ADDRESS`
    Join,
    /// `/v1/agent/leave`
    Leave,
    /// `/v1/agent/force-leave/NODE`
    ForceLeave,
    /// `/v1/session/create`
    SessionCreate,
    /// `/v1/session/destroy/SESSION`
    SessionDestroy,
    /// `/v1/session/renew/SESSION`
    SessionRenew,
    /// `/v1/session/info/SESSION`
    SessionInfo,
    /// `/v1/session/node/NODE`
    SessionNode,
    /// `/v1/session/list`
    SessionList,
    /// `/v1/query`
    Queries,
    /// `/v1/query/ID`
    Query,
    /// `/v1/query/NAME/execute`
    QueryExecute,
    /// `/v1/query/NAME/explain`
    QueryExplain,
    /// `/v1/event/fire/NAME`
    EventFire,
    /// `/v1/event/list`
    EventList,
    /// `/v1/snapshot`
    Snapshot,
    /// `/v1/coordinate/datacenters`
    CoordinateDatacenters,
    /// `/v1/coordinate/nodes`
    CoordinateNodes,
    /// `/v1/coordinate/node/NODE`
    CoordinateNode,
    /// `/v1/coordinate/update`
    CoordinateUpdate,
    /// `/v1/operator/raft/configuration`
    RaftConfiguration,
    /// `/v1/operator/raft/peer`
    RaftPeer,
    /// `/v1/operator/autopilot/configuration`
    AutopilotConfiguration,
    /// `/v1/operator/autopilot/health`
    AutopilotHealth,
    /// `/v1/catalog/datacenters`
    Datacenters,
    /// `/v1/catalog/register`
    CatalogRegister,
    /// `/v1/catalog/deregister`
    CatalogDeregister,
    /// `/v1/catalog/nodes`
    CatalogNodes,
    /// `/v1/catalog/services`
    CatalogServices,
    /// `/v1/catalog/service/SERVICE`
    CatalogService,
    /// `/v1/catalog/connect/SERVICE`
    CatalogConnect,
    /// `/v1/catalog/node/NODE`
    CatalogNode,
    /// `/v1/catalog/node-services/NODE`
    CatalogNodeServices,
    /// `/v1/catalog/gateway-services/GATEWAY`
    CatalogGatewayServices,
    /// `/v1/health/node/NODE`
    HealthNode,
    /// `/v1/health/checks/SERVICE`
    HealthChecks,
    /// `/v1/health/state/STATE`
    HealthState,
    /// `/v1/health/service/SERVICE`
    HealthService,
    /// `/v1/health/connect/SERVICE`
    HealthConnect,
    /// `/v1/health/ingress/SERVICE`
    HealthIngress,
    /// `/v1/internal/ui/nodes`
    UiNodes,
    /// `/v1/internal/ui/node/NODE`
    UiNode,
    /// `/v1/internal/ui/services`
    UiServices,
    /// `/v1/internal/ui/gateway-services-nodes/GATEWAY`
    UiGatewayServices,
    /// `/v1/agent/services`
    LocalServices,
    /// `/v1/agent/checks`
    LocalChecks,
    /// `/v1/agent/service/ID`
    LocalService,
    /// `/v1/agent/service/register`
    RegisterService,
    /// `/v1/agent/service/deregister/ID`
    DeregisterService,
    /// `/v1/agent/service/maintenance/ID`
    ServiceMaintenance,
    /// `/v1/agent/check/register`
    RegisterCheck,
    /// `/v1/agent/check/deregister/ID`
    DeregisterCheck,
    /// `/v1/agent/check/pass/ID`
    PassCheck,
    /// `/v1/agent/check/warn/ID`
    WarnCheck,
    /// `/v1/agent/check/fail/ID`
    FailCheck,
    /// `/v1/agent/check/update/ID`
    UpdateCheck,
    /// `/v1/agent/health/service/id/ID`
    LocalHealthById,
    /// `/v1/agent/health/service/name/SERVICE`
    LocalHealthByName,
    /// `/v1/agent/maintenance`
    Maintenance,
    /// `/v1/agent/reload`
    Reload,
    /// `/v1/agent/connect/ca/`: `roots` and `leaf/SERVICE`
    AgentCertificates,
    /// `/v1/agent/connect/authorize`
    Authorize,
    /// `/v1/connect/ca/roots`
    Certificates,
    /// `/v1/connect/ca/configuration`
    Authority,
    /// `/v1/connect/intentions`
    Intentions,
    /// `/v1/connect/intentions/match`
    IntentionMatch,
    /// `/v1/connect/intentions/check`
    IntentionCheck,
    /// `/v1/connect/intentions/ID`
    Intention,
    /// `/v1/config`
    SetConfig,
    /// `/v1/config/KIND/NAME`
    Config,
    /// `/v1/discovery-chain/SERVICE`
    DiscoveryChain,
    /// `/v1/acl/` and `/v1/agent/token/`: all of it; and `/v1/internal/acl/authorize`
    Acl,
}

/// An endpoint's place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) pattern: &'static str,
    /// What the path must end with, if the pattern owns all below it; not part of what it is asked for. Empty: with anything.
    pub(crate) ending: &'static str,
    pub(crate) endpoint: Endpoint,
    pub(crate) methods: &'static [Method],
    /// The same methods as the `Allow` header gives them.
    pub(crate) allow: &'static str,
}

/// Methods, and how the `Allow` header gives them.
type Methods = (&'static [Method], &'static str);

const GET: Methods = (&[Method::Get], "OPTIONS,GET");
const PUT: Methods = (&[Method::Put], "OPTIONS,PUT");
const DELETE: Methods = (&[Method::Delete], "OPTIONS,DELETE");
const POST: Methods = (&[Method::Post], "OPTIONS,POST");
const GET_POST: Methods = (&[Method::Get, Method::Post], "OPTIONS,GET,POST");
const GET_DELETE: Methods = (&[Method::Get, Method::Delete], "OPTIONS,GET,DELETE");
const GET_PUT: Methods = (&[Method::Get, Method::Put], "OPTIONS,GET,PUT");
const GET_PUT_DELETE: Methods = (
    &[Method::Get, Method::Put, Method::Delete],
    "OPTIONS,GET,PUT,DELETE",
);

impl Route {
    const fn new(pattern: &'static str, endpoint: Endpoint, (methods, allow): Methods) -> Self {
        Self {
            pattern,
            ending: "",
            endpoint,
            methods,
            allow,
        }
    }

    const fn ending(self, ending: &'static str) -> Self {
        Self { ending, ..self }
    }

    /// The `Allow` header for a method that the path does not take. Prepared queries do not name `OPTIONS` there, for historical reasons.
    pub(crate) fn allow_of_others(&self) -> &'static str {
        let prepared = matches!(
            self.endpoint,
            Endpoint::Query | Endpoint::QueryExecute | Endpoint::QueryExplain
        );
        if prepared {
            return self.allow.trim_start_matches("OPTIONS,");
        }
        self.allow
    }
}

pub(crate) static ROUTES: &[Route] = &[
    Route::new("/v1/kv/", Endpoint::Kv, GET_PUT_DELETE),
    Route::new("/v1/txn", Endpoint::Txn, PUT),
    Route::new("/v1/status/leader", Endpoint::Leader, GET),
    Route::new("/v1/status/peers", Endpoint::Peers, GET),
    Route::new("/v1/agent/self", Endpoint::About, GET),
    Route::new("/v1/agent/members", Endpoint::Members, GET),
    Route::new("/v1/agent/metrics", Endpoint::Metrics, GET),
    Route::new("/v1/agent/monitor", Endpoint::Monitor, GET),
    Route::new("/v1/agent/host", Endpoint::Host, GET),
    Route::new("/v1/agent/join/", Endpoint::Join, PUT),
    Route::new("/v1/agent/leave", Endpoint::Leave, PUT),
    Route::new("/v1/agent/force-leave/", Endpoint::ForceLeave, PUT),
    Route::new("/v1/session/create", Endpoint::SessionCreate, PUT),
    Route::new("/v1/session/destroy/", Endpoint::SessionDestroy, PUT),
    Route::new("/v1/session/renew/", Endpoint::SessionRenew, PUT),
    Route::new("/v1/session/info/", Endpoint::SessionInfo, GET),
    Route::new("/v1/session/node/", Endpoint::SessionNode, GET),
    Route::new("/v1/session/list", Endpoint::SessionList, GET),
    Route::new("/v1/query", Endpoint::Queries, GET_POST),
    Route::new("/v1/query/", Endpoint::QueryExecute, GET).ending("/execute"),
    Route::new("/v1/query/", Endpoint::QueryExplain, GET).ending("/explain"),
    Route::new("/v1/query/", Endpoint::Query, GET_PUT_DELETE),
    Route::new("/v1/event/fire/", Endpoint::EventFire, PUT),
    Route::new("/v1/event/list", Endpoint::EventList, GET),
    Route::new("/v1/snapshot", Endpoint::Snapshot, GET_PUT),
    Route::new("/v1/coordinate/datacenters", Endpoint::CoordinateDatacenters, GET),
    Route::new("/v1/coordinate/nodes", Endpoint::CoordinateNodes, GET),
    Route::new("/v1/coordinate/node/", Endpoint::CoordinateNode, GET),
    Route::new("/v1/coordinate/update", Endpoint::CoordinateUpdate, PUT),
    Route::new(
        "/v1/operator/raft/configuration",
        Endpoint::RaftConfiguration,
        GET,
    ),
    Route::new("/v1/operator/raft/peer", Endpoint::RaftPeer, DELETE),
    Route::new(
        "/v1/operator/autopilot/configuration",
        Endpoint::AutopilotConfiguration,
        GET_PUT,
    ),
    Route::new("/v1/operator/autopilot/health", Endpoint::AutopilotHealth, GET),
    Route::new("/v1/catalog/datacenters", Endpoint::Datacenters, GET),
    Route::new("/v1/catalog/register", Endpoint::CatalogRegister, PUT),
    Route::new("/v1/catalog/deregister", Endpoint::CatalogDeregister, PUT),
    Route::new("/v1/catalog/nodes", Endpoint::CatalogNodes, GET),
    Route::new("/v1/catalog/services", Endpoint::CatalogServices, GET),
    Route::new("/v1/catalog/service/", Endpoint::CatalogService, GET),
    Route::new("/v1/catalog/connect/", Endpoint::CatalogConnect, GET),
    Route::new("/v1/catalog/node/", Endpoint::CatalogNode, GET),
    Route::new("/v1/catalog/node-services/", Endpoint::CatalogNodeServices, GET),
    Route::new(
        "/v1/catalog/gateway-services/",
        Endpoint::CatalogGatewayServices,
        GET,
    ),
    Route::new("/v1/health/node/", Endpoint::HealthNode, GET),
    Route::new("/v1/health/checks/", Endpoint::HealthChecks, GET),
    Route::new("/v1/health/state/", Endpoint::HealthState, GET),
    Route::new("/v1/health/service/", Endpoint::HealthService, GET),
    Route::new("/v1/health/connect/", Endpoint::HealthConnect, GET),
    Route::new("/v1/health/ingress/", Endpoint::HealthIngress, GET),
    Route::new("/v1/internal/ui/nodes", Endpoint::UiNodes, GET),
    Route::new("/v1/internal/ui/node/", Endpoint::UiNode, GET),
    Route::new("/v1/internal/ui/services", Endpoint::UiServices, GET),
    Route::new(
        "/v1/internal/ui/gateway-services-nodes/",
        Endpoint::UiGatewayServices,
        GET,
    ),
    Route::new("/v1/agent/services", Endpoint::LocalServices, GET),
    Route::new("/v1/agent/checks", Endpoint::LocalChecks, GET),
    Route::new("/v1/agent/service/register", Endpoint::RegisterService, PUT),
    Route::new("/v1/agent/service/deregister/", Endpoint::DeregisterService, PUT),
    Route::new(
        "/v1/agent/service/maintenance/",
        Endpoint::ServiceMaintenance,
        PUT,
    ),
    Route::new("/v1/agent/service/", Endpoint::LocalService, GET),
    Route::new("/v1/agent/check/register", Endpoint::RegisterCheck, PUT),
    Route::new("/v1/agent/check/deregister/", Endpoint::DeregisterCheck, PUT),
    Route::new("/v1/agent/check/pass/", Endpoint::PassCheck, PUT),
    Route::new("/v1/agent/check/warn/", Endpoint::WarnCheck, PUT),
    Route::new("/v1/agent/check/fail/", Endpoint::FailCheck, PUT),
    Route::new("/v1/agent/check/update/", Endpoint::UpdateCheck, PUT),
    Route::new("/v1/agent/health/service/id/", Endpoint::LocalHealthById, GET),
    Route::new("/v1/agent/health/service/name/", Endpoint::LocalHealthByName, GET),
    Route::new("/v1/agent/maintenance", Endpoint::Maintenance, PUT),
    Route::new("/v1/agent/reload", Endpoint::Reload, PUT),
    Route::new("/v1/agent/connect/ca/roots", Endpoint::AgentCertificates, GET),
    Route::new("/v1/agent/connect/ca/leaf/", Endpoint::AgentCertificates, GET),
    Route::new("/v1/agent/connect/authorize", Endpoint::Authorize, POST),
    Route::new("/v1/agent/token/", Endpoint::Acl, PUT),
    Route::new("/v1/connect/ca/roots", Endpoint::Certificates, GET),
    Route::new("/v1/connect/ca/configuration", Endpoint::Authority, GET_PUT),
    Route::new("/v1/connect/intentions", Endpoint::Intentions, GET_POST),
    Route::new("/v1/connect/intentions/match", Endpoint::IntentionMatch, GET),
    Route::new("/v1/connect/intentions/check", Endpoint::IntentionCheck, GET),
    Route::new("/v1/connect/intentions/", Endpoint::Intention, GET_PUT_DELETE),
    Route::new("/v1/config", Endpoint::SetConfig, PUT),
    Route::new("/v1/config/", Endpoint::Config, GET_DELETE),
    Route::new("/v1/discovery-chain/", Endpoint::DiscoveryChain, GET_POST),
    Route::new("/v1/internal/acl/authorize", Endpoint::Acl, POST),
    Route::new("/v1/acl/bootstrap", Endpoint::Acl, PUT),
    Route::new("/v1/acl/login", Endpoint::Acl, POST),
    Route::new("/v1/acl/logout", Endpoint::Acl, POST),
    Route::new("/v1/acl/replication", Endpoint::Acl, GET),
    Route::new("/v1/acl/policies", Endpoint::Acl, GET),
    Route::new("/v1/acl/policy", Endpoint::Acl, PUT),
    Route::new("/v1/acl/policy/name/", Endpoint::Acl, GET),
    Route::new("/v1/acl/policy/", Endpoint::Acl, GET_PUT_DELETE),
    Route::new("/v1/acl/roles", Endpoint::Acl, GET),
    Route::new("/v1/acl/role", Endpoint::Acl, PUT),
    Route::new("/v1/acl/role/name/", Endpoint::Acl, GET),
    Route::new("/v1/acl/role/", Endpoint::Acl, GET_PUT_DELETE),
    Route::new("/v1/acl/binding-rules", Endpoint::Acl, GET),
    Route::new("/v1/acl/binding-rule", Endpoint::Acl, PUT),
    Route::new("/v1/acl/binding-rule/", Endpoint::Acl, GET_PUT_DELETE),
    Route::new("/v1/acl/auth-methods", Endpoint::Acl, GET),
    Route::new("/v1/acl/auth-method", Endpoint::Acl, PUT),
    Route::new("/v1/acl/auth-method/", Endpoint::Acl, GET_PUT_DELETE),
    Route::new("/v1/acl/rules/translate", Endpoint::Acl, POST),
    Route::new("/v1/acl/rules/translate/", Endpoint::Acl, GET),
    Route::new("/v1/acl/tokens", Endpoint::Acl, GET),
    Route::new("/v1/acl/token", Endpoint::Acl, PUT),
    Route::new("/v1/acl/token/self", Endpoint::Acl, GET),
    Route::new("/v1/acl/token/", Endpoint::Acl, GET_PUT_DELETE),
    Route::new("/v1/acl/create", Endpoint::Acl, PUT),
    Route::new("/v1/acl/update", Endpoint::Acl, PUT),
    Route::new("/v1/acl/destroy/", Endpoint::Acl, PUT),
    Route::new("/v1/acl/info/", Endpoint::Acl, GET),
    Route::new("/v1/acl/clone/", Endpoint::Acl, PUT),
    Route::new("/v1/acl/list", Endpoint::Acl, GET),
];

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

    #[test]
    fn allow_lists_the_methods() {
        for route in ROUTES {
            let names: Vec<&str> = route.methods.iter().map(Method::as_str).collect();
            assert_eq!(route.allow, format!("OPTIONS,{}", names.join(",")));
        }
    }
}
