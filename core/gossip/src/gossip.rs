//! The member as a machine.

use core::convert::Infallible;
use std::collections::VecDeque;
use std::sync::Arc;

use lictor_machine::{Deadline, Machine, NodeId, Now};

use crate::config::{Config, ConfigError};
use crate::coordinate::Coordinate;
use crate::io::{Effect, Input, Memory};
use crate::member::{Incarnation, Member, MemberState};
use crate::stats::Stats;

/// One member of one pool.
#[derive(Debug)]
pub struct Gossip {
    me: Arc<Member>,
    effects: VecDeque<Effect>,
    coordinate: Coordinate,
    stats: Stats,
}

/// Why an input was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The effects are not being taken away.
    #[error("too many effects wait to be taken")]
    Busy,
}

/// Why a member wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The next probe is due.
    Probe,
}

impl Gossip {
    /// A member that knows nobody yet but those it remembers.
    pub fn start(config: Config, memory: Memory, _now: Now) -> Result<Self, ConfigError> {
        config.check()?;
        let me = Member {
            id: config.id,
            name: config.name,
            address: config.address,
            tags: config.tags,
            incarnation: Incarnation(memory.incarnation.0 + 1),
            state: MemberState::Alive,
        };
        Ok(Self {
            me: Arc::new(me),
            effects: VecDeque::new(),
            coordinate: Coordinate {
                vector: [0.0; crate::coordinate::DIMENSIONS],
                error: 1.5,
                adjustment: 0.0,
                height: 1e-5,
            },
            stats: Stats::default(),
        })
    }

    /// All members that are known, in any state, this one among them; in no particular but a reproducible order.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        core::iter::once(&self.me)
    }

    /// The member with this id.
    pub fn member(&self, id: NodeId) -> Option<&Arc<Member>> {
        (self.me.id == id).then_some(&self.me)
    }

    /// The member with this name; of several, as there may be while they come and go, the one that is not gone.
    pub fn member_by_name(&self, name: &str) -> Option<&Arc<Member>> {
        (self.me.name == name).then_some(&self.me)
    }

    /// This member.
    pub fn me(&self) -> &Arc<Member> {
        &self.me
    }

    /// How many members are well, this one among them.
    pub fn size(&self) -> usize {
        1
    }

    /// Local health (Lifeguard §IV-A): 0 is best, [`Config::awareness_max`] worst.
    pub fn health(&self) -> u32 {
        0
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// Where this member is in the network.
    pub fn coordinate(&self) -> &Coordinate {
        &self.coordinate
    }

    /// Where another is, as far as it has said so.
    pub fn coordinate_of(&self, id: NodeId) -> Option<&Coordinate> {
        (id == self.me.id).then_some(&self.coordinate)
    }
}

impl Machine for Gossip {
    type Input = Input;
    type Effect = Effect;
    type Reject = Reject;
    type Timer = Timer;
    type Fault = Infallible;

    fn handle(&mut self, _now: Now, _input: Input) -> Result<(), Reject> {
        Ok(())
    }

    fn handle_timeout(&mut self, _now: Now) {}

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline<Timer>> {
        None
    }

    fn fault(&self) -> Option<&Infallible> {
        None
    }
}
