//! What the configuration says about pools: whom to join, the timing of gossip, when to leave, autopilot, and what the node
//! says of itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lictor_machine::NodeId;

use super::build::invalid;
use super::error::ConfigError;
use super::parsing::Parsing;
use super::{Autopilot, Gossip, GossipSettings, Join, Leave, Settings, Wan};

const META_PAIRS_MAX: usize = 64;
const META_KEY_MAX: usize = 128;
const META_VALUE_MAX: usize = 512;
/// More would be a mistyped interval, and a load for everybody.
const MULTIPLIER_MAX: i64 = 100;

/// Everything about pools: parsed, and not checked yet.
pub(super) struct Pools {
    lan: Pool,
    wan: Pool,
    drain: Duration,
    last_contact_threshold: Duration,
    server_stabilization_time: Duration,
}

/// Where the settings of a pool come from.
struct Source<'a> {
    names: Names,
    timing: &'a GossipSettings,
    start_join: &'a [String],
    retry_join: &'a [String],
    interval: Option<&'a str>,
    retry_max: Option<i64>,
    reconnect: Option<&'a str>,
    usual: Gossip,
}

/// One pool's settings.
struct Pool {
    names: Names,
    join: Join,
    attempts_max: i64,
    gossip: Gossip,
}

/// How the keys of a pool are called.
struct Names {
    gossip: &'static str,
    interval: &'static str,
    start_join: &'static str,
    retry_join: &'static str,
    retry_max: &'static str,
    reconnect: &'static str,
}

const LAN: Names = Names {
    gossip: "gossip_lan",
    interval: "retry_interval",
    start_join: "start_join",
    retry_join: "retry_join",
    retry_max: "retry_max",
    reconnect: "reconnect_timeout",
};

const WAN: Names = Names {
    gossip: "gossip_wan",
    interval: "retry_interval_wan",
    start_join: "start_join_wan",
    retry_join: "retry_join_wan",
    retry_max: "retry_max_wan",
    reconnect: "reconnect_timeout_wan",
};

/// The same, checked.
pub(super) struct Checked {
    pub(super) join: Join,
    pub(super) gossip: Gossip,
    pub(super) wan: Option<Wan>,
    pub(super) leave: Leave,
    pub(super) autopilot: Autopilot,
}

/// Reads every value that has to be parsed. `port`: where addresses without one are reached.
pub(super) fn parse(parsed: &mut Parsing, settings: &Settings, port: u16) -> Pools {
    let rejoin_after_leave = settings.rejoin_after_leave.unwrap_or(false);
    let nobody = (NodeId(0), SocketAddr::from(([0, 0, 0, 0], 0)));
    let usual = |preset: &lictor_gossip::Config| Gossip {
        gossip_interval: preset.gossip_interval,
        gossip_nodes: preset.gossip_nodes as u32,
        probe_interval: preset.probe_interval,
        probe_timeout: preset.probe_timeout,
        retransmit_mult: preset.retransmit_mult,
        suspicion_mult: preset.suspicion_mult,
        reconnect_timeout: preset.reconnect_timeout,
        rejoin_after_leave,
    };
    let lan = usual(&lictor_gossip::Config::lan(nobody.0, "", nobody.1, 0));
    let wan = usual(&lictor_gossip::Config::wan(nobody.0, "", nobody.1, 0));
    let lan = Source {
        names: LAN,
        timing: &settings.gossip_lan,
        start_join: &settings.start_join,
        retry_join: &settings.retry_join,
        interval: settings.retry_interval.as_deref(),
        retry_max: settings.retry_max,
        reconnect: settings.reconnect_timeout.as_deref(),
        usual: lan,
    };
    let wan = Source {
        names: WAN,
        timing: &settings.gossip_wan,
        start_join: &settings.start_join_wan,
        retry_join: &settings.retry_join_wan,
        interval: settings.retry_interval_wan.as_deref(),
        retry_max: settings.retry_max_wan,
        reconnect: settings.reconnect_timeout_wan.as_deref(),
        usual: wan,
    };
    let (lan, wan) = (lan.read(parsed, port), wan.read(parsed, port));
    Pools {
        lan,
        wan,
        drain: parsed.duration(
            "performance.leave_drain_time",
            settings.leave_drain_time.as_deref(),
            Duration::from_secs(5),
        ),
        last_contact_threshold: parsed.duration(
            "autopilot.last_contact_threshold",
            settings.autopilot_last_contact_threshold.as_deref(),
            Duration::from_millis(200),
        ),
        server_stabilization_time: parsed.duration(
            "autopilot.server_stabilization_time",
            settings.autopilot_server_stabilization_time.as_deref(),
            Duration::from_secs(10),
        ),
    }
}

impl Pools {
    /// Checks the rules; `server_port` is the agent's one port.
    pub(super) fn check(
        self,
        settings: &Settings,
        server: bool,
        server_port: u16,
    ) -> Result<Checked, ConfigError> {
        let lan = self.lan.check()?;
        let has_wan = one_port(settings, server_port)?;
        for (key, entries) in [
            (WAN.start_join, &settings.start_join_wan),
            (WAN.retry_join, &settings.retry_join_wan),
        ] {
            if !entries.is_empty() && !server {
                return invalid(format!(
                    "'{key}' requires 'server = true': only servers are members of the WAN pool, and other agents reach other data centers through them"
                ));
            }
            if !entries.is_empty() && !has_wan {
                return invalid(format!(
                    "'{key}' requires the WAN pool, which 'ports.serf_wan = -1' turns off"
                ));
            }
        }
        let wan = self.wan.check()?;
        let terminate = settings.leave_on_terminate.unwrap_or(!server);
        let interrupt = !settings.skip_leave_on_interrupt.unwrap_or(server);
        let trailing = settings.autopilot_max_trailing_logs.unwrap_or(250);
        let Ok(max_trailing_logs) = u64::try_from(trailing) else {
            return invalid(format!(
                "autopilot.max_trailing_logs cannot be {trailing}. Must be greater than or equal to zero"
            ));
        };
        Ok(Checked {
            join: lan.join,
            gossip: lan.gossip,
            wan: (server && has_wan).then_some(wan),
            leave: Leave {
                on_terminate: terminate,
                on_interrupt: interrupt,
                drain: self.drain,
            },
            autopilot: Autopilot {
                cleanup_dead_servers: settings.autopilot_cleanup_dead_servers.unwrap_or(true),
                last_contact_threshold: self.last_contact_threshold,
                max_trailing_logs,
                min_quorum: settings.autopilot_min_quorum.unwrap_or(0),
                server_stabilization_time: self.server_stabilization_time,
            },
        })
    }
}

impl Source<'_> {
    fn read(self, parsed: &mut Parsing, port: u16) -> Pool {
        let names = self.names;
        let usual = Gossip {
            reconnect_timeout: parsed.duration(names.reconnect, self.reconnect, self.usual.reconnect_timeout),
            ..self.usual
        };
        Pool {
            join: Join {
                at_start: parsed.join(names.start_join, self.start_join, port),
                addresses: parsed.join(names.retry_join, self.retry_join, port),
                interval: parsed.duration(names.interval, self.interval, Duration::from_secs(30)),
                attempts_max: None,
            },
            attempts_max: self.retry_max.unwrap_or(0),
            gossip: timings(parsed, names.gossip, self.timing, usual),
            names,
        }
    }
}

impl Pool {
    fn check(mut self) -> Result<Wan, ConfigError> {
        let Names {
            interval,
            retry_max,
            reconnect,
            gossip: section,
            start_join: _,
            retry_join: _,
        } = self.names;
        let gossip = &self.gossip;
        for (key, duration) in [
            (interval.to_owned(), self.join.interval),
            (reconnect.to_owned(), gossip.reconnect_timeout),
            (format!("{section}.gossip_interval"), gossip.gossip_interval),
            (format!("{section}.probe_interval"), gossip.probe_interval),
            (format!("{section}.probe_timeout"), gossip.probe_timeout),
        ] {
            if duration.is_zero() {
                return invalid(format!("{key} cannot be 0s. Must be greater than zero"));
            }
        }
        if gossip.probe_timeout > gossip.probe_interval {
            return invalid(format!(
                "{section}.probe_timeout cannot be {:?}. Must be at most {section}.probe_interval, {:?}",
                gossip.probe_timeout, gossip.probe_interval
            ));
        }
        self.join.attempts_max = match u32::try_from(self.attempts_max) {
            Ok(0) => None,
            Ok(attempts) => Some(attempts),
            Err(_) => {
                return invalid(format!(
                    "{retry_max} cannot be {}. Must be between 1 and 4294967295, or 0 for no limit",
                    self.attempts_max
                ));
            }
        };
        Ok(Wan {
            join: self.join,
            gossip: self.gossip,
        })
    }
}

/// The timing that `settings` ask for, `usual` where they say nothing.
fn timings(parsed: &mut Parsing, section: &str, settings: &GossipSettings, usual: Gossip) -> Gossip {
    let mut duration = |key: &str, value: &Option<String>, usual| {
        parsed.duration(&format!("{section}.{key}"), value.as_deref(), usual)
    };
    let gossip_interval = duration(
        "gossip_interval",
        &settings.gossip_interval,
        usual.gossip_interval,
    );
    let probe_interval = duration("probe_interval", &settings.probe_interval, usual.probe_interval);
    let probe_timeout = duration("probe_timeout", &settings.probe_timeout, usual.probe_timeout);
    let mut number = |key: &str, value: Option<i64>, usual: u32| match value {
        None => usual,
        Some(value @ 1..=MULTIPLIER_MAX) => value as u32,
        Some(value) => {
            parsed.problems.push(format!(
                "{section}.{key} cannot be {value}. Must be between 1 and {MULTIPLIER_MAX}"
            ));
            usual
        }
    };
    Gossip {
        gossip_interval,
        probe_interval,
        probe_timeout,
        gossip_nodes: number("gossip_nodes", settings.gossip_nodes, usual.gossip_nodes),
        retransmit_mult: number("retransmit_mult", settings.retransmit_mult, usual.retransmit_mult),
        suspicion_mult: number("suspicion_mult", settings.suspicion_mult, usual.suspicion_mult),
        ..usual
    }
}

/// Whether there is a WAN pool. An agent has one port, and no other can be asked for.
fn one_port(settings: &Settings, server_port: u16) -> Result<bool, ConfigError> {
    let ours = i64::from(server_port);
    let other = |key: &str, port: i64| {
        invalid(format!(
            "{key} cannot be {port}: an agent has one port for everything that agents say to each other, ports.server, which is {ours}. Leave {key} out, or give it the same number"
        ))
    };
    if let Some(port) = settings.ports_serf_lan.filter(|port| *port != ours) {
        return other("ports.serf_lan", port);
    }
    match settings.ports_serf_wan {
        None => Ok(true),
        Some(port) if port == ours => Ok(true),
        Some(-1) => Ok(false),
        Some(port) => other("ports.serf_wan", port),
    }
}

/// Checks what the node says of itself.
pub(super) fn node_meta(meta: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ConfigError> {
    if meta.len() > META_PAIRS_MAX {
        return invalid(format!(
            "node_meta invalid: Node metadata cannot contain more than {META_PAIRS_MAX} key/value pairs"
        ));
    }
    for (key, value) in &meta {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let problem = if key.is_empty() {
            "Key cannot be blank".to_owned()
        } else if !key.bytes().all(valid) {
            "Key contains invalid characters".to_owned()
        } else if key.len() > META_KEY_MAX {
            format!("Key is too long (limit: {META_KEY_MAX} characters)")
        } else if key.starts_with("consul-") {
            "Key prefix 'consul-' is reserved for internal use".to_owned()
        } else if value.len() > META_VALUE_MAX {
            format!("Value is too long (limit: {META_VALUE_MAX} characters)")
        } else {
            continue;
        };
        return invalid(format!(
            "node_meta invalid: Couldn't load metadata pair ('{key}', '{value}'): {problem}"
        ));
    }
    Ok(meta)
}
