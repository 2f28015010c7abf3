//! What the configuration means for each part of the agent.

use std::net::SocketAddr;

use lictor_catalog::AutopilotConfig;
use lictor_machine::NodeId;

use crate::boot::{self, StartError};
use crate::config::{Bootstrap, Config, Join, Telemetry};
use crate::rpc::caller::Patience;
use crate::snapshot::Archives;

/// What the server within the agent is to do.
pub(crate) fn node(config: &Config, id: NodeId) -> Result<lictor_node::Config, StartError> {
    let seed = u128::from_le_bytes(boot::random()?);
    let mut node = lictor_node::Config::new(id, config.node_name.clone(), config.advertise, seed);
    node.expect = match config.bootstrap {
        Bootstrap::Join => 0,
        Bootstrap::Alone => 1,
        Bootstrap::Expect(servers) => servers,
    };
    node.hold = config.raft.rpc_hold_timeout;
    node.trailing_entries = config.raft.trailing_logs;
    node.raft = node.raft.stretched(config.raft.multiplier);
    node.autopilot = AutopilotConfig {
        cleanup_dead_servers: config.autopilot.cleanup_dead_servers,
        last_contact_threshold: config.autopilot.last_contact_threshold,
        max_trailing_logs: config.autopilot.max_trailing_logs,
        min_quorum: config.autopilot.min_quorum,
        server_stabilization_time: config.autopilot.server_stabilization_time,
        ..AutopilotConfig::default()
    };
    Ok(node)
}

/// How long servers may take, if they are configured as this agent is.
pub(crate) fn patience(config: &Config) -> Patience {
    let raft = lictor_raft::Config::lan(NodeId(0), 0).stretched(config.raft.multiplier);
    Patience::new(config.raft.rpc_hold_timeout, raft.election_timeout)
}

/// How the API is to answer.
pub(crate) fn api(config: &Config) -> Result<lictor_http::Config, StartError> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Ok(lictor_http::Config {
        always_pretty: config.dev,
        allow_unprintable: config.http.allow_unprintable_paths,
        kv_max_value_size: size(config.http.kv_max_value_size),
        txn_max_req_len: size(config.http.txn_max_request),
        default_query_time: config.http.default_query_time,
        session_ttl_min: config.http.session_ttl_min,
        max_query_time: config.http.max_query_time,
        response_headers: config.http.response_headers.clone(),
        coordinates: config.coordinates,
        limits: http_limits(config),
        prometheus: !config.telemetry.prometheus_retention.is_zero(),
        metric_names: metric_names(&config.telemetry),
        seed: u64::from_le_bytes(boot::random()?),
        ..lictor_http::Config::default()
    })
}

/// What clients of the API may take at once.
pub(crate) fn http_limits(config: &Config) -> lictor_http::Limits {
    let http = &config.http;
    let per_client = http.max_connections_per_client.map(|limit| limit as usize);
    // There 0 is no limit.
    let or_none = |limit: Option<usize>| limit.unwrap_or(0);
    lictor_http::Limits {
        connections_per_client: or_none(per_client),
        connections: or_none(http.max_connections.map(|limit| limit.max(or_none(per_client)))),
        requests: or_none(http.max_requests),
        blocking_queries: or_none(http.max_blocking_queries),
        body_bytes: or_none(http.max_body_bytes),
        answer_bytes: or_none(http.max_answer_bytes),
        ..lictor_http::Limits::default()
    }
}

/// Where archives are kept until they have been checked, and how large they may be.
pub(crate) fn archives(config: &Config, id: NodeId) -> Archives {
    let command_bytes_max = lictor_node::Config::new(id, "", config.advertise, 0).command_bytes_max;
    Archives::new(config.data_dir.clone(), config.snapshots, command_bytes_max)
}

/// What the API tells of the configuration.
pub(crate) fn shown(config: &Config, http: &[SocketAddr], dns: &[SocketAddr]) -> lictor_http::Settings {
    let shown = |join: &Join| join.addresses.iter().map(ToString::to_string).collect();
    let wan = config.wan.as_ref().map(|wan| &wan.join);
    lictor_http::Settings {
        advertise: Some(config.advertise),
        advertise_wan: Some(config.advertise_wan),
        bind: Some(config.bind),
        http: http.to_vec(),
        dns: dns.to_vec(),
        bootstrap_expect: match config.bootstrap {
            Bootstrap::Join => 0,
            Bootstrap::Alone => 1,
            Bootstrap::Expect(servers) => servers,
        },
        data_dir: config.data_dir.clone(),
        dev_mode: config.dev,
        disable_coordinates: !config.coordinates,
        disable_remote_exec: !config.remote_exec,
        leave_on_terminate: config.leave.on_terminate,
        skip_leave_on_interrupt: !config.leave.on_interrupt,
        rejoin_after_leave: config.gossip.rejoin_after_leave,
        log_level: format!("{:?}", config.log.level).to_uppercase(),
        primary_datacenter: config.primary_datacenter.clone(),
        retry_join: shown(&config.join),
        retry_join_interval: config.join.interval,
        retry_join_wan: wan.map(shown).unwrap_or_default(),
        retry_join_wan_interval: wan.map(|join| join.interval).unwrap_or_default(),
        ..lictor_http::Settings::default()
    }
}

fn metric_names(telemetry: &Telemetry) -> lictor_http::MetricNames {
    let Telemetry {
        prometheus_retention: _,
        disable_hostname,
        prefix,
        allowed_prefixes,
        blocked_prefixes,
        filter_default,
    } = telemetry.clone();
    let hostname = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    lictor_http::MetricNames {
        prefix,
        hostname: (!disable_hostname).then(hostname),
        allowed: allowed_prefixes,
        blocked: blocked_prefixes,
        others: filter_default,
    }
}
