//! The agent's configuration: from command line and files to one validated [`Config`].
//!
//! Later beats earlier: built-in defaults (and those of development mode), files in the order of the command line, then
//! the command line itself. Lists are appended instead, those of the command line first.
//!
//! Keys, types and messages are those of Consul, with these differences:
//! - a key that Lictor does not act on is refused by name, never accepted and ignored;
//! - `performance.raft_multiplier` is 1 by default, where Consul has 5: elections take about a second, which suits networks
//!   whose agents are milliseconds apart;
//! - `ports.server` is the one UDP port of an agent, for everything that agents say to each other: `ports.serf_lan` and
//!   `ports.serf_wan` may only repeat it, or, for the latter, be -1: no WAN pool;
//! - what has no effect is refused where Consul takes it and goes on: keys of its Enterprise edition, WAN addresses to
//!   join at an agent that is no server;
//! - a fraction is not an integer, and a negative duration is an error;
//! - what makes no sense in the definition of a service, a check or a watch is an error of the configuration, not only of the start
//!   that follows; and so is a status that is none, or a port, or a watch that tells nobody.

mod address;
mod build;
mod definitions;
mod dns;
mod duration;
mod error;
mod files;
mod keys;
mod not_yet;
mod parsing;
mod pool;
mod reload;
mod settings;
mod telemetry;
mod text;
mod watches;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lictor_local::Definitions;
use lictor_machine::NodeId;
#[cfg(doc)]
use lictor_transport_quic::{MAX_DATACENTER_BYTES, MAX_NAME_BYTES};

pub use address::{JoinAddress, JoinHost};
pub use dns::{Dns, RecursorStrategy, Soa, Zone};
pub use duration::{DurationError, parse_duration};
pub use error::{ConfigError, Warning};
pub use reload::{Reloaded, Reloader};
pub use settings::{Definition, GossipSettings, Settings};
pub use telemetry::Telemetry;
pub use text::{IllegalBase64, decode_base64, system_error};
pub use watches::{Watch, WatchAddress, WatchHandler};

/// What the command line gave.
#[derive(Clone, Default)]
pub struct Flags {
    /// Development mode: one server on the loopback interface that needs no data directory.
    pub dev: bool,
    /// Which executor to run on.
    pub runtime: RuntimeKind,
    /// Files and directories, in the order given.
    pub config_paths: Vec<PathBuf>,
    /// The format of every file, whatever its name says.
    pub config_format: Option<String>,
    /// Flags that stand for a configuration key.
    pub settings: Settings,
}

/// Which executor runs the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RuntimeKind {
    /// smol
    #[default]
    Smol,
    /// async-std
    AsyncStd,
}

/// What an agent runs with: complete and consistent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which executor to run on.
    pub runtime: RuntimeKind,
    /// Development mode: a single server; what it stores need not survive it unless `data_dir` is given.
    pub dev: bool,
    /// Whether this agent is a server, that is, takes part in Raft.
    pub server: bool,
    /// How a server without a past finds its cluster. `Join` for every agent that is not a server.
    pub bootstrap: Bootstrap,
    /// The node's name: from the configuration or the host; not empty, at most [`MAX_NAME_BYTES`].
    pub node_name: String,
    /// The node's id, if it is prescribed.
    pub node_id: Option<NodeId>,
    /// The data center: `[a-z0-9-_]+`, at most [`MAX_DATACENTER_BYTES`].
    pub datacenter: String,
    /// Where state is kept. May not exist yet; is not a file. `None` only in development mode.
    pub data_dir: Option<PathBuf>,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// The UDP address for what agents say to each other.
    pub bind: SocketAddr,
    /// How other agents reach `bind`: never an unspecified address. The same port.
    pub advertise: SocketAddr,
    /// How servers of other data centers reach `bind`: never an unspecified address. The same port.
    pub advertise_wan: SocketAddr,
    /// Where to find other agents of this data center.
    pub join: Join,
    /// The pool of the servers of all data centers, if this agent is one of its members: only servers are.
    pub wan: Option<Wan>,
    /// The timing of this data center's pool.
    pub gossip: Gossip,
    /// When the agent leaves its pools.
    pub leave: Leave,
    /// What this node says of itself, beside its name: at most 64 pairs.
    pub node_meta: BTreeMap<String, String>,
    /// Whether network coordinates are kept and published.
    pub coordinates: bool,
    /// How checks are run.
    pub checks: Checks,
    /// Whether commands of others are carried out on this agent.
    pub remote_exec: bool,
    /// What the files say is to run on this agent.
    pub definitions: Definitions,
    /// What this agent watches, and whom it tells: at most 256.
    pub watches: Vec<Watch>,
    /// The data center that others follow where one must lead: this one, unless another is named.
    pub primary_datacenter: String,
    /// What a new cluster begins with.
    pub autopilot: Autopilot,
    /// What makes agents trust each other.
    pub trust: Trust,
    /// The DNS interface.
    pub dns: Dns,
    /// The agent's metrics.
    pub telemetry: Telemetry,
    /// The HTTP API.
    pub http: Http,
    /// How large an archive may be that is restored.
    pub snapshots: crate::snapshot::Limits,
    /// Consensus and the requests that wait for it.
    pub raft: Raft,
    /// The log.
    pub log: Log,
}

/// How this agent runs checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Whether checks that run programs may be registered through the API.
    pub scripts_from_api: bool,
    /// How long a check's output alone may lag behind in the catalog; zero: not at all.
    pub update_interval: Duration,
    /// The most bytes of a check's output; at least 1.
    pub output_max: usize,
    /// Whether no output is kept at all.
    pub discard_output: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            scripts_from_api: false,
            update_interval: Duration::from_mins(5),
            output_max: 4096,
            discard_output: false,
        }
    }
}

/// How a server without a past finds its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// It waits to be added to a cluster that exists.
    Join,
    /// It founds a cluster alone, at once.
    Alone,
    /// It founds a cluster with others, as soon as this many servers know of each other. At least 2.
    Expect(u32),
}

/// Where to find the other agents of a pool. The addresses may name this agent itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Tried once, at the start; if none of them answers the agent stops.
    pub at_start: Vec<JoinAddress>,
    /// Tried until one answers.
    pub addresses: Vec<JoinAddress>,
    /// How long to wait before the next attempt; never zero.
    pub interval: Duration,
    /// After how many attempts to give up, and to stop; `None`: never.
    pub attempts_max: Option<u32>,
}

/// The WAN pool, as a server takes part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wan {
    /// Where to find servers of other data centers.
    pub join: Join,
    /// The pool's timing.
    pub gossip: Gossip,
}

/// The timing of a pool's gossip. No duration and no number is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gossip {
    /// Between two rounds of gossip.
    pub gossip_interval: Duration,
    /// To how many members in each round.
    pub gossip_nodes: u32,
    /// Between two probes.
    pub probe_interval: Duration,
    /// How long the answer to a probe may take before others are asked to probe; at most `probe_interval`.
    pub probe_timeout: Duration,
    /// A statement is passed on this many times, times the logarithm of the pool's size.
    pub retransmit_mult: u32,
    /// A suspect has this many probe intervals, times the logarithm of the pool's size, to prove that it lives.
    pub suspicion_mult: u32,
    /// When a member that failed is forgotten.
    pub reconnect_timeout: Duration,
    /// Join by itself who is remembered, also after this agent left in good order.
    pub rejoin_after_leave: bool,
}

/// When an agent leaves its pools, so that nobody takes it for failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// At SIGTERM.
    pub on_terminate: bool,
    /// At SIGINT.
    pub on_interrupt: bool,
    /// How long a server that has left goes on answering requests, so that others learn of it meanwhile.
    pub drain: Duration,
}

/// How the leader looks after the servers of its cluster, until the operator says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Autopilot {
    /// Whether servers that failed are removed from the cluster when others take their place.
    pub cleanup_dead_servers: bool,
    /// How long ago the leader may have heard from a server that counts as healthy.
    pub last_contact_threshold: Duration,
    /// How many entries a server may be behind that counts as healthy.
    pub max_trailing_logs: u64,
    /// Below this many servers none is removed.
    pub min_quorum: u64,
    /// How long a new server must be healthy before it votes.
    pub server_stabilization_time: Duration,
}

/// What makes agents trust each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The authority that belongs to the user who starts the agent.
    User,
    /// An authority that every agent derives from one shared secret.
    Shared(SharedKey),
    /// Certificates from files, by an authority of the operator's own. The files have not been read.
    Files {
        /// The authority's certificate, PEM.
        ca_file: PathBuf,
        /// This agent's certificate, PEM.
        cert_file: PathBuf,
        /// Its key, PEM.
        key_file: PathBuf,
        /// The domain of the names that grant a role, as in `server.<datacenter>.<domain>`: lower case, no dot at its end.
        /// `None`: the usual ones.
        domain: Option<String>,
    },
}

/// The secret of `encrypt`: 16, 24 or 32 bytes, not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey(Vec<u8>);

impl SharedKey {
    /// The secret itself.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(hidden)")
    }
}

/// The HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// TCP addresses to listen on, each once. Empty: no HTTP API.
    pub listen: Vec<SocketAddr>,
    /// Sent with every answer: valid names and values, in the order of their names.
    pub response_headers: Vec<(String, String)>,
    /// How many connections one client address may hold; `None`: any number.
    pub max_connections_per_client: Option<u32>,
    /// How many connections there may be in all; `None`: any number.
    pub max_connections: Option<usize>,
    /// How many requests may be handled at a time, without those that wait for a change; `None`: any number.
    pub max_requests: Option<usize>,
    /// How many requests may wait for a change; `None`: any number.
    pub max_blocking_queries: Option<usize>,
    /// How many bytes all bodies of requests may have together; `None`: any number.
    pub max_body_bytes: Option<usize>,
    /// How many bytes of answers clients may not have taken yet; `None`: any number.
    pub max_answer_bytes: Option<usize>,
    /// The largest value of a key, in bytes.
    pub kv_max_value_size: u64,
    /// The largest body of a transaction, in bytes.
    pub txn_max_request: u64,
    /// How long a blocking query waits that does not say how long.
    pub default_query_time: Duration,
    /// The longest that any blocking query may wait.
    pub max_query_time: Duration,
    /// The shortest TTL that a session may have.
    pub session_ttl_min: Duration,
    /// Whether paths with unprintable characters are let through.
    pub allow_unprintable_paths: bool,
}

/// Consensus and the requests that wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raft {
    /// Scales the heartbeat and election timeouts, whose base suits a local network; 1 to 10.
    pub multiplier: u32,
    /// How long a request may wait for a leader.
    pub rpc_hold_timeout: Duration,
    /// How many applied entries are kept for followers that are a little behind.
    pub trailing_logs: u64,
}

/// The log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important messages to write.
    pub level: LogLevel,
    /// One JSON object per line instead of text.
    pub json: bool,
}

/// How important a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For following the protocols step by step.
    Trace,
    /// For finding faults.
    Debug,
    /// What an operator likes to know.
    Info,
    /// What may become a problem.
    Warn,
    /// What is one.
    Error,
}

impl Config {
    /// Reads the files that `flags` names, merges, fills in defaults, and validates. Touches nothing: directories are not
    /// made, sockets not opened, certificates not read.
    pub fn load(flags: Flags) -> Result<(Self, Vec<Warning>), ConfigError> {
        Self::load_on(&address::Host::discover(), flags)
    }

    /// Whether the files that `flags` names make a configuration, on whatever machine: what they leave to the host counts as given. Touches
    /// nothing. Gives what is worth a warning.
    pub fn check(flags: Flags) -> Result<Vec<Warning>, ConfigError> {
        Self::load_on(&address::Host::any(), flags).map(|(_, warnings)| warnings)
    }

    fn load_on(host: &address::Host, flags: Flags) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut warnings = Vec::new();
        let (dev, runtime) = (flags.dev, flags.runtime);
        let settings = flags.merged(&mut warnings)?;
        let config = build::build(settings, dev, runtime, host, &mut warnings)?;
        Ok((config, warnings))
    }
}

impl Flags {
    /// What the files say, with the flags on top.
    fn merged(mut self, warnings: &mut Vec<Warning>) -> Result<Settings, ConfigError> {
        let given = &mut self.settings;
        let mut merged = Settings {
            recursors: std::mem::take(&mut given.recursors),
            retry_join: std::mem::take(&mut given.retry_join),
            retry_join_wan: std::mem::take(&mut given.retry_join_wan),
            start_join: std::mem::take(&mut given.start_join),
            start_join_wan: std::mem::take(&mut given.start_join_wan),
            ..Settings::default()
        };
        let format = self.config_format.as_deref();
        files::read_all(&self.config_paths, format, warnings, |settings| {
            merged.overlay(settings);
        })?;
        merged.overlay(self.settings);
        Ok(merged)
    }
}

/// The services that configuration files define, with whatever is worth a warning. Other keys are read, and count for nothing; whether
/// the services make sense is not looked at, but for values that cannot be read.
pub fn read_services(paths: &[PathBuf]) -> Result<(Vec<Definition>, Vec<Warning>), ConfigError> {
    let mut warnings = Vec::new();
    let mut services = Vec::new();
    files::read_all(paths, None, &mut warnings, |settings| {
        services.extend(settings.services);
    })?;
    definitions::see_values(&services)?;
    Ok((services, warnings))
}

#[cfg(test)]
mod tests;
