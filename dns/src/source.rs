//! Where answers come from.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lictor_catalog::{Found, Instance, Query, State};
use lictor_machine::Index;

/// The agent, as its DNS sees it. Every method may be called from many tasks at once; futures may be dropped at any time.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// The catalog of the own data center, if this agent has it and has ever heard a leader. Asked for every query, so it must cost next to
    /// nothing. An agent without a catalog always says `None`.
    fn snapshot(&self) -> Option<Snapshot>;

    /// Whether there is a data center of this name, as far as is known without asking anybody.
    fn has_datacenter(&self, name: &str) -> bool;

    /// Answers a question about a catalog, or waits for a newer answer: see [`Ask`].
    async fn find(&self, ask: Ask) -> Result<Reading, Failure>;

    /// Carries out a prepared query. `None`: there is none with this name or id.
    async fn execute(&self, execute: Execute) -> Result<Option<Execution>, Failure> {
        let _ = execute;
        Ok(None)
    }
}

/// The catalog of the own data center at one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// The catalog.
    pub state: Arc<State>,
    /// Another number after the state was replaced as a whole, as by a restored snapshot: then its indexes say nothing about what has
    /// changed.
    pub generation: u64,
    /// How long ago the leader was heard; 0 on the leader itself.
    pub age: Duration,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("index", &self.state.index())
            .field("generation", &self.generation)
            .field("age", &self.age)
            .finish()
    }
}

/// A question about a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The data center; `None` is the own.
    pub datacenter: Option<String>,
    /// What is asked.
    pub query: Query,
    /// Who may answer.
    pub freshness: Freshness,
    /// With anything but 0: wait for an answer with a larger index, or until [`Self::wait`] has passed.
    pub after: Index,
    /// How long to wait for that.
    pub wait: Duration,
}

/// Who may answer a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// Any server that heard the leader not longer ago than this.
    Stale {
        /// How long ago.
        max: Duration,
    },
    /// The leader.
    Leader,
}

/// An answer, and how good it is.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The version of the answer.
    pub index: Index,
    /// How long ago whoever answered heard the leader.
    pub age: Duration,
    /// The answer.
    pub found: Arc<Found>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no such data center.
    #[error("there is no data center {0:?}")]
    NoSuchDatacenter(String),
    /// Nobody could be asked, or nobody knew; the text says why.
    #[error("{0}")]
    Unavailable(String),
}

/// A prepared query to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execute {
    /// The data center that is asked for; `None` is the own.
    pub datacenter: Option<String>,
    /// Its name or id, or a name that a template is for; in lower case.
    pub name: String,
    /// Who may answer.
    pub freshness: Freshness,
    /// Whose query it is, for those that prefer what is near: the client, or the net that it speaks for.
    pub client: IpAddr,
    /// How many instances are wanted at most; 0: all.
    pub limit: usize,
}

/// What a prepared query found.
#[derive(Clone, Debug)]
pub struct Execution {
    /// The service that it names.
    pub service: String,
    /// The data center that the instances are in.
    pub datacenter: String,
    /// The instances, without those that are not well enough, in order.
    pub instances: Vec<Instance>,
    /// Whether the order means something. If not, they are shuffled.
    pub ordered: bool,
    /// How long others may keep the answer; `None`: as for the service.
    pub ttl: Option<Duration>,
}
