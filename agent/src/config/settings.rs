//! Settings as they are given, before defaults and validation: by one file, by the command line, or merged.

use std::collections::BTreeMap;

/// What one source sets. A field that is `None` or empty was not mentioned. The names are those of the
/// configuration keys; texts are unparsed, so that errors can quote them and name their key.
#[derive(Clone, Default, PartialEq)]
pub struct Settings {
    /// `server`
    pub server: Option<bool>,
    /// `bootstrap`
    pub bootstrap: Option<bool>,
    /// `bootstrap_expect`
    pub bootstrap_expect: Option<i64>,
    /// `node_name`
    pub node_name: Option<String>,
    /// `node_id`
    pub node_id: Option<String>,
    /// `datacenter`
    pub datacenter: Option<String>,
    /// `domain`
    pub domain: Option<String>,
    /// `data_dir`
    pub data_dir: Option<String>,
    /// `pid_file`
    pub pid_file: Option<String>,
    /// `bind_addr`
    pub bind_addr: Option<String>,
    /// `advertise_addr`
    pub advertise_addr: Option<String>,
    /// `advertise_addr_wan`
    pub advertise_addr_wan: Option<String>,
    /// `client_addr`: one address, or several with spaces between them
    pub client_addr: Option<String>,
    /// `addresses.http`: as `client_addr`
    pub addresses_http: Option<String>,
    /// `ports.http`: zero or less turns the listener off
    pub ports_http: Option<i64>,
    /// `ports.server`
    pub ports_server: Option<i64>,
    /// `ports.serf_lan`
    pub ports_serf_lan: Option<i64>,
    /// `ports.serf_wan`
    pub ports_serf_wan: Option<i64>,
    /// `start_join`
    pub start_join: Vec<String>,
    /// `start_join_wan`
    pub start_join_wan: Vec<String>,
    /// `retry_join`
    pub retry_join: Vec<String>,
    /// `retry_join_wan`
    pub retry_join_wan: Vec<String>,
    /// `retry_interval`
    pub retry_interval: Option<String>,
    /// `retry_interval_wan`
    pub retry_interval_wan: Option<String>,
    /// `retry_max`
    pub retry_max: Option<i64>,
    /// `retry_max_wan`
    pub retry_max_wan: Option<i64>,
    /// `rejoin_after_leave`
    pub rejoin_after_leave: Option<bool>,
    /// `leave_on_terminate`
    pub leave_on_terminate: Option<bool>,
    /// `skip_leave_on_interrupt`
    pub skip_leave_on_interrupt: Option<bool>,
    /// `performance.leave_drain_time`
    pub leave_drain_time: Option<String>,
    /// `reconnect_timeout`
    pub reconnect_timeout: Option<String>,
    /// `reconnect_timeout_wan`
    pub reconnect_timeout_wan: Option<String>,
    /// `disable_coordinates`
    pub disable_coordinates: Option<bool>,
    /// `gossip_lan`
    pub gossip_lan: GossipSettings,
    /// `gossip_wan`
    pub gossip_wan: GossipSettings,
    /// `node_meta`
    pub node_meta: BTreeMap<String, String>,
    /// `primary_datacenter`
    pub primary_datacenter: Option<String>,
    /// `autopilot.cleanup_dead_servers`
    pub autopilot_cleanup_dead_servers: Option<bool>,
    /// `autopilot.last_contact_threshold`
    pub autopilot_last_contact_threshold: Option<String>,
    /// `autopilot.max_trailing_logs`
    pub autopilot_max_trailing_logs: Option<i64>,
    /// `autopilot.min_quorum`
    pub autopilot_min_quorum: Option<u64>,
    /// `autopilot.server_stabilization_time`
    pub autopilot_server_stabilization_time: Option<String>,
    /// `encrypt`: a secret
    pub encrypt: Option<String>,
    /// `tls.defaults.ca_file`
    pub tls_ca_file: Option<String>,
    /// `tls.defaults.cert_file`
    pub tls_cert_file: Option<String>,
    /// `tls.defaults.key_file`
    pub tls_key_file: Option<String>,
    /// `log_level`
    pub log_level: Option<String>,
    /// `log_json`
    pub log_json: Option<bool>,
    /// `performance.raft_multiplier`
    pub raft_multiplier: Option<i64>,
    /// `performance.rpc_hold_timeout`
    pub rpc_hold_timeout: Option<String>,
    /// `raft_trailing_logs`
    pub raft_trailing_logs: Option<i64>,
    /// `limits.http_max_conns_per_client`
    pub http_max_conns_per_client: Option<i64>,
    /// `limits.kv_max_value_size`
    pub kv_max_value_size: Option<u64>,
    /// `limits.txn_max_req_len`
    pub txn_max_req_len: Option<u64>,
    /// `default_query_time`
    pub default_query_time: Option<String>,
    /// `max_query_time`
    pub max_query_time: Option<String>,
    /// `disable_http_unprintable_char_filter`
    pub disable_http_unprintable_char_filter: Option<bool>,
    /// `http_config.response_headers`
    pub response_headers: BTreeMap<String, String>,
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

impl GossipSettings {
    fn overlay(&mut self, over: Self) {
        let Self {
            gossip_interval,
            gossip_nodes,
            probe_interval,
            probe_timeout,
            retransmit_mult,
            suspicion_mult,
        } = over;
        replace(&mut self.gossip_interval, gossip_interval);
        replace(&mut self.gossip_nodes, gossip_nodes);
        replace(&mut self.probe_interval, probe_interval);
        replace(&mut self.probe_timeout, probe_timeout);
        replace(&mut self.retransmit_mult, retransmit_mult);
        replace(&mut self.suspicion_mult, suspicion_mult);
    }
}

impl Settings {
    /// Lays `over` on top: its scalars win, its lists are appended, its maps win key by key.
    pub(super) fn overlay(&mut self, over: Self) {
        // Named one by one, so that a new field cannot be forgotten here.
        let Self {
            server,
            bootstrap,
            bootstrap_expect,
            node_name,
            node_id,
            datacenter,
            domain,
            data_dir,
            pid_file,
            bind_addr,
            advertise_addr,
            advertise_addr_wan,
            client_addr,
            addresses_http,
            ports_http,
            ports_server,
            ports_serf_lan,
            ports_serf_wan,
            start_join,
            start_join_wan,
            retry_join,
            retry_join_wan,
            retry_interval,
            retry_interval_wan,
            retry_max,
            retry_max_wan,
            rejoin_after_leave,
            leave_on_terminate,
            skip_leave_on_interrupt,
            leave_drain_time,
            reconnect_timeout,
            reconnect_timeout_wan,
            disable_coordinates,
            gossip_lan,
            gossip_wan,
            node_meta,
            primary_datacenter,
            autopilot_cleanup_dead_servers,
            autopilot_last_contact_threshold,
            autopilot_max_trailing_logs,
            autopilot_min_quorum,
            autopilot_server_stabilization_time,
            encrypt,
            tls_ca_file,
            tls_cert_file,
            tls_key_file,
            log_level,
            log_json,
            raft_multiplier,
            rpc_hold_timeout,
            raft_trailing_logs,
            http_max_conns_per_client,
            kv_max_value_size,
            txn_max_req_len,
            default_query_time,
            max_query_time,
            disable_http_unprintable_char_filter,
            response_headers,
        } = over;
        replace(&mut self.server, server);
        replace(&mut self.bootstrap, bootstrap);
        replace(&mut self.bootstrap_expect, bootstrap_expect);
        replace(&mut self.node_name, node_name);
        replace(&mut self.node_id, node_id);
        replace(&mut self.datacenter, datacenter);
        replace(&mut self.domain, domain);
        replace(&mut self.data_dir, data_dir);
        replace(&mut self.pid_file, pid_file);
        replace(&mut self.bind_addr, bind_addr);
        replace(&mut self.advertise_addr, advertise_addr);
        replace(&mut self.advertise_addr_wan, advertise_addr_wan);
        replace(&mut self.client_addr, client_addr);
        replace(&mut self.addresses_http, addresses_http);
        replace(&mut self.ports_http, ports_http);
        replace(&mut self.ports_server, ports_server);
        replace(&mut self.ports_serf_lan, ports_serf_lan);
        replace(&mut self.ports_serf_wan, ports_serf_wan);
        self.start_join.extend(start_join);
        self.start_join_wan.extend(start_join_wan);
        self.retry_join.extend(retry_join);
        self.retry_join_wan.extend(retry_join_wan);
        replace(&mut self.retry_interval, retry_interval);
        replace(&mut self.retry_interval_wan, retry_interval_wan);
        replace(&mut self.retry_max, retry_max);
        replace(&mut self.retry_max_wan, retry_max_wan);
        replace(&mut self.rejoin_after_leave, rejoin_after_leave);
        replace(&mut self.leave_on_terminate, leave_on_terminate);
        replace(&mut self.skip_leave_on_interrupt, skip_leave_on_interrupt);
        replace(&mut self.leave_drain_time, leave_drain_time);
        replace(&mut self.reconnect_timeout, reconnect_timeout);
        replace(&mut self.reconnect_timeout_wan, reconnect_timeout_wan);
        replace(&mut self.disable_coordinates, disable_coordinates);
        self.gossip_lan.overlay(gossip_lan);
        self.gossip_wan.overlay(gossip_wan);
        self.node_meta.extend(node_meta);
        replace(&mut self.primary_datacenter, primary_datacenter);
        replace(
            &mut self.autopilot_cleanup_dead_servers,
            autopilot_cleanup_dead_servers,
        );
        replace(
            &mut self.autopilot_last_contact_threshold,
            autopilot_last_contact_threshold,
        );
        replace(&mut self.autopilot_max_trailing_logs, autopilot_max_trailing_logs);
        replace(&mut self.autopilot_min_quorum, autopilot_min_quorum);
        replace(
            &mut self.autopilot_server_stabilization_time,
            autopilot_server_stabilization_time,
        );
        replace(&mut self.encrypt, encrypt);
        replace(&mut self.tls_ca_file, tls_ca_file);
        replace(&mut self.tls_cert_file, tls_cert_file);
        replace(&mut self.tls_key_file, tls_key_file);
        replace(&mut self.log_level, log_level);
        replace(&mut self.log_json, log_json);
        replace(&mut self.raft_multiplier, raft_multiplier);
        replace(&mut self.rpc_hold_timeout, rpc_hold_timeout);
        replace(&mut self.raft_trailing_logs, raft_trailing_logs);
        replace(&mut self.http_max_conns_per_client, http_max_conns_per_client);
        replace(&mut self.kv_max_value_size, kv_max_value_size);
        replace(&mut self.txn_max_req_len, txn_max_req_len);
        replace(&mut self.default_query_time, default_query_time);
        replace(&mut self.max_query_time, max_query_time);
        replace(
            &mut self.disable_http_unprintable_char_filter,
            disable_http_unprintable_char_filter,
        );
        self.response_headers.extend(response_headers);
    }
}

fn replace<T>(slot: &mut Option<T>, over: Option<T>) {
    if over.is_some() {
        *slot = over;
    }
}
