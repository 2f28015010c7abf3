//! `/v1/operator/`: the servers, and how they look after themselves.

use lictor_catalog::{Action, Autopilot, AutopilotConfig, Found, Outcome, Query};
use lictor_gossip::MemberState;
use lictor_machine::Index;
use serde::Serialize;
use trillium::{Method, Status};

use crate::backend::ReadOptions;
use crate::decode::{Fields, parse};
use crate::json::to_vec;
use crate::kv::unexpected;
use crate::reply::{Content, Fault, Reply};
use crate::request::Request;
use crate::servers::{RaftServer, ServerHealth, ServerRef};
use crate::text::{format_duration, format_time, parse_uint};

/// The servers in the Raft configuration.
pub(crate) async fn raft_configuration(request: &Request<'_>) -> Result<Reply, Fault> {
    let options = request.read_options()?;
    let servers = request.api.backend.raft_servers(options).await?;
    let view = RaftConfiguration {
        servers: unless_empty(servers.iter().map(RaftServerView::new).collect()),
        index: 0,
    };
    Ok(request.json(&view, 256 * servers.len() + 32))
}

/// Takes a server out of the Raft configuration.
pub(crate) async fn raft_peer(request: &Request<'_>) -> Result<Reply, Fault> {
    let bad = |what: &str| Fault::bad_request(format!("Bad request: {what}"));
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let params = &request.params;
    let server = match (params.get("id"), params.get("address")) {
        (Some(id), None) => ServerRef::Id(text(id)),
        (None, Some(address)) => ServerRef::Address(text(address)),
        (None, None) => {
            return Err(bad(
                "Must specify either ?id with the server's ID or ?address with IP:port of peer to remove",
            ));
        }
        (Some(_), Some(_)) => return Err(bad("Must specify only one of ?id or ?address")),
    };
    let options = params.lenient_write_options(request.headers());
    request.api.backend.remove_raft_server(server, options).await?;
    Ok(Reply::empty())
}

/// The settings of autopilot, or a change of them.
pub(crate) async fn autopilot_configuration(request: &mut Request<'_>) -> Result<Reply, Fault> {
    if request.conn.method() == Method::Put {
        set_autopilot(request).await
    } else {
        autopilot(request).await
    }
}

async fn autopilot(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = ReadOptions {
        min_index: Index::ZERO,
        ..request.read_options()?
    };
    let Found::Autopilot(found) = request.read(Query::Autopilot, options).await?.value else {
        return Err(unexpected());
    };
    Ok(request.json(&AutopilotView::new(&found), 512))
}

async fn set_autopilot(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let bad = |what: String| Fault::bad_request(format!("Bad request: {what}"));
    let body = request.small_body().await?;
    let config =
        parse_autopilot(&body).map_err(|error| bad(format!("Error parsing autopilot config: {error}")))?;
    let cas = request.params.get("cas").map(parse_uint).transpose();
    let cas = cas.map_err(|error| bad(format!("Error parsing cas value: {error}")))?;
    let options = request.params.lenient_write_options(request.headers());
    let action = Action::SetAutopilot {
        config,
        cas: cas.map(Index),
    };
    match request.write(action, options).await? {
        Outcome::Done(done) => Ok(request.json(&done, 5)),
        Outcome::Refused(why) => Err(Fault::internal(why)),
        Outcome::Txn(_) | Outcome::Session(_) | Outcome::Prepared(_) => Err(unexpected()),
    }
}

/// The settings in a body. What is not there is 0, false or empty.
fn parse_autopilot(body: &[u8]) -> Result<AutopilotConfig, String> {
    let place = "value of type api.AutopilotConfiguration";
    let mut fields = Fields::new(parse(body)?, "AutopilotConfiguration", place)?;
    let config = AutopilotConfig {
        cleanup_dead_servers: fields.bool("CleanupDeadServers")?,
        last_contact_threshold: fields.duration("LastContactThreshold")?,
        max_trailing_logs: fields.uint("MaxTrailingLogs")?,
        min_quorum: fields.unsigned("MinQuorum", "uint")?,
        server_stabilization_time: fields.duration("ServerStabilizationTime")?,
        redundancy_zone_tag: fields.string("RedundancyZoneTag", "string")?,
        disable_upgrade_migration: fields.bool("DisableUpgradeMigration")?,
        upgrade_version_tag: fields.string("UpgradeVersionTag", "string")?,
    };
    // Clients send back what they got; which version they change is said elsewhere.
    fields.uint("CreateIndex")?;
    fields.uint("ModifyIndex")?;
    fields.finish()?;
    config.check()?;
    Ok(config)
}

/// How the servers are.
pub(crate) async fn autopilot_health(request: &Request<'_>) -> Result<Reply, Fault> {
    let options = request.read_options()?;
    let health = request.api.backend.servers_health(options).await?;
    let view = HealthView {
        healthy: health.healthy,
        failure_tolerance: health.failure_tolerance,
        servers: unless_empty(health.servers.iter().map(ServerHealthView::new).collect()),
    };
    let capacity = 512 * health.servers.len() + 64;
    if health.healthy {
        return Ok(request.json(&view, capacity));
    }
    // The same, but for the status, and the type, which has always been this one.
    let body = to_vec(&view, request.pretty(), capacity);
    let text = String::from_utf8_lossy(&body).into_owned();
    Ok(Reply::new(Status::TooManyRequests, Content::Text(text.into())))
}

/// An empty list is `null` in these answers.
fn unless_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RaftConfiguration<'a> {
    servers: Option<Vec<RaftServerView<'a>>>,
    index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RaftServerView<'a> {
    #[serde(rename = "ID")]
    id: String,
    node: &'a str,
    address: String,
    leader: bool,
    protocol_version: &'static str,
    voter: bool,
}

impl<'a> RaftServerView<'a> {
    fn new(server: &'a RaftServer) -> Self {
        Self {
            id: server.id.to_string(),
            node: server.name.as_deref().unwrap_or("(unknown)"),
            address: address(server),
            leader: server.leader,
            protocol_version: "3",
            voter: server.voter,
        }
    }
}

fn address(server: &RaftServer) -> String {
    server
        .address
        .map(|address| address.to_string())
        .unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AutopilotView<'a> {
    cleanup_dead_servers: bool,
    last_contact_threshold: String,
    max_trailing_logs: u64,
    min_quorum: u64,
    server_stabilization_time: String,
    redundancy_zone_tag: &'a str,
    disable_upgrade_migration: bool,
    upgrade_version_tag: &'a str,
    create_index: u64,
    modify_index: u64,
}

impl<'a> AutopilotView<'a> {
    fn new(autopilot: &'a Autopilot) -> Self {
        let config = &autopilot.config;
        Self {
            cleanup_dead_servers: config.cleanup_dead_servers,
            last_contact_threshold: format_duration(config.last_contact_threshold),
            max_trailing_logs: config.max_trailing_logs,
            min_quorum: config.min_quorum,
            server_stabilization_time: format_duration(config.server_stabilization_time),
            redundancy_zone_tag: &config.redundancy_zone_tag,
            disable_upgrade_migration: config.disable_upgrade_migration,
            upgrade_version_tag: &config.upgrade_version_tag,
            create_index: autopilot.create_index.0,
            modify_index: autopilot.modify_index.0,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthView<'a> {
    healthy: bool,
    failure_tolerance: u64,
    servers: Option<Vec<ServerHealthView<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServerHealthView<'a> {
    #[serde(rename = "ID")]
    id: String,
    name: &'a str,
    address: String,
    serf_status: &'static str,
    version: &'a str,
    leader: bool,
    last_contact: String,
    last_term: u64,
    last_index: u64,
    healthy: bool,
    voter: bool,
    stable_since: String,
}

impl<'a> ServerHealthView<'a> {
    fn new(health: &'a ServerHealth) -> Self {
        /// A duration that stands for "never": the only one below zero.
        const NEVER: &str = "-1ns";

        let server = &health.server;
        Self {
            id: server.id.to_string(),
            name: server.name.as_deref().unwrap_or("(unknown)"),
            address: address(server),
            serf_status: match health.member {
                Some(MemberState::Alive | MemberState::Suspect) => "alive",
                Some(MemberState::Leaving) => "leaving",
                Some(MemberState::Left) => "left",
                Some(MemberState::Failed) => "failed",
                None => "none",
            },
            version: &health.version,
            leader: server.leader,
            last_contact: health
                .last_contact
                .map_or_else(|| NEVER.to_owned(), format_duration),
            last_term: health.last_term,
            last_index: health.last_index.0,
            healthy: health.healthy,
            voter: server.voter,
            stable_since: format_time(health.stable_since),
        }
    }
}
