//! One agent with what surrounds it: a disk, a clock, and what its driver knows.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use lictor_catalog::State;
use lictor_gossip::Tags;
use lictor_local::Question;
use lictor_machine::{Instant, NodeId, Token};
use lictor_node::agent::{Agent, Input, Memories, Pool};
use lictor_node::{ClusterId, Standing};

use super::asks::Asker;
use super::locks::{Bearer, Errand};
use super::post::Post;
use crate::clock::LocalClock;
use crate::disk::Disk;
use crate::gossip::seat::Place;
use crate::workload::Op;

/// See the module.
pub(super) struct Seat {
    pub(super) server: bool,
    pub(super) tags: Tags,
    pub(super) agent: Option<Agent>,
    pub(super) clock: LocalClock,
    pub(super) place: Place,
    /// It will be elsewhere when it is started next.
    pub(super) moves: bool,
    /// Names that it had before.
    pub(super) former_names: Vec<String>,
    /// It does not come back.
    pub(super) retired: bool,
    pub(super) disk: Disk,
    pub(super) memories: Memories,
    /// What readers see.
    pub(super) published: State,
    pub(super) standing: Option<Standing>,
    /// The cluster that it speaks for.
    pub(super) cluster: Option<ClusterId>,
    pub(super) routes: BTreeMap<(Pool, NodeId), SocketAddr>,
    /// When the latest message of each lane arrives: lanes keep their order.
    pub(super) lanes: BTreeMap<(usize, lictor_raft::Lane), Instant>,
    /// Requests without an answer.
    pub(super) open: BTreeMap<Token, Op>,
    /// Questions of agents and others, of a server, without an answer.
    pub(super) asks: BTreeMap<Token, (Asker, Question)>,
    /// Requests of processes, to a server, without an answer.
    pub(super) errands: BTreeMap<Token, (Bearer, Errand)>,
    /// What runs on this machine.
    pub(super) post: Post,
    pub(super) wake_at: Instant,
    pub(super) frozen: bool,
    /// When it was last frozen.
    pub(super) resumed_at: Instant,
    /// What waits for a frozen agent; with the call that it is, if it is one.
    pub(super) inbox: VecDeque<(Option<u64>, Input)>,
}

impl Seat {
    /// An agent that was never started.
    pub(super) fn new(place: Place, server: bool, tags: Tags) -> Self {
        Self {
            server,
            tags,
            agent: None,
            clock: LocalClock::start(Instant::ZERO, 0),
            place,
            moves: false,
            former_names: Vec::new(),
            retired: false,
            disk: Disk::default(),
            memories: Memories::default(),
            published: State::new(),
            standing: None,
            cluster: None,
            routes: BTreeMap::new(),
            lanes: BTreeMap::new(),
            open: BTreeMap::new(),
            asks: BTreeMap::new(),
            errands: BTreeMap::new(),
            post: Post::default(),
            wake_at: Instant::MAX,
            frozen: false,
            resumed_at: Instant::ZERO,
            inbox: VecDeque::new(),
        }
    }

    /// The process ends; what is on its disk is another matter.
    pub(super) fn stop(&mut self) {
        self.agent = None;
        self.standing = None;
        self.routes.clear();
        self.lanes.clear();
        self.open.clear();
        self.asks.clear();
        self.errands.clear();
        self.post.stop();
        self.inbox.clear();
        self.wake_at = Instant::MAX;
        self.frozen = false;
    }
}
