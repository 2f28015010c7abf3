//! Every endpoint, its place, and the methods that it takes.

use trillium::Method;

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

/// All of them. Those whose pattern another one would own as well come before it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_lists_the_methods() {
        for route in ROUTES {
            let names: Vec<&str> = route.methods.iter().map(Method::as_str).collect();
            assert_eq!(route.allow, format!("OPTIONS,{}", names.join(",")));
        }
    }
}
