//! `/v1/agent/`: this agent, its members, and what they are told to do.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lictor_gossip::{Member, MemberState, Tags};
use serde::Serialize;

use crate::about::{About, CONSUL_VERSION, Settings};
use crate::api::Config;
use crate::coordinate::Position;
use crate::reply::{Fault, Reply};
use crate::request::Request;
use crate::text::format_duration;
use crate::this_agent::Pool;

/// What this agent says of itself.
pub(crate) fn about(request: &Request<'_>) -> Result<Reply, Fault> {
    let about = request.api.agent.about()?;
    let mut meta: BTreeMap<&str, &str> = about
        .meta
        .iter()
        .map(|(name, value)| (&name[..], &value[..]))
        .collect();
    // Every node is in the one network segment that there is, which has no name.
    meta.entry("consul-network-segment").or_default();
    let view = AboutView {
        config: ConfigView {
            datacenter: &about.datacenter,
            node_name: &about.node_name,
            node_id: about.node_id.to_string(),
            revision: "",
            server: about.server,
            version: CONSUL_VERSION,
        },
        debug_config: DebugConfig::new(&about, &request.api.config),
        coord: about.coordinate.as_ref().map(Position::of_member),
        member: MemberView::new(&about.member),
        stats: &about.stats,
        meta,
    };
    Ok(request.json(&view, 8 << 10))
}

/// Who is in a pool.
pub(crate) async fn members(request: &Request<'_>) -> Result<Reply, Fault> {
    let pool = pool(request);
    let segment = request.params.get("segment").unwrap_or_default();
    if !matches!(segment, b"" | b"_all") {
        if pool == Pool::Wan {
            return Err(Fault::bad_request("Cannot provide a segment with wan=true"));
        }
        return Err(Fault::internal(
            "Network segments are not supported in this version of Consul",
        ));
    }
    let Some(mut members) = request.api.agent.members(pool) else {
        return Ok(request.json(&(), 4));
    };
    members.sort_unstable_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let capacity = 600 * members.len();
    Ok(request.large_json(Members(members), capacity).await)
}

/// Joins whoever is at an address.
pub(crate) async fn join(request: &Request<'_>) -> Result<Reply, Fault> {
    let address = request.rest_text();
    request.api.agent.join(pool(request), &address).await?;
    Ok(Reply::empty())
}

/// Leaves, and answers when that is done.
pub(crate) async fn leave(request: &Request<'_>) -> Result<Reply, Fault> {
    request.api.agent.leave().await?;
    Ok(Reply::empty())
}

/// Makes a failed member one that left.
pub(crate) async fn force_leave(request: &Request<'_>) -> Result<Reply, Fault> {
    let agent = &request.api.agent;
    let (pool, name) = (pool(request), request.rest_text());
    let members = agent.members(pool).unwrap_or_default();
    if !members.iter().any(|member| member.name == name) {
        return Err(Fault::internal(format!(
            "agent: No node found with name '{name}'"
        )));
    }
    let prune = request.params.has("prune");
    agent.force_leave(pool, &name, prune).await?;
    Ok(Reply::empty())
}

/// The pool that a request is about. A `wan` without a value does not count.
fn pool(request: &Request<'_>) -> Pool {
    if request.params.text("wan").is_some() {
        Pool::Wan
    } else {
        Pool::Lan
    }
}

/// An agent as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AboutView<'a> {
    config: ConfigView<'a>,
    debug_config: DebugConfig<'a>,
    coord: Option<Position<'a>>,
    member: MemberView<'a>,
    stats: &'a BTreeMap<String, BTreeMap<String, String>>,
    meta: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigView<'a> {
    datacenter: &'a str,
    node_name: &'a str,
    #[serde(rename = "NodeID")]
    node_id: String,
    revision: &'static str,
    server: bool,
    version: &'static str,
}

/// Members as JSON.
struct Members(Vec<std::sync::Arc<Member>>);

impl Serialize for Members {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|member| MemberView::new(member)))
    }
}

/// A member as JSON. The versions are those of the protocol that clients of the API expect to read; nothing depends on them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MemberView<'a> {
    name: &'a str,
    addr: String,
    port: u16,
    tags: &'a Tags,
    status: u8,
    protocol_min: u8,
    protocol_max: u8,
    protocol_cur: u8,
    delegate_min: u8,
    delegate_max: u8,
    delegate_cur: u8,
}

impl<'a> MemberView<'a> {
    fn new(member: &'a Member) -> Self {
        Self {
            name: &member.name,
            addr: member.address.ip().to_string(),
            port: member.address.port(),
            tags: &member.tags,
            status: match member.state {
                // Whether a suspect is dead will soon be known; until then it is not.
                MemberState::Alive | MemberState::Suspect => 1,
                MemberState::Leaving => 2,
                MemberState::Left => 3,
                MemberState::Failed => 4,
            },
            protocol_min: 1,
            protocol_max: 5,
            protocol_cur: 2,
            delegate_min: 2,
            delegate_max: 5,
            delegate_cur: 4,
        }
    }
}

/// The settings by the names that Consul's have, in order of their names. A part of those that Consul tells: what has no meaning here is
/// not there.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DebugConfig<'a> {
    #[serde(rename = "AdvertiseAddrLAN")]
    advertise_addr_lan: String,
    #[serde(rename = "AdvertiseAddrWAN")]
    advertise_addr_wan: String,
    bind_addr: String,
    bootstrap_expect: u32,
    client_addrs: Vec<String>,
    #[serde(rename = "DNSAddrs")]
    dns_addrs: Vec<String>,
    #[serde(rename = "DNSPort")]
    dns_port: i32,
    data_dir: String,
    datacenter: &'a str,
    dev_mode: bool,
    disable_coordinates: bool,
    disable_remote_exec: bool,
    encrypt_key: &'static str,
    #[serde(rename = "GRPCAddrs")]
    grpc_addrs: [String; 0],
    #[serde(rename = "GRPCPort")]
    grpc_port: i32,
    #[serde(rename = "HTTPAddrs")]
    http_addrs: Vec<String>,
    #[serde(rename = "HTTPMaxConnsPerClient")]
    http_max_conns_per_client: usize,
    #[serde(rename = "HTTPPort")]
    http_port: i32,
    #[serde(rename = "HTTPSAddrs")]
    https_addrs: Vec<String>,
    #[serde(rename = "HTTPSPort")]
    https_port: i32,
    #[serde(rename = "KVMaxValueSize")]
    kv_max_value_size: usize,
    leave_on_term: bool,
    logging: Logging<'a>,
    #[serde(rename = "NodeID")]
    node_id: String,
    node_meta: &'a BTreeMap<String, String>,
    node_name: &'a str,
    primary_datacenter: &'a str,
    #[serde(rename = "RPCAdvertiseAddr")]
    rpc_advertise_addr: String,
    #[serde(rename = "RPCBindAddr")]
    rpc_bind_addr: String,
    rejoin_after_leave: bool,
    #[serde(rename = "RetryJoinIntervalLAN")]
    retry_join_interval_lan: String,
    #[serde(rename = "RetryJoinIntervalWAN")]
    retry_join_interval_wan: String,
    #[serde(rename = "RetryJoinLAN")]
    retry_join_lan: &'a [String],
    #[serde(rename = "RetryJoinWAN")]
    retry_join_wan: &'a [String],
    revision: &'static str,
    #[serde(rename = "SerfPortLAN")]
    serf_port_lan: i32,
    #[serde(rename = "SerfPortWAN")]
    serf_port_wan: i32,
    server_mode: bool,
    server_port: i32,
    skip_leave_on_int: bool,
    tagged_addresses: BTreeMap<&'static str, String>,
    txn_max_req_len: usize,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Logging<'a> {
    log_level: &'a str,
}

impl<'a> DebugConfig<'a> {
    fn new(about: &'a About, api: &Config) -> Self {
        /// What stands for a port that is not open.
        const CLOSED: i32 = -1;

        let settings: &Settings = &about.settings;
        let ip = |address: Option<SocketAddr>| address.map(|address| address.ip().to_string());
        let tcp = |address: &SocketAddr| format!("tcp://{address}");
        let port =
            |addresses: &[SocketAddr]| addresses.first().map_or(CLOSED, |first| i32::from(first.port()));
        let lan = settings.advertise.or(settings.bind);
        let wan = settings.advertise_wan.or(lan);
        let gossip_port = lan.map_or(CLOSED, |address| i32::from(address.port()));
        let mut clients: Vec<String> = [&settings.http, &settings.https, &settings.dns]
            .into_iter()
            .flatten()
            .map(|address| address.ip().to_string())
            .collect();
        clients.sort_unstable();
        clients.dedup();
        let mut tagged = BTreeMap::new();
        for (address, name, name_v4) in [(lan, "lan", "lan_ipv4"), (wan, "wan", "wan_ipv4")] {
            let Some(address) = address else { continue };
            tagged.insert(name, address.ip().to_string());
            if address.is_ipv4() {
                tagged.insert(name_v4, address.ip().to_string());
            }
        }
        Self {
            advertise_addr_lan: ip(lan).unwrap_or_default(),
            advertise_addr_wan: ip(wan).unwrap_or_default(),
            bind_addr: ip(settings.bind).unwrap_or_default(),
            bootstrap_expect: settings.bootstrap_expect,
            client_addrs: clients,
            dns_addrs: (settings.dns.iter())
                .flat_map(|address| [tcp(address), format!("udp://{address}")])
                .collect(),
            dns_port: port(&settings.dns),
            data_dir: settings
                .data_dir
                .as_ref()
                .map_or_else(String::new, |path| path.display().to_string()),
            datacenter: &about.datacenter,
            dev_mode: settings.dev_mode,
            disable_coordinates: settings.disable_coordinates,
            disable_remote_exec: settings.disable_remote_exec,
            encrypt_key: "hidden",
            grpc_addrs: [],
            grpc_port: CLOSED,
            http_addrs: settings.http.iter().map(tcp).collect(),
            http_max_conns_per_client: api.limits.connections_per_client,
            http_port: port(&settings.http),
            https_addrs: settings.https.iter().map(tcp).collect(),
            https_port: port(&settings.https),
            kv_max_value_size: api.kv_max_value_size,
            leave_on_term: settings.leave_on_terminate,
            logging: Logging {
                log_level: &settings.log_level,
            },
            node_id: about.node_id.to_string(),
            node_meta: &about.meta,
            node_name: &about.node_name,
            primary_datacenter: &settings.primary_datacenter,
            rpc_advertise_addr: lan.as_ref().map(tcp).unwrap_or_default(),
            rpc_bind_addr: settings.bind.as_ref().map(tcp).unwrap_or_default(),
            rejoin_after_leave: settings.rejoin_after_leave,
            retry_join_interval_lan: format_duration(settings.retry_join_interval),
            retry_join_interval_wan: format_duration(settings.retry_join_wan_interval),
            retry_join_lan: &settings.retry_join,
            retry_join_wan: &settings.retry_join_wan,
            revision: "",
            serf_port_lan: gossip_port,
            serf_port_wan: if about.server { gossip_port } else { CLOSED },
            server_mode: about.server,
            server_port: gossip_port,
            skip_leave_on_int: settings.skip_leave_on_interrupt,
            tagged_addresses: tagged,
            txn_max_req_len: api.txn_max_req_len,
            version: CONSUL_VERSION,
        }
    }
}
