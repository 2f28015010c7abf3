//! The keys of services and checks. They are kept as the API spells them: it knows what they mean.

use serde_json::Value;

use super::super::settings::Definition;
use super::values::{Reader, Section};

/// Reads the single service at `value`.
pub(super) fn one_service(reader: &mut Reader, path: &str, value: &Value, list: &mut Vec<Definition>) {
    let before = list.len();
    reader.one(path, value, list, service);
    list[before..].iter_mut().for_each(gather_checks);
}

/// Reads the services at `value`.
pub(super) fn services(reader: &mut Reader, path: &str, value: &Value, list: &mut Vec<Definition>) {
    let before = list.len();
    reader.objects(path, value, list, service);
    list[before..].iter_mut().for_each(gather_checks);
}

/// The keys of a check that stands by itself.
pub(super) fn check(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "id" => reader.copy::<String>(path, value, to, "ID"),
        "service_id" | "serviceid" => reader.copy::<String>(path, value, to, "ServiceID"),
        "token" => reader.copy::<String>(path, value, to, "Token"),
        _ => return any_check(reader, to, path, key, value),
    }
    true
}

/// The one check of a service stands behind the others, so that they keep their numbers.
fn gather_checks(service: &mut Definition) {
    let Some(check) = service.remove("Check") else {
        return;
    };
    let checks = service
        .entry("Checks")
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(checks) = checks {
        checks.push(check);
    }
}

fn service(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "address" => reader.copy::<String>(path, value, to, "Address"),
        "check" => part(reader, to, path, value, "Check", check_of_service),
        "checks" => parts(reader, to, path, value, "Checks", check_of_service),
        "connect" => part(reader, to, path, value, "Connect", connect),
        "enable_tag_override" => reader.copy::<bool>(path, value, to, "EnableTagOverride"),
        "id" => reader.copy::<String>(path, value, to, "ID"),
        "kind" => reader.copy::<String>(path, value, to, "Kind"),
        "meta" => {
            let mut meta = std::collections::BTreeMap::new();
            reader.text_map(path, value, &mut meta);
            to.insert("Meta".to_owned(), meta.into_iter().collect());
        }
        "name" => reader.copy::<String>(path, value, to, "Name"),
        "port" => reader.copy::<i64>(path, value, to, "Port"),
        "proxy" => part(reader, to, path, value, "Proxy", proxy),
        "tagged_addresses" => tagged_addresses(reader, to, path, value),
        "tags" => texts(reader, to, path, value, "Tags"),
        "token" => reader.copy::<String>(path, value, to, "Token"),
        "weights" => part(reader, to, path, value, "Weights", weights),
        _ => return false,
    }
    true
}

fn check_of_service(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "id" => reader.copy::<String>(path, value, to, "CheckID"),
        "service_id" | "serviceid" => reader.copy::<String>(path, value, to, "ServiceID"),
        _ => return any_check(reader, to, path, key, value),
    }
    true
}

/// Some keys have a second name, without underscores.
fn any_check(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "alias_node" => reader.copy::<String>(path, value, to, "AliasNode"),
        "alias_service" => reader.copy::<String>(path, value, to, "AliasService"),
        "args" | "scriptargs" => texts(reader, to, path, value, "Args"),
        "body" => reader.copy::<String>(path, value, to, "Body"),
        "deregister_critical_service_after" | "deregistercriticalserviceafter" => {
            reader.copy::<String>(path, value, to, "DeregisterCriticalServiceAfter");
        }
        "disable_redirects" => reader.copy::<bool>(path, value, to, "DisableRedirects"),
        "docker_container_id" | "dockercontainerid" => {
            reader.copy::<String>(path, value, to, "DockerContainerID");
        }
        "failures_before_critical" => reader.copy::<i64>(path, value, to, "FailuresBeforeCritical"),
        "failures_before_warning" => reader.copy::<i64>(path, value, to, "FailuresBeforeWarning"),
        "grpc" => reader.copy::<String>(path, value, to, "GRPC"),
        "grpc_use_tls" => reader.copy::<bool>(path, value, to, "GRPCUseTLS"),
        "h2ping" => reader.copy::<String>(path, value, to, "H2PING"),
        "h2ping_use_tls" => reader.copy::<bool>(path, value, to, "H2PingUseTLS"),
        "header" => header(reader, to, path, value),
        "http" => reader.copy::<String>(path, value, to, "HTTP"),
        "interval" => reader.copy::<String>(path, value, to, "Interval"),
        "method" => reader.copy::<String>(path, value, to, "Method"),
        "name" => reader.copy::<String>(path, value, to, "Name"),
        "notes" => reader.copy::<String>(path, value, to, "Notes"),
        "output_max_size" => reader.copy::<i64>(path, value, to, "OutputMaxSize"),
        "shell" => reader.copy::<String>(path, value, to, "Shell"),
        "status" => reader.copy::<String>(path, value, to, "Status"),
        "success_before_passing" => reader.copy::<i64>(path, value, to, "SuccessBeforePassing"),
        "tcp" => reader.copy::<String>(path, value, to, "TCP"),
        "tcp_use_tls" => reader.copy::<bool>(path, value, to, "TCPUseTLS"),
        "timeout" => reader.copy::<String>(path, value, to, "Timeout"),
        "tls_server_name" => reader.copy::<String>(path, value, to, "TLSServerName"),
        "tls_skip_verify" | "tlsskipverify" => reader.copy::<bool>(path, value, to, "TLSSkipVerify"),
        "ttl" => reader.copy::<String>(path, value, to, "TTL"),
        "udp" => reader.copy::<String>(path, value, to, "UDP"),
        _ => return false,
    }
    true
}

fn tagged_addresses(reader: &mut Reader, to: &mut Definition, path: &str, value: &Value) {
    let mut addresses = Definition::new();
    for (name, value) in reader.members(path, value) {
        let path = format!("{path}[{name}]");
        part(reader, &mut addresses, &path, value, name, address);
    }
    to.insert("TaggedAddresses".to_owned(), addresses.into());
}

fn address(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "address" => reader.copy::<String>(path, value, to, "Address"),
        "port" => reader.copy::<i64>(path, value, to, "Port"),
        _ => return false,
    }
    true
}

fn weights(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "passing" => reader.copy::<i64>(path, value, to, "Passing"),
        "warning" => reader.copy::<i64>(path, value, to, "Warning"),
        _ => return false,
    }
    true
}

fn connect(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "native" => reader.copy::<bool>(path, value, to, "Native"),
        "sidecar_service" => {
            part(reader, to, path, value, "SidecarService", service);
            if let Some(Value::Object(sidecar)) = to.get_mut("SidecarService") {
                gather_checks(sidecar);
            }
        }
        _ => return false,
    }
    true
}

fn proxy(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "config" => config(reader, to, path, value),
        "destination_service_id" => reader.copy::<String>(path, value, to, "DestinationServiceID"),
        "destination_service_name" => reader.copy::<String>(path, value, to, "DestinationServiceName"),
        "expose" => part(reader, to, path, value, "Expose", expose),
        "local_service_address" => reader.copy::<String>(path, value, to, "LocalServiceAddress"),
        "local_service_port" => reader.copy::<i64>(path, value, to, "LocalServicePort"),
        "mesh_gateway" => part(reader, to, path, value, "MeshGateway", mesh_gateway),
        "upstreams" => parts(reader, to, path, value, "Upstreams", upstream),
        _ => return false,
    }
    true
}

fn upstream(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "config" => config(reader, to, path, value),
        "datacenter" => reader.copy::<String>(path, value, to, "Datacenter"),
        "destination_name" => reader.copy::<String>(path, value, to, "DestinationName"),
        "destination_namespace" => reader.copy::<String>(path, value, to, "DestinationNamespace"),
        "destination_type" => reader.copy::<String>(path, value, to, "DestinationType"),
        "local_bind_address" => reader.copy::<String>(path, value, to, "LocalBindAddress"),
        "local_bind_port" => reader.copy::<i64>(path, value, to, "LocalBindPort"),
        "mesh_gateway" => part(reader, to, path, value, "MeshGateway", mesh_gateway),
        _ => return false,
    }
    true
}

fn mesh_gateway(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "mode" => reader.copy::<String>(path, value, to, "Mode"),
        _ => return false,
    }
    true
}

fn expose(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "checks" => reader.copy::<bool>(path, value, to, "Checks"),
        "paths" => parts(reader, to, path, value, "Paths", exposed_path),
        _ => return false,
    }
    true
}

fn exposed_path(reader: &mut Reader, to: &mut Definition, path: &str, key: &str, value: &Value) -> bool {
    match key {
        "listener_port" => reader.copy::<i64>(path, value, to, "ListenerPort"),
        "local_path_port" => reader.copy::<i64>(path, value, to, "LocalPathPort"),
        "path" => reader.copy::<String>(path, value, to, "Path"),
        "protocol" => reader.copy::<String>(path, value, to, "Protocol"),
        _ => return false,
    }
    true
}

fn part(
    reader: &mut Reader,
    to: &mut Definition,
    path: &str,
    value: &Value,
    name: &str,
    section: Section<Definition>,
) {
    let mut read = None;
    reader.optional(path, value, &mut read, section);
    to.extend(read.map(|read| (name.to_owned(), read.into())));
}

fn parts(
    reader: &mut Reader,
    to: &mut Definition,
    path: &str,
    value: &Value,
    name: &str,
    section: Section<Definition>,
) {
    let mut read = Vec::new();
    reader.objects(path, value, &mut read, section);
    to.insert(name.to_owned(), read.into_iter().map(Value::Object).collect());
}

fn texts(reader: &mut Reader, to: &mut Definition, path: &str, value: &Value, name: &str) {
    let mut read = Vec::new();
    reader.texts(path, value, &mut read);
    to.insert(name.to_owned(), read.into());
}

fn header(reader: &mut Reader, to: &mut Definition, path: &str, value: &Value) {
    let mut header = Definition::new();
    for (name, value) in reader.members(path, value) {
        texts(reader, &mut header, &format!("{path}[{name}]"), value, name);
    }
    to.insert("Header".to_owned(), header.into());
}

/// What is for the proxy alone to understand.
fn config(reader: &mut Reader, to: &mut Definition, path: &str, value: &Value) {
    let members = reader.members(path, value);
    let members: Definition = members
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    to.insert("Config".to_owned(), members.into());
}
