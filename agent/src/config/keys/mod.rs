//! The configuration keys: reads one JSON document into [`Settings`].

mod definitions;
mod values;
mod watches;

use serde_json::Value;

use super::settings::{GossipSettings, Settings};
use definitions::{check, one_service, services};
use values::Reader;
pub(super) use watches::watch_address;
use watches::watches;

/// Reads one document. An error is one text that names every problem of its kind: malformed JSON, else values of the
/// wrong type, else keys that are unknown or not supported yet.
pub(super) fn read(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::default();
    if text.trim().is_empty() {
        return Ok(settings);
    }
    let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(document) = document else {
        return Err(format!(
            "the document must be a JSON object, not {}",
            article(&document)
        ));
    };
    let mut reader = Reader::default();
    reader.section(&mut settings, "", &document, top);
    reader.finish()?;
    Ok(settings)
}

fn top(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "addresses" => reader.nested(path, value, to, addresses),
        "advertise_addr" => reader.scalar(path, value, &mut to.advertise_addr),
        "advertise_addr_wan" => reader.scalar(path, value, &mut to.advertise_addr_wan),
        "alt_domain" => reader.scalar(path, value, &mut to.alt_domain),
        "autopilot" => reader.nested(path, value, to, autopilot),
        "bind_addr" => reader.scalar(path, value, &mut to.bind_addr),
        "bootstrap" => reader.scalar(path, value, &mut to.bootstrap),
        "bootstrap_expect" => reader.scalar(path, value, &mut to.bootstrap_expect),
        "check" => reader.one(path, value, &mut to.checks, check),
        "check_output_max_size" => reader.scalar(path, value, &mut to.check_output_max_size),
        "check_update_interval" => reader.scalar(path, value, &mut to.check_update_interval),
        "checks" => reader.objects(path, value, &mut to.checks, check),
        "client_addr" => reader.scalar(path, value, &mut to.client_addr),
        "data_dir" => reader.scalar(path, value, &mut to.data_dir),
        "datacenter" => reader.scalar(path, value, &mut to.datacenter),
        "default_query_time" => reader.scalar(path, value, &mut to.default_query_time),
        // What there is none of in Lictor: saying so is fine.
        "disable_anonymous_signature" | "disable_update_check" => return reader.fact(path, value, true),
        "disable_coordinates" => reader.scalar(path, value, &mut to.disable_coordinates),
        "disable_http_unprintable_char_filter" => {
            reader.scalar(path, value, &mut to.disable_http_unprintable_char_filter);
        }
        "disable_remote_exec" => reader.scalar(path, value, &mut to.disable_remote_exec),
        "discard_check_output" => reader.scalar(path, value, &mut to.discard_check_output),
        "dns_config" => reader.nested(path, value, to, dns_config),
        "domain" => reader.scalar(path, value, &mut to.domain),
        "enable_debug" | "enable_syslog" | "ui" => return reader.fact(path, value, false),
        "enable_local_script_checks" => reader.scalar(path, value, &mut to.enable_local_script_checks),
        "enable_script_checks" => reader.scalar(path, value, &mut to.enable_script_checks),
        "encrypt" => reader.scalar(path, value, &mut to.encrypt),
        "gossip_lan" => reader.nested(path, value, &mut to.gossip_lan, gossip),
        "gossip_wan" => reader.nested(path, value, &mut to.gossip_wan, gossip),
        "http_config" => reader.nested(path, value, to, http_config),
        "leave_on_terminate" => reader.scalar(path, value, &mut to.leave_on_terminate),
        "limits" => reader.nested(path, value, to, limits),
        "log_json" => reader.scalar(path, value, &mut to.log_json),
        "log_level" => reader.scalar(path, value, &mut to.log_level),
        "max_query_time" => reader.scalar(path, value, &mut to.max_query_time),
        "node_id" => reader.scalar(path, value, &mut to.node_id),
        "node_meta" => reader.text_map(path, value, &mut to.node_meta),
        "node_name" => reader.scalar(path, value, &mut to.node_name),
        "performance" => reader.nested(path, value, to, performance),
        "pid_file" => reader.scalar(path, value, &mut to.pid_file),
        "ports" => reader.nested(path, value, to, ports),
        "primary_datacenter" => reader.scalar(path, value, &mut to.primary_datacenter),
        "raft_trailing_logs" => reader.scalar(path, value, &mut to.raft_trailing_logs),
        "reconnect_timeout" => reader.scalar(path, value, &mut to.reconnect_timeout),
        "reconnect_timeout_wan" => reader.scalar(path, value, &mut to.reconnect_timeout_wan),
        "recursors" => reader.texts(path, value, &mut to.recursors),
        "rejoin_after_leave" => reader.scalar(path, value, &mut to.rejoin_after_leave),
        "retry_interval" => reader.scalar(path, value, &mut to.retry_interval),
        "retry_interval_wan" => reader.scalar(path, value, &mut to.retry_interval_wan),
        "retry_join" => reader.texts(path, value, &mut to.retry_join),
        "retry_join_wan" => reader.texts(path, value, &mut to.retry_join_wan),
        "retry_max" => reader.scalar(path, value, &mut to.retry_max),
        "retry_max_wan" => reader.scalar(path, value, &mut to.retry_max_wan),
        "server" => reader.scalar(path, value, &mut to.server),
        "service" => one_service(reader, path, value, &mut to.services),
        "services" => services(reader, path, value, &mut to.services),
        "session_ttl_min" => reader.scalar(path, value, &mut to.session_ttl_min),
        "skip_leave_on_interrupt" => reader.scalar(path, value, &mut to.skip_leave_on_interrupt),
        "start_join" => reader.texts(path, value, &mut to.start_join),
        "start_join_wan" => reader.texts(path, value, &mut to.start_join_wan),
        "telemetry" => reader.nested(path, value, to, telemetry),
        "tls" => reader.nested(path, value, to, tls),
        "watches" => watches(reader, path, value, &mut to.watches),
        _ => return false,
    }
    true
}

fn addresses(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "dns" => reader.scalar(path, value, &mut to.addresses_dns),
        "http" => reader.scalar(path, value, &mut to.addresses_http),
        _ => return false,
    }
    true
}

fn autopilot(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "cleanup_dead_servers" => reader.scalar(path, value, &mut to.autopilot_cleanup_dead_servers),
        "last_contact_threshold" => {
            reader.scalar(path, value, &mut to.autopilot_last_contact_threshold);
        }
        "max_trailing_logs" => reader.scalar(path, value, &mut to.autopilot_max_trailing_logs),
        "min_quorum" => reader.scalar(path, value, &mut to.autopilot_min_quorum),
        "server_stabilization_time" => {
            reader.scalar(path, value, &mut to.autopilot_server_stabilization_time);
        }
        _ => return false,
    }
    true
}

fn dns_config(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "a_record_limit" => reader.scalar(path, value, &mut to.dns_a_record_limit),
        "allow_stale" => reader.scalar(path, value, &mut to.dns_allow_stale),
        "disable_compression" => reader.scalar(path, value, &mut to.dns_disable_compression),
        "enable_additional_node_meta_txt" => {
            reader.scalar(path, value, &mut to.dns_enable_additional_node_meta_txt);
        }
        "enable_truncate" => reader.scalar(path, value, &mut to.dns_enable_truncate),
        "max_stale" => reader.scalar(path, value, &mut to.dns_max_stale),
        "node_ttl" => reader.scalar(path, value, &mut to.dns_node_ttl),
        "only_passing" => reader.scalar(path, value, &mut to.dns_only_passing),
        "recursor_strategy" => reader.scalar(path, value, &mut to.dns_recursor_strategy),
        "recursor_timeout" => reader.scalar(path, value, &mut to.dns_recursor_timeout),
        "service_ttl" => reader.text_map(path, value, &mut to.dns_service_ttl),
        "soa" => reader.nested(path, value, to, soa),
        "srv_priority_meta" => reader.scalar(path, value, &mut to.dns_srv_priority_meta),
        "udp_answer_limit" => reader.scalar(path, value, &mut to.dns_udp_answer_limit),
        "use_cache" => return reader.fact(path, value, false),
        "zone_meta" => reader.scalar(path, value, &mut to.dns_zone_meta),
        "zone_min_instances" => reader.scalar(path, value, &mut to.dns_zone_min_instances),
        _ => return false,
    }
    true
}

fn soa(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "expire" => reader.scalar(path, value, &mut to.dns_soa_expire),
        "min_ttl" => reader.scalar(path, value, &mut to.dns_soa_min_ttl),
        "refresh" => reader.scalar(path, value, &mut to.dns_soa_refresh),
        "retry" => reader.scalar(path, value, &mut to.dns_soa_retry),
        _ => return false,
    }
    true
}

fn gossip(reader: &mut Reader, to: &mut GossipSettings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "gossip_interval" => reader.scalar(path, value, &mut to.gossip_interval),
        "gossip_nodes" => reader.scalar(path, value, &mut to.gossip_nodes),
        "probe_interval" => reader.scalar(path, value, &mut to.probe_interval),
        "probe_timeout" => reader.scalar(path, value, &mut to.probe_timeout),
        "retransmit_mult" => reader.scalar(path, value, &mut to.retransmit_mult),
        "suspicion_mult" => reader.scalar(path, value, &mut to.suspicion_mult),
        _ => return false,
    }
    true
}

fn http_config(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "response_headers" => reader.text_map(path, value, &mut to.response_headers),
        _ => return false,
    }
    true
}

fn limits(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "http_max_answer_bytes" => reader.scalar(path, value, &mut to.http_max_answer_bytes),
        "http_max_blocking_queries" => reader.scalar(path, value, &mut to.http_max_blocking_queries),
        "http_max_body_bytes" => reader.scalar(path, value, &mut to.http_max_body_bytes),
        "http_max_conns" => reader.scalar(path, value, &mut to.http_max_conns),
        "http_max_requests" => reader.scalar(path, value, &mut to.http_max_requests),
        "http_max_conns_per_client" => reader.scalar(path, value, &mut to.http_max_conns_per_client),
        "kv_max_value_size" => reader.scalar(path, value, &mut to.kv_max_value_size),
        "snapshot_max_bytes" => reader.scalar(path, value, &mut to.snapshot_max_bytes),
        "snapshot_max_state_bytes" => reader.scalar(path, value, &mut to.snapshot_max_state_bytes),
        "txn_max_req_len" => reader.scalar(path, value, &mut to.txn_max_req_len),
        _ => return false,
    }
    true
}

fn performance(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "leave_drain_time" => reader.scalar(path, value, &mut to.leave_drain_time),
        "raft_multiplier" => reader.scalar(path, value, &mut to.raft_multiplier),
        "rpc_hold_timeout" => reader.scalar(path, value, &mut to.rpc_hold_timeout),
        _ => return false,
    }
    true
}

fn ports(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "dns" => reader.scalar(path, value, &mut to.ports_dns),
        "http" => reader.scalar(path, value, &mut to.ports_http),
        "serf_lan" => reader.scalar(path, value, &mut to.ports_serf_lan),
        "serf_wan" => reader.scalar(path, value, &mut to.ports_serf_wan),
        "server" => reader.scalar(path, value, &mut to.ports_server),
        // Turning off what is not there is true, not ignored.
        "https" | "grpc" => return value.as_i64() == Some(-1),
        _ => return false,
    }
    true
}

fn telemetry(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "disable_hostname" => reader.scalar(path, value, &mut to.telemetry_disable_hostname),
        "filter_default" => reader.scalar(path, value, &mut to.telemetry_filter_default),
        "metrics_prefix" => reader.scalar(path, value, &mut to.telemetry_metrics_prefix),
        "prefix_filter" => reader.texts(path, value, &mut to.telemetry_prefix_filter),
        "prometheus_retention_time" => {
            reader.scalar(path, value, &mut to.telemetry_prometheus_retention_time);
        }
        _ => return false,
    }
    true
}

fn tls(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "defaults" => reader.nested(path, value, to, tls_defaults),
        _ => return false,
    }
    true
}

fn tls_defaults(reader: &mut Reader, to: &mut Settings, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "ca_file" => reader.scalar(path, value, &mut to.tls_ca_file),
        "cert_file" => reader.scalar(path, value, &mut to.tls_cert_file),
        "key_file" => reader.scalar(path, value, &mut to.tls_key_file),
        _ => return false,
    }
    true
}

fn article(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
