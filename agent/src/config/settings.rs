//! Settings as they are given, before defaults and validation: by one file, by the command line, or merged.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A service or a check as a file defines it, in the spelling of the API: what it would be registered with there. Its values have the
/// right types; nothing else is known of them.
pub type Definition = Map<String, Value>;

/// Something of which a later source can say more.
trait Layered: PartialEq {
    /// Lays `over` on top.
    fn overlay(&mut self, over: Self);
}

/// A single value: the later one wins.
impl<T: PartialEq> Layered for Option<T> {
    fn overlay(&mut self, over: Self) {
        if over.is_some() {
            *self = over;
        }
    }
}

/// A list: the later one is appended.
impl<T: PartialEq> Layered for Vec<T> {
    fn overlay(&mut self, over: Self) {
        self.extend(over);
    }
}

/// A map: the later one wins key by key.
impl<T: PartialEq> Layered for BTreeMap<String, T> {
    fn overlay(&mut self, over: Self) {
        self.extend(over);
    }
}

/// Declares what sources can set: for each configuration key the field that holds it.
macro_rules! layered {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $($(#[$more:meta])* $key:literal => $field:ident: $kind:ty,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Default, PartialEq)]
        pub struct $name {
            $(
                #[doc = concat!("`", $key, "`")]
                ///
                $(#[$more])*
                pub $field: $kind,
            )*
        }

        impl Layered for $name {
            fn overlay(&mut self, over: Self) {
                $(Layered::overlay(&mut self.$field, over.$field);)*
            }
        }

        impl $name {
            /// Every key with whether `other` says the same of it.
            fn same(&self, other: &Self) -> Vec<(&'static str, bool)> {
                vec![$(($key, self.$field == other.$field),)*]
            }
        }
    };
}

layered! {
    /// What one source sets. A field that is `None` or empty was not mentioned. Texts are unparsed, so that errors can quote them and
    /// name their key.
    pub struct Settings {
        "server" => server: Option<bool>,
        "bootstrap" => bootstrap: Option<bool>,
        "bootstrap_expect" => bootstrap_expect: Option<i64>,
        "node_name" => node_name: Option<String>,
        "node_id" => node_id: Option<String>,
        "datacenter" => datacenter: Option<String>,
        "domain" => domain: Option<String>,
        "data_dir" => data_dir: Option<String>,
        "pid_file" => pid_file: Option<String>,
        "bind_addr" => bind_addr: Option<String>,
        "advertise_addr" => advertise_addr: Option<String>,
        "advertise_addr_wan" => advertise_addr_wan: Option<String>,
        /// One address, or several with spaces between them.
        "client_addr" => client_addr: Option<String>,
        /// As `client_addr`.
        "addresses.http" => addresses_http: Option<String>,
        /// Zero or less turns the listener off.
        "ports.http" => ports_http: Option<i64>,
        "ports.server" => ports_server: Option<i64>,
        "ports.serf_lan" => ports_serf_lan: Option<i64>,
        "ports.serf_wan" => ports_serf_wan: Option<i64>,
        "start_join" => start_join: Vec<String>,
        "start_join_wan" => start_join_wan: Vec<String>,
        "retry_join" => retry_join: Vec<String>,
        "retry_join_wan" => retry_join_wan: Vec<String>,
        "retry_interval" => retry_interval: Option<String>,
        "retry_interval_wan" => retry_interval_wan: Option<String>,
        "retry_max" => retry_max: Option<i64>,
        "retry_max_wan" => retry_max_wan: Option<i64>,
        "rejoin_after_leave" => rejoin_after_leave: Option<bool>,
        "leave_on_terminate" => leave_on_terminate: Option<bool>,
        "skip_leave_on_interrupt" => skip_leave_on_interrupt: Option<bool>,
        "performance.leave_drain_time" => leave_drain_time: Option<String>,
        "reconnect_timeout" => reconnect_timeout: Option<String>,
        "reconnect_timeout_wan" => reconnect_timeout_wan: Option<String>,
        "disable_coordinates" => disable_coordinates: Option<bool>,
        "disable_remote_exec" => disable_remote_exec: Option<bool>,
        "gossip_lan" => gossip_lan: GossipSettings,
        "gossip_wan" => gossip_wan: GossipSettings,
        "node_meta" => node_meta: BTreeMap<String, String>,
        "primary_datacenter" => primary_datacenter: Option<String>,
        "autopilot.cleanup_dead_servers" => autopilot_cleanup_dead_servers: Option<bool>,
        "autopilot.last_contact_threshold" => autopilot_last_contact_threshold: Option<String>,
        "autopilot.max_trailing_logs" => autopilot_max_trailing_logs: Option<i64>,
        "autopilot.min_quorum" => autopilot_min_quorum: Option<u64>,
        "autopilot.server_stabilization_time" => autopilot_server_stabilization_time: Option<String>,
        /// A secret.
        "encrypt" => encrypt: Option<String>,
        "tls.defaults.ca_file" => tls_ca_file: Option<String>,
        "tls.defaults.cert_file" => tls_cert_file: Option<String>,
        "tls.defaults.key_file" => tls_key_file: Option<String>,
        "log_level" => log_level: Option<String>,
        "log_json" => log_json: Option<bool>,
        "performance.raft_multiplier" => raft_multiplier: Option<i64>,
        "performance.rpc_hold_timeout" => rpc_hold_timeout: Option<String>,
        "raft_trailing_logs" => raft_trailing_logs: Option<i64>,
        "limits.http_max_conns_per_client" => http_max_conns_per_client: Option<i64>,
        "limits.http_max_conns" => http_max_conns: Option<u64>,
        "limits.http_max_requests" => http_max_requests: Option<u64>,
        "limits.http_max_blocking_queries" => http_max_blocking_queries: Option<u64>,
        "limits.http_max_body_bytes" => http_max_body_bytes: Option<u64>,
        "limits.http_max_answer_bytes" => http_max_answer_bytes: Option<u64>,
        "limits.kv_max_value_size" => kv_max_value_size: Option<u64>,
        "limits.txn_max_req_len" => txn_max_req_len: Option<u64>,
        "limits.snapshot_max_bytes" => snapshot_max_bytes: Option<u64>,
        "limits.snapshot_max_state_bytes" => snapshot_max_state_bytes: Option<u64>,
        "default_query_time" => default_query_time: Option<String>,
        "max_query_time" => max_query_time: Option<String>,
        "session_ttl_min" => session_ttl_min: Option<String>,
        "disable_http_unprintable_char_filter" => disable_http_unprintable_char_filter: Option<bool>,
        "http_config.response_headers" => response_headers: BTreeMap<String, String>,
        "check_output_max_size" => check_output_max_size: Option<i64>,
        "check_update_interval" => check_update_interval: Option<String>,
        "discard_check_output" => discard_check_output: Option<bool>,
        "enable_script_checks" => enable_script_checks: Option<bool>,
        "enable_local_script_checks" => enable_local_script_checks: Option<bool>,
        /// Those of `service` too.
        "services" => services: Vec<Definition>,
        /// Those of `check` too.
        "checks" => checks: Vec<Definition>,
        /// As they are said.
        "watches" => watches: Vec<Definition>,
        /// As `client_addr`.
        "addresses.dns" => addresses_dns: Option<String>,
        /// Zero or less turns the listeners off.
        "ports.dns" => ports_dns: Option<i64>,
        "alt_domain" => alt_domain: Option<String>,
        "recursors" => recursors: Vec<String>,
        "dns_config.a_record_limit" => dns_a_record_limit: Option<i64>,
        "dns_config.allow_stale" => dns_allow_stale: Option<bool>,
        "dns_config.disable_compression" => dns_disable_compression: Option<bool>,
        "dns_config.enable_additional_node_meta_txt" => dns_enable_additional_node_meta_txt: Option<bool>,
        "dns_config.enable_truncate" => dns_enable_truncate: Option<bool>,
        "dns_config.max_stale" => dns_max_stale: Option<String>,
        "dns_config.node_ttl" => dns_node_ttl: Option<String>,
        "dns_config.only_passing" => dns_only_passing: Option<bool>,
        "dns_config.recursor_strategy" => dns_recursor_strategy: Option<String>,
        "dns_config.recursor_timeout" => dns_recursor_timeout: Option<String>,
        "dns_config.service_ttl" => dns_service_ttl: BTreeMap<String, String>,
        "dns_config.soa.expire" => dns_soa_expire: Option<u32>,
        "dns_config.soa.min_ttl" => dns_soa_min_ttl: Option<u32>,
        "dns_config.soa.refresh" => dns_soa_refresh: Option<u32>,
        "dns_config.soa.retry" => dns_soa_retry: Option<u32>,
        "dns_config.srv_priority_meta" => dns_srv_priority_meta: Option<String>,
        "dns_config.udp_answer_limit" => dns_udp_answer_limit: Option<i64>,
        "dns_config.zone_meta" => dns_zone_meta: Option<String>,
        "dns_config.zone_min_instances" => dns_zone_min_instances: Option<i64>,
        "telemetry.disable_hostname" => telemetry_disable_hostname: Option<bool>,
        "telemetry.filter_default" => telemetry_filter_default: Option<bool>,
        "telemetry.metrics_prefix" => telemetry_metrics_prefix: Option<String>,
        "telemetry.prefix_filter" => telemetry_prefix_filter: Vec<String>,
        "telemetry.prometheus_retention_time" => telemetry_prometheus_retention_time: Option<String>,
    }
}

/// What one source sets about the timing of one pool, under `gossip_lan` or `gossip_wan`.
#[derive(Clone, Default, PartialEq)]
pub struct GossipSettings {
    /// `gossip_interval`
    pub gossip_interval: Option<String>,
    /// `gossip_nodes`
    pub gossip_nodes: Option<i64>,
    /// `probe_interval`
    pub probe_interval: Option<String>,
    /// `probe_timeout`
    pub probe_timeout: Option<String>,
    /// `retransmit_mult`
    pub retransmit_mult: Option<i64>,
    /// `suspicion_mult`
    pub suspicion_mult: Option<i64>,
}

impl Layered for GossipSettings {
    fn overlay(&mut self, over: Self) {
        let Self {
            gossip_interval,
            gossip_nodes,
            probe_interval,
            probe_timeout,
            retransmit_mult,
            suspicion_mult,
        } = over;
        self.gossip_interval.overlay(gossip_interval);
        self.gossip_nodes.overlay(gossip_nodes);
        self.probe_interval.overlay(probe_interval);
        self.probe_timeout.overlay(probe_timeout);
        self.retransmit_mult.overlay(retransmit_mult);
        self.suspicion_mult.overlay(suspicion_mult);
    }
}

impl Settings {
    /// Lays `over` on top: its scalars win, its lists are appended, its maps win key by key.
    pub(super) fn overlay(&mut self, over: Self) {
        Layered::overlay(self, over);
    }

    /// The keys that `other` sets otherwise.
    pub(super) fn changed_keys(&self, other: &Self) -> impl Iterator<Item = &'static str> + use<> {
        let keys = self.same(other).into_iter();
        keys.filter(|(_, same)| !same).map(|(key, _)| key)
    }
}
