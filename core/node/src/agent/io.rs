//! What goes into an agent and what comes out of it.

use lictor_gossip as gossip;
use lictor_gossip::Tags;

use crate::{local, node};

/// One of the pools that an agent is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// All agents of one data center.
    Lan,
    /// The servers of all data centers.
    Wan,
}

/// Settings of an agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// The LAN pool. The tags are complete but for a server's cluster.
    pub lan: gossip::Config,
    /// The WAN pool; on servers only.
    pub wan: Option<gossip::Config>,
    /// The name of this data center.
    pub datacenter: String,
    /// How often a server looks whether the other servers of its data center are in the WAN pool, and the leader writes down where
    /// members are in the network.
    pub duty_interval: core::time::Duration,
    /// How long a leave may take until the other servers have let go of this one.
    pub leave_timeout: core::time::Duration,
    /// Whether the leader writes network coordinates to the catalog.
    pub coordinates: bool,
}

/// What may happen to an agent.
#[derive(Clone, Debug)]
pub enum Input {
    /// For the server within. Refused by an agent in client mode.
    Server(crate::Input),
    /// For a member of a pool. Refused if this agent is not in it. [`gossip::Input::Leave`] and [`gossip::Input::SetTags`] are the
    /// agent's own business; see [`Input::Leave`] and [`Input::SetTags`].
    Gossip {
        /// Which pool.
        pool: Pool,
        /// What.
        input: gossip::Input,
    },
    /// For what runs on this agent. Refused if nothing was [brought along](super::Agent::with_local).
    Local(local::Input),
    /// Say other things of this agent, in all its pools. Complete, but for a server's cluster.
    SetTags(Tags),
    /// Leave for good, as far as the others are concerned: a server is removed from the cluster's configuration, and everybody sees
    /// that this agent left. [`Effect::Left`] comes when that is done, or was waited for long enough.
    Leave,
    /// Stop, to come back later: hand leadership over if this agent leads. [`Effect::Stopped`] comes when that is done.
    Stop,
}

/// What an agent wants done, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Of the server within.
    Server(crate::Effect),
    /// Of a member of a pool. [`gossip::Effect::Left`] never comes by this way. Addresses are a pool's own: a server may have one at home
    /// and another for the other data centers, so what one pool says or forgets of it is nothing to the other.
    Gossip {
        /// Which pool.
        pool: Pool,
        /// What.
        effect: gossip::Effect,
    },
    /// Of what runs on this agent.
    Local(local::Effect),
    /// Where the members of the WAN pool are, in network coordinates: their names there. Comes now and then, and when somebody joins.
    Distances(Vec<Distance>),
    /// The agent has left, and may be dropped.
    Left,
    /// The agent has stopped in good order, and may be dropped.
    Stopped,
}

/// Where a server of some data center is.
#[derive(Clone, Debug, PartialEq)]
pub struct Distance {
    /// Who.
    pub id: lictor_machine::NodeId,
    /// Its coordinate in the pool.
    pub coordinate: gossip::Coordinate,
}

/// Why an input was refused. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The server refused it.
    #[error(transparent)]
    Server(#[from] node::Reject),
    /// A pool refused it.
    #[error(transparent)]
    Gossip(#[from] gossip::Reject),
    /// What runs on this agent refused it.
    #[error(transparent)]
    Local(#[from] local::Reject),
    /// Nothing runs on this agent.
    #[error("nothing runs on this agent")]
    NoLocal,
    /// This agent is no server.
    #[error("this agent is not a server")]
    NotServer,
    /// This agent is not in that pool.
    #[error("this agent is not in that pool")]
    NotInPool,
    /// It is to be asked of the agent, not of one pool.
    #[error("to be asked of the agent, not of one pool")]
    NotByPool,
}

/// Why an agent wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// For the server within.
    Server(crate::Timer),
    /// For a member of a pool.
    Gossip(Pool),
    /// For what runs on this agent.
    Local(local::Timer),
    /// A duty is due.
    Duty,
    /// The leader is to see whether the catalog says what gossip says.
    Reconcile,
    /// A leave has taken long enough.
    Leave,
}

impl From<crate::Input> for Input {
    fn from(input: crate::Input) -> Self {
        Self::Server(input)
    }
}
