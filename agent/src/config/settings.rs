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
    /// `client_addr`: one address, or several with spaces between them
    pub client_addr: Option<String>,
    /// `addresses.http`: as `client_addr`
    pub addresses_http: Option<String>,
    /// `ports.http`: zero or less turns the listener off
    pub ports_http: Option<i64>,
    /// `ports.server`
    pub ports_server: Option<i64>,
    /// `retry_join`
    pub retry_join: Vec<String>,
    /// `retry_interval`
    pub retry_interval: Option<String>,
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
            client_addr,
            addresses_http,
            ports_http,
            ports_server,
            retry_join,
            retry_interval,
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
        replace(&mut self.client_addr, client_addr);
        replace(&mut self.addresses_http, addresses_http);
        replace(&mut self.ports_http, ports_http);
        replace(&mut self.ports_server, ports_server);
        self.retry_join.extend(retry_join);
        replace(&mut self.retry_interval, retry_interval);
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
