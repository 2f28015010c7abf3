//! What an agent says of itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lictor_gossip::{Coordinate, Member};
use lictor_machine::NodeId;

/// The version of Consul whose API this is. Clients look at an agent's version to learn what it can do, so this is what
/// agents tell them, not Lictor's own version; members' `build` tags begin with it.
pub const CONSUL_VERSION: &str = "1.8.7";

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// Its data center.
    pub datacenter: String,
    /// Its name.
    pub node_name: String,
    /// Its id.
    pub node_id: NodeId,
    /// Whether it is a server.
    pub server: bool,
    /// How it was started.
    pub settings: Settings,
    /// Where it is in the network of its data center; `None` if it keeps no coordinate.
    pub coordinate: Option<Coordinate>,
    /// Itself as a member of the LAN pool.
    pub member: Arc<Member>,
    /// Numbers and words for people, by topic and name. Each topic is a group of what `lictor info` prints.
    pub stats: BTreeMap<String, BTreeMap<String, String>>,
    /// What its operator says of the node, by name.
    pub meta: BTreeMap<String, String>,
}

/// The settings that an agent was started with, as far as the API tells them. None of them is secret.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// Where other agents of its data center reach it.
    pub advertise: Option<SocketAddr>,
    /// Where servers of other data centers reach it.
    pub advertise_wan: Option<SocketAddr>,
    /// Where it takes what other agents send.
    pub bind: Option<SocketAddr>,
    /// Where it serves HTTP.
    pub http: Vec<SocketAddr>,
    /// Where it serves HTTPS.
    pub https: Vec<SocketAddr>,
    /// Where it serves DNS.
    pub dns: Vec<SocketAddr>,
    /// How many servers found a cluster together; 0: it founds none.
    pub bootstrap_expect: u32,
    /// Where it keeps its data; `None`: nowhere.
    pub data_dir: Option<PathBuf>,
    /// Whether it is one of those for development, which keep nothing.
    pub dev_mode: bool,
    /// Whether it keeps no network coordinate.
    pub disable_coordinates: bool,
    /// Whether it carries out no commands of others.
    pub disable_remote_exec: bool,
    /// Whether it leaves when it is told to terminate.
    pub leave_on_terminate: bool,
    /// Whether it does not leave when it is interrupted.
    pub skip_leave_on_interrupt: bool,
    /// Whether it rejoins after it left.
    pub rejoin_after_leave: bool,
    /// What it logs at least, such as `INFO`.
    pub log_level: String,
    /// The data center that others follow.
    pub primary_datacenter: String,
    /// Whom it tries to join at the start.
    pub retry_join: Vec<String>,
    /// How long it waits in between.
    pub retry_join_interval: Duration,
    /// Whom it tries to join in the WAN pool.
    pub retry_join_wan: Vec<String>,
    /// How long it waits in between.
    pub retry_join_wan_interval: Duration,
}
