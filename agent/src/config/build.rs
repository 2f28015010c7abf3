//! From merged settings to a [`Config`]: defaults, parsing, and every rule that values must keep.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use lictor_catalog::MAX_OUTPUT_BYTES;
use lictor_transport_quic::{MAX_DATACENTER_BYTES, MAX_NAME_BYTES};

use super::address::{self, Host};
use super::error::{ConfigError, Warning};
use super::parsing::Parsing;
use super::{
    Bootstrap, Checks, Config, Http, Log, LogLevel, Raft, RuntimeKind, Settings, SharedKey, Trust,
    definitions, dns, pool, telemetry, text, watches,
};

const HTTP_PORT: i64 = 8500;
const SERVER_PORT: i64 = 8300;
const DEFAULT_TRAILING_LOGS: u64 = 10_240;
const SESSION_TTL_MIN: Duration = Duration::from_secs(10);

/// Builds and validates. Values that cannot be parsed are reported together; after that the first broken rule is.
pub(super) fn build(
    mut settings: Settings,
    dev: bool,
    runtime: RuntimeKind,
    host: &Host,
    warnings: &mut Vec<Warning>,
) -> Result<Config, ConfigError> {
    let mut parsed = Parsing::default();
    let http_port = parsed.port("ports.http", settings.ports_http.unwrap_or(HTTP_PORT));
    let server_port = parsed.port("ports.server", settings.ports_server.unwrap_or(SERVER_PORT));
    let client = settings.client_addr.as_deref();
    let client = parsed
        .ips("client_addr", client)
        .unwrap_or_else(|| vec![address::LOOPBACK]);
    let http_ips = parsed
        .ips("addresses.http", settings.addresses_http.as_deref())
        .unwrap_or_else(|| client.clone());
    let dns = dns::parse(&mut parsed, &settings);
    let advertise = parsed.ip("advertise_addr", settings.advertise_addr.as_deref());
    let advertise_wan = parsed.ip("advertise_addr_wan", settings.advertise_addr_wan.as_deref());
    let seconds = Duration::from_secs;
    let default_query_time = parsed.duration(
        "default_query_time",
        settings.default_query_time.as_deref(),
        seconds(300),
    );
    let max_query_time = parsed.duration("max_query_time", settings.max_query_time.as_deref(), seconds(600));
    let session_ttl_min = parsed.duration(
        "session_ttl_min",
        settings.session_ttl_min.as_deref(),
        SESSION_TTL_MIN,
    );
    let rpc_hold_timeout = parsed.duration(
        "performance.rpc_hold_timeout",
        settings.rpc_hold_timeout.as_deref(),
        seconds(7),
    );
    let update_interval = parsed.duration(
        "check_update_interval",
        settings.check_update_interval.as_deref(),
        Checks::default().update_interval,
    );
    definitions::parse(&mut parsed, &settings.services, &settings.checks);
    let telemetry = telemetry::parse(&mut parsed, &settings, warnings);
    let pools = pool::parse(&mut parsed, &settings, server_port.unwrap_or(0));
    let response_headers = parsed.headers(std::mem::take(&mut settings.response_headers));
    if !parsed.problems.is_empty() {
        return Err(ConfigError::Values(parsed.problems));
    }

    let dc = datacenter("datacenter", settings.datacenter.as_deref().unwrap_or("dc1"))?;
    let primary_datacenter = match settings.primary_datacenter.as_deref() {
        None | Some("") => dc.clone(),
        // The name of the key in this message is Consul's.
        Some(name) => datacenter("acl_datacenter", name)?,
    };
    let data_dir = data_dir(settings.data_dir.as_deref(), dev)?;
    let bind_ip = bind_ip(settings.bind_addr.as_deref(), dev)?;
    let advertise_ip = advertise_ip(advertise, bind_ip, host)?;
    let advertise_wan_ip = match advertise_wan {
        Some(ip) if ip.is_unspecified() => {
            return invalid("Advertise WAN address cannot be 0.0.0.0, :: or [::]");
        }
        Some(ip) => ip,
        None => advertise_ip,
    };
    let server_port = server_port.ok_or_else(|| {
        ConfigError::Invalid("ports.server must be between 1 and 65535: every agent needs it".to_owned())
    })?;
    let server = settings.server.unwrap_or(dev);
    let pools = pools.check(&settings, server, server_port)?;
    let bootstrap = bootstrap(
        settings.bootstrap,
        settings.bootstrap_expect,
        server,
        dev,
        warnings,
    )?;
    let domain = dns::domain("domain", settings.domain.as_deref())?;
    let dns = dns.check(&settings, &client, domain.clone())?;
    let node_name = node_name(settings.node_name, host, warnings)?;
    let node_id = node_id(settings.node_id.as_deref())?;
    let files = [
        settings.tls_ca_file,
        settings.tls_cert_file,
        settings.tls_key_file,
    ];
    let trust = trust(settings.encrypt.as_deref(), files, domain)?;
    let usual = lictor_http::Limits::default();
    let listen = http_port.map_or_else(Vec::new, |port| {
        http_ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
    });
    see_conflicts(&dns.listen, &listen, SocketAddr::new(bind_ip, server_port))?;
    let from_api = settings.enable_script_checks.unwrap_or(false);
    let checks = Checks {
        scripts_from_api: from_api,
        update_interval,
        output_max: output_max(settings.check_output_max_size)?,
        discard_output: settings.discard_check_output.unwrap_or(false),
    };
    if from_api {
        warnings.push(Warning(
            "using enable-script-checks without ACLs and without allow_write_http_from is DANGEROUS, use enable-local-script-checks instead"
                .to_owned(),
        ));
    }
    let remote_exec = !settings.disable_remote_exec.unwrap_or(true);
    if remote_exec {
        warnings.push(Warning(
            "disable_remote_exec = false without ACLs is DANGEROUS: whoever can reach the HTTP API of any agent can run programs on this one"
                .to_owned(),
        ));
    }
    let scripts = from_api || settings.enable_local_script_checks.unwrap_or(false);
    let definitions = definitions::build(settings.services, settings.checks, scripts, warnings)?;
    let watches = watches::build(settings.watches, warnings)?;
    Ok(Config {
        runtime,
        dev,
        server,
        bootstrap,
        node_name,
        node_id,
        datacenter: dc,
        data_dir,
        pid_file: settings
            .pid_file
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        bind: SocketAddr::new(bind_ip, server_port),
        advertise: SocketAddr::new(advertise_ip, server_port),
        advertise_wan: SocketAddr::new(advertise_wan_ip, server_port),
        join: pools.join,
        wan: pools.wan,
        gossip: pools.gossip,
        leave: pools.leave,
        node_meta: pool::node_meta(settings.node_meta)?,
        checks,
        remote_exec,
        definitions,
        watches,
        coordinates: !settings.disable_coordinates.unwrap_or(false),
        primary_datacenter,
        autopilot: pools.autopilot,
        trust,
        dns,
        telemetry,
        http: Http {
            listen,
            response_headers,
            max_connections_per_client: max_connections(settings.http_max_conns_per_client)?,
            max_connections: or_no_limit(settings.http_max_conns, usual.connections),
            max_requests: or_no_limit(settings.http_max_requests, usual.requests),
            max_blocking_queries: or_no_limit(settings.http_max_blocking_queries, usual.blocking_queries),
            max_body_bytes: or_no_limit(settings.http_max_body_bytes, usual.body_bytes),
            max_answer_bytes: or_no_limit(settings.http_max_answer_bytes, usual.answer_bytes),
            kv_max_value_size: settings.kv_max_value_size.unwrap_or(512 * 1024),
            txn_max_request: settings.txn_max_req_len.unwrap_or(512 * 1024),
            default_query_time,
            max_query_time,
            // Zero is the same as nothing.
            session_ttl_min: Some(session_ttl_min)
                .filter(|least| !least.is_zero())
                .unwrap_or(SESSION_TTL_MIN),
            allow_unprintable_paths: settings.disable_http_unprintable_char_filter.unwrap_or(false),
        },
        snapshots: {
            let usual = crate::snapshot::Limits::default();
            crate::snapshot::Limits {
                archive_bytes: settings.snapshot_max_bytes.unwrap_or(usual.archive_bytes),
                state_bytes: settings.snapshot_max_state_bytes.unwrap_or(usual.state_bytes),
            }
        },
        raft: Raft {
            multiplier: raft_multiplier(settings.raft_multiplier)?,
            rpc_hold_timeout,
            trailing_logs: count(
                "raft_trailing_logs",
                settings.raft_trailing_logs,
                DEFAULT_TRAILING_LOGS,
            )?,
        },
        log: Log {
            level: log_level(settings.log_level.as_deref(), dev)?,
            json: settings.log_json.unwrap_or(false),
        },
    })
}

/// Checks the name of a data center, for the key `key`.
fn datacenter(key: &str, name: &str) -> Result<String, ConfigError> {
    let name = name.to_lowercase();
    if name.is_empty() {
        return invalid(format!("{key} cannot be empty"));
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
    {
        return invalid(format!("{key} cannot be {name:?}. Please use only [a-z0-9-_]"));
    }
    if name.len() > MAX_DATACENTER_BYTES {
        return invalid(format!(
            "{key} is {} bytes long. At most {MAX_DATACENTER_BYTES} are allowed",
            name.len()
        ));
    }
    Ok(name)
}

fn data_dir(setting: Option<&str>, dev: bool) -> Result<Option<PathBuf>, ConfigError> {
    let path = match setting.filter(|path| !path.is_empty()).map(PathBuf::from) {
        Some(path) => path,
        None if dev => return Ok(None),
        None => return invalid("data_dir cannot be empty"),
    };
    match std::fs::metadata(&path) {
        Ok(about) if !about.is_dir() => invalid(format!(
            "data_dir {:?} is not a directory",
            path.display().to_string()
        )),
        Ok(_) => Ok(Some(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Some(path)),
        Err(error) => invalid(format!(
            "data_dir {:?}: {}",
            path.display().to_string(),
            text::system_error(&error)
        )),
    }
}

fn bind_ip(setting: Option<&str>, dev: bool) -> Result<IpAddr, ConfigError> {
    let Some(setting) = setting else {
        return Ok(if dev { address::LOOPBACK } else { address::ANY });
    };
    if setting.trim().is_empty() {
        return invalid("bind_addr cannot be empty");
    }
    if setting.split_whitespace().nth(1).is_some() && !setting.contains("{{") {
        return invalid(
            "bind_addr cannot contain multiple addresses. Use 'addresses.{dns,http,https}' instead.",
        );
    }
    address::parse_ip("bind_addr", setting).map_err(ConfigError::Invalid)
}

fn advertise_ip(setting: Option<IpAddr>, bind: IpAddr, host: &Host) -> Result<IpAddr, ConfigError> {
    match setting {
        Some(ip) if ip.is_unspecified() => invalid("Advertise address cannot be 0.0.0.0, :: or [::]"),
        Some(ip) => Ok(ip),
        None if !bind.is_unspecified() => Ok(bind),
        None => host.advertisable(bind).ok_or_else(|| {
            let family = if bind.is_ipv4() { "IPv4" } else { "IPv6" };
            ConfigError::Invalid(format!(
                "no {family} address of this host can be advertised to others; set advertise_addr, or bind_addr to one address"
            ))
        }),
    }
}

fn bootstrap(
    alone: Option<bool>,
    expect: Option<i64>,
    server: bool,
    dev: bool,
    warnings: &mut Vec<Warning>,
) -> Result<Bootstrap, ConfigError> {
    let alone = alone.unwrap_or(false);
    let expect = expect.unwrap_or(0);
    let Ok(expect) = u32::try_from(expect) else {
        let bound = if expect < 0 {
            "greater than or equal to zero"
        } else {
            "at most 4294967295"
        };
        return invalid(format!("bootstrap_expect cannot be {expect}. Must be {bound}"));
    };
    if dev {
        if !server {
            return invalid("-dev starts a server: it cannot be combined with 'server = false'");
        }
        if expect > 1 {
            return invalid("-dev starts a single server: it cannot be combined with 'bootstrap_expect > 1'");
        }
        return Ok(Bootstrap::Alone);
    }
    if expect > 0 && alone {
        return invalid("'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive");
    }
    if !server && (alone || expect == 1) {
        return invalid("'bootstrap = true' requires 'server = true'");
    }
    if !server && expect > 0 {
        return invalid("'bootstrap_expect > 0' requires 'server = true'");
    }
    let mut warn = |text: String| warnings.push(Warning(text));
    if expect == 1 {
        warn("BootstrapExpect is set to 1; this is the same as Bootstrap mode.".to_owned());
    }
    if alone || expect == 1 {
        warn("bootstrap = true: do not enable unless necessary".to_owned());
        return Ok(Bootstrap::Alone);
    }
    if expect == 0 {
        return Ok(Bootstrap::Join);
    }
    if expect == 2 {
        warn("bootstrap_expect = 2: A cluster with 2 servers will provide no failure tolerance.".to_owned());
    } else if expect.is_multiple_of(2) {
        warn("bootstrap_expect is even number: A cluster with an even number of servers does not achieve optimum fault tolerance.".to_owned());
    }
    warn(format!("bootstrap_expect > 0: expecting {expect} servers"));
    Ok(Bootstrap::Expect(expect))
}

fn node_name(
    setting: Option<String>,
    host: &Host,
    warnings: &mut Vec<Warning>,
) -> Result<String, ConfigError> {
    let Some(name) = setting
        .filter(|name| !name.is_empty())
        .or_else(|| host.name.clone())
    else {
        return invalid("node_name cannot be found out: this host has no name; set node_name");
    };
    if name.len() > MAX_NAME_BYTES {
        return invalid(format!(
            "node_name is {} bytes long. At most {MAX_NAME_BYTES} are allowed",
            name.len()
        ));
    }
    if name.chars().any(char::is_control) {
        return invalid(format!("node_name {name:?} contains control characters"));
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        warnings.push(Warning(format!(
            "Node name {name:?} will not be discoverable via DNS due to invalid characters. Valid characters include all alpha-numerics and dashes."
        )));
    }
    Ok(name)
}

fn node_id(setting: Option<&str>) -> Result<Option<lictor_machine::NodeId>, ConfigError> {
    let Some(id) = setting.filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    if id.len() != 36 {
        return invalid("failed to setup node ID: specified NodeID is invalid: uuid string is wrong length");
    }
    id.parse().map(Some).map_err(|error| {
        ConfigError::Invalid(format!(
            "failed to setup node ID: specified NodeID is invalid: {error}"
        ))
    })
}

fn trust(
    encrypt: Option<&str>,
    files: [Option<String>; 3],
    domain: Option<String>,
) -> Result<Trust, ConfigError> {
    const NAMES: [&str; 3] = ["ca_file", "cert_file", "key_file"];
    let files = files.map(|path| path.filter(|path| !path.is_empty()).map(PathBuf::from));
    let missing: Vec<_> = NAMES
        .into_iter()
        .zip(&files)
        .filter(|(_, path)| path.is_none())
        .map(|(name, _)| name)
        .collect();
    let encrypt = encrypt.filter(|key| !key.is_empty());
    if encrypt.is_some() && missing.len() < NAMES.len() {
        return invalid(
            "encrypt and tls.defaults are mutually exclusive: both say whom to trust. With certificates, remove encrypt",
        );
    }
    if let Some(encrypt) = encrypt {
        let key = text::decode_base64(encrypt.as_bytes()).map_err(|error| {
            ConfigError::Invalid(format!(
                "encrypt has invalid key: {error}; `lictor keygen` makes one"
            ))
        })?;
        if !matches!(key.len(), 16 | 24 | 32) {
            return invalid(
                "encrypt has invalid key: key size must be 16, 24 or 32 bytes; `lictor keygen` makes one",
            );
        }
        return Ok(Trust::Shared(SharedKey(key)));
    }
    match files {
        [Some(ca_file), Some(cert_file), Some(key_file)] => Ok(Trust::Files {
            ca_file,
            cert_file,
            key_file,
            domain,
        }),
        [None, None, None] => Ok(Trust::User),
        [_, _, _] => invalid(format!(
            "tls.defaults needs ca_file, cert_file and key_file together: {} missing",
            missing.join(" and ")
        )),
    }
}

/// Whether two listeners would take the same address.
fn see_conflicts(dns: &[SocketAddr], http: &[SocketAddr], agents: SocketAddr) -> Result<(), ConfigError> {
    if let Some(address) = http.iter().find(|address| dns.contains(address)) {
        return invalid(format!("HTTP address {address} already configured for DNS"));
    }
    let meets = |address: &&SocketAddr| {
        let anywhere = address.ip().is_unspecified() || agents.ip().is_unspecified();
        address.port() == agents.port() && (anywhere || address.ip() == agents.ip())
    };
    match dns.iter().find(meets) {
        Some(address) => invalid(format!(
            "DNS address {address} already configured for what agents say to each other (ports.server)"
        )),
        None => Ok(()),
    }
}

fn output_max(setting: Option<i64>) -> Result<usize, ConfigError> {
    let Some(setting) = setting else {
        return Ok(Checks::default().output_max);
    };
    match usize::try_from(setting) {
        Ok(max @ 1..=MAX_OUTPUT_BYTES) => Ok(max),
        Ok(1..) => invalid(format!(
            "check_output_max_size cannot be {setting}. Must be at most {MAX_OUTPUT_BYTES}"
        )),
        Ok(0) | Err(_) => invalid(
            "check_output_max_size must be positive, to discard check output use the discard_check_output flag",
        ),
    }
}

/// A limit of which 0 says that there is none.
fn or_no_limit(setting: Option<u64>, usual: usize) -> Option<usize> {
    let limit = setting.map_or(usual, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    (limit != 0).then_some(limit)
}

fn max_connections(setting: Option<i64>) -> Result<Option<u32>, ConfigError> {
    let limit = setting.unwrap_or(200);
    match u32::try_from(limit) {
        Ok(0) => Ok(None),
        Ok(limit) => Ok(Some(limit)),
        Err(_) => invalid(format!(
            "limits.http_max_conns_per_client cannot be {limit}. Must be between 1 and 4294967295, or 0 for no limit"
        )),
    }
}

fn raft_multiplier(setting: Option<i64>) -> Result<u32, ConfigError> {
    let multiplier = setting.unwrap_or(1);
    match u32::try_from(multiplier) {
        Ok(value @ 1..=10) => Ok(value),
        Ok(_) | Err(_) => invalid(format!(
            "performance.raft_multiplier cannot be {multiplier}. Must be between 1 and 10"
        )),
    }
}

/// A number of entries; zero means the default.
fn count(key: &str, setting: Option<i64>, default: u64) -> Result<u64, ConfigError> {
    match u64::try_from(setting.unwrap_or(0)) {
        Ok(0) => Ok(default),
        Ok(count) => Ok(count),
        Err(_) => invalid(format!(
            "{key} cannot be {}. Must be greater than or equal to zero",
            setting.unwrap_or_default()
        )),
    }
}

fn log_level(setting: Option<&str>, dev: bool) -> Result<LogLevel, ConfigError> {
    let Some(setting) = setting.filter(|level| !level.is_empty()) else {
        return Ok(if dev { LogLevel::Debug } else { LogLevel::Info });
    };
    Ok(match setting.to_uppercase().as_str() {
        "TRACE" => LogLevel::Trace,
        "DEBUG" => LogLevel::Debug,
        "INFO" => LogLevel::Info,
        "WARN" => LogLevel::Warn,
        "ERR" | "ERROR" => LogLevel::Error,
        _ => {
            return invalid(format!(
                "Invalid log level: {setting}. Valid log levels are: [TRACE DEBUG INFO WARN ERR ERROR]"
            ));
        }
    })
}

pub(super) fn invalid<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid(text.into()))
}
