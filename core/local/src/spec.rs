//! What runs on an agent and how it is checked, as whoever registers it says.

use core::time::Duration;
use std::sync::Arc;

use lictor_catalog::{MAX_NAME_BYTES, MAX_TAGS, MAX_TEXT_BYTES, ServiceDef, Status, Text};
use serde::{Deserialize, Serialize};

/// The shortest interval between two probes; a shorter one is raised to this.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest time after which a critical service is removed; a shorter one is raised to this.
pub const MIN_DEREGISTER_AFTER: Duration = Duration::from_mins(1);

/// How long a probe may take if nobody has said so, but for those that run a program.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a program may take if nobody has said so.
pub const SCRIPT_TIMEOUT: Duration = Duration::from_secs(30);

/// The most checks that one registration of a service may have.
pub const MAX_SERVICE_CHECKS: usize = 256;

/// A service with its checks.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// The service. An empty id: as its name.
    pub def: ServiceDef,
    /// The secret that it is written to the catalog with; empty: the agent's own.
    pub token: Text,
    /// Its checks. Their `service_id` is not looked at; empty ids and names are given by the agent.
    pub checks: Vec<CheckSpec>,
}

/// How something is checked, and what follows from that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSpec {
    /// What it is called on this node. Empty: as its name; for a check of a service, a name made of the service's id.
    pub id: Text,
    /// A name for people.
    pub name: Text,
    /// A note for people.
    pub notes: Text,
    /// The service that it looks after; empty: the node as a whole.
    pub service_id: Text,
    /// What it begins with if nothing is known of it; `None`: critical.
    pub status: Option<Status>,
    /// How it is checked.
    pub method: CheckMethod,
    /// When a result counts.
    pub thresholds: Thresholds,
    /// A service that is critical for this long is removed from this agent; zero: never.
    pub deregister_after: Duration,
    /// The most bytes of output to keep; zero: as many as the agent allows.
    pub output_max: usize,
    /// The secret that it is written to the catalog with; empty: the agent's own.
    pub token: Text,
}

impl Default for CheckSpec {
    /// A check that waits to be told, without a name and with a deadline of zero: not valid as it is.
    fn default() -> Self {
        Self {
            id: Text::default(),
            name: Text::default(),
            notes: Text::default(),
            service_id: Text::default(),
            status: None,
            method: CheckMethod::Ttl(Duration::ZERO),
            thresholds: Thresholds::default(),
            deregister_after: Duration::ZERO,
            output_max: 0,
            token: Text::default(),
        }
    }
}

/// How a check comes by its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckMethod {
    /// It is told, at least this often.
    Ttl(Duration),
    /// The agent looks for itself.
    Probe {
        /// How.
        probe: Arc<Probe>,
        /// From the end of one probe to the begin of the next.
        interval: Duration,
        /// How long one may take; `None`: as is usual for its kind.
        timeout: Option<Duration>,
    },
    /// It is as well as something else.
    Alias {
        /// The node that this is about, or runs on; empty: this one.
        node: Text,
        /// The id of the service; empty: the node as a whole.
        service: Text,
    },
    /// Maintenance mode: critical for as long as it is there. Only the agent itself makes these.
    Maintenance,
}

/// One way to look how well something is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// Run a program: it ends with 0 for passing, 1 for warning.
    Script {
        /// The program and its arguments, not read by a shell.
        args: Vec<String>,
    },
    /// The same within a container.
    Docker {
        /// The container.
        container: String,
        /// The shell that reads the command; empty: none does.
        shell: String,
        /// The command.
        args: Vec<String>,
    },
    /// Ask a URL: 2xx is passing, 429 warning.
    Http {
        /// The URL.
        url: String,
        /// The method; empty: GET.
        method: String,
        /// Headers that are sent along, with all their values.
        headers: Vec<(String, Vec<String>)>,
        /// What is sent along.
        body: String,
        /// Whether a redirect is an answer, instead of being followed.
        disable_redirects: bool,
        /// For `https`.
        tls: ProbeTls,
    },
    /// Connect.
    Tcp {
        /// Host and port.
        address: String,
        /// With TLS, if so.
        tls: Option<ProbeTls>,
    },
    /// Send something, and see whether it is refused.
    Udp {
        /// Host and port.
        address: String,
    },
    /// Ask for gRPC's health service.
    Grpc {
        /// Host and port, and after a slash the service asked about.
        target: String,
        /// With TLS, if so.
        tls: Option<ProbeTls>,
    },
    /// An HTTP/2 connection with a ping on it.
    H2Ping {
        /// Host and port.
        address: String,
        /// With TLS, if so.
        tls: Option<ProbeTls>,
    },
}

/// How a probe uses TLS.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProbeTls {
    /// Whether any certificate is good enough.
    pub skip_verify: bool,
    /// The name that the certificate must have; empty: the host.
    pub server_name: String,
}

/// How many results of the same kind in a row it takes to change a status. 0 is as good as 1. They do not count for checks that are
/// told their status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Thresholds {
    /// Good results until it passes, or warns.
    pub success_before_passing: u32,
    /// Bad results until it warns; `None`: it goes to critical at once.
    pub failures_before_warning: Option<u32>,
    /// Bad results until it is critical.
    pub failures_before_critical: u32,
}

impl Probe {
    /// Its kind, as the API names it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Script { .. } => "script",
            Self::Docker { .. } => "docker",
            Self::Http { .. } => "http",
            Self::Tcp { .. } => "tcp",
            Self::Udp { .. } => "udp",
            Self::Grpc { .. } => "grpc",
            Self::H2Ping { .. } => "h2ping",
        }
    }

    /// Whether it runs a program that whoever registered it has chosen.
    pub const fn runs_program(&self) -> bool {
        match self {
            Self::Script { .. } | Self::Docker { .. } => true,
            Self::Http { .. }
            | Self::Tcp { .. }
            | Self::Udp { .. }
            | Self::Grpc { .. }
            | Self::H2Ping { .. } => false,
        }
    }

    /// How long it may take if nobody has said so.
    pub const fn usual_timeout(&self) -> Duration {
        match self {
            Self::Script { .. } | Self::Docker { .. } => SCRIPT_TIMEOUT,
            Self::Http { .. }
            | Self::Tcp { .. }
            | Self::Udp { .. }
            | Self::Grpc { .. }
            | Self::H2Ping { .. } => PROBE_TIMEOUT,
        }
    }
}

impl CheckMethod {
    /// Whether it runs a program that whoever registered it has chosen.
    pub fn runs_program(&self) -> bool {
        match self {
            Self::Probe { probe, .. } => probe.runs_program(),
            Self::Ttl(_) | Self::Alias { .. } | Self::Maintenance => false,
        }
    }

    /// Its kind, as the API names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ttl(_) => "ttl",
            Self::Probe { probe, .. } => probe.kind(),
            Self::Alias { .. } => "alias",
            Self::Maintenance => "maintenance",
        }
    }
}

impl ServiceSpec {
    /// Whether it makes sense; `Err`: why not, as the API words it. What it needs beside it is not looked at.
    pub fn check(&self) -> Result<(), String> {
        let def = &self.def;
        if def.name.is_empty() {
            return Err("Missing service name".to_owned());
        }
        if matches!(&*def.address, "0.0.0.0" | "::" | "[::]") {
            return Err("Invalid service address".to_owned());
        }
        let names = [&def.name, &def.id, &def.kind, &def.address, &self.token];
        if names
            .into_iter()
            .chain(def.tags.iter())
            .any(|text| text.len() > MAX_NAME_BYTES)
        {
            return Err(format!(
                "A name, id, address or tag of a service is too long (limit: {MAX_NAME_BYTES} bytes)"
            ));
        }
        if def.tags.len() > MAX_TAGS {
            return Err(format!("A service has too many tags (limit: {MAX_TAGS})"));
        }
        if self.checks.len() > MAX_SERVICE_CHECKS {
            return Err(format!(
                "A service has too many checks (limit: {MAX_SERVICE_CHECKS})"
            ));
        }
        for check in &self.checks {
            check
                .check_but_name()
                .map_err(|what| format!("Invalid check: {what}"))?;
        }
        Ok(())
    }
}

impl CheckSpec {
    /// Whether it makes sense; `Err`: why not, as the API words it. What it needs beside it is not looked at.
    pub fn check(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("Missing check name".to_owned());
        }
        self.check_but_name()
    }

    fn check_but_name(&self) -> Result<(), String> {
        let names = [&self.id, &self.name, &self.service_id, &self.token];
        if names.into_iter().any(|text| text.len() > MAX_NAME_BYTES) {
            return Err(format!(
                "A name or id of a check is too long (limit: {MAX_NAME_BYTES} bytes)"
            ));
        }
        if self.notes.len() > MAX_TEXT_BYTES {
            return Err(format!(
                "The notes of a check are too long (limit: {MAX_TEXT_BYTES} bytes)"
            ));
        }
        let Thresholds {
            failures_before_warning,
            failures_before_critical,
            success_before_passing: _,
        } = self.thresholds;
        if failures_before_warning.is_some_and(|warning| warning > failures_before_critical.max(1)) {
            return Err("FailuresBeforeWarning can't be higher than FailuresBeforeCritical".to_owned());
        }
        match &self.method {
            CheckMethod::Ttl(ttl) if ttl.is_zero() => Err("TTL must be > 0 for TTL checks".to_owned()),
            CheckMethod::Probe { interval, .. } if interval.is_zero() => {
                Err("Interval must be > 0 for Script, HTTP, or TCP checks".to_owned())
            }
            CheckMethod::Maintenance => Err("Maintenance mode is no check to be registered".to_owned()),
            CheckMethod::Ttl(_) | CheckMethod::Probe { .. } | CheckMethod::Alias { .. } => Ok(()),
        }
    }
}
