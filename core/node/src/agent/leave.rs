//! Leaving and stopping.
//!
//! To leave, an agent tells its pools, and a server has the others take it out of the configuration: it hands leadership over first, so
//! that somebody else can. When all that is done, or was waited for long enough, the server within stops, and the agent is gone.

use lictor_gossip as gossip;
use lictor_machine::Instant;

use super::{Agent, Effect, Pool};
use crate::io as server;

/// How far an agent is with leaving, or stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// It waits for what is still false, until the deadline.
    Going {
        lan: bool,
        wan: bool,
        removed: bool,
        deadline: Instant,
    },
    /// It waits for the server within to stop; after that it has left, or only stopped.
    Stopping {
        left: bool,
    },
    Done,
}

impl Leaving {
    pub(super) fn has_begun(self) -> bool {
        self != Self::No
    }

    pub(super) const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Going { deadline, .. } => Some(deadline),
            Self::No | Self::Stopping { .. } | Self::Done => None,
        }
    }
}

impl Agent {
    pub(super) fn leave(&mut self) {
        if self.leaving.has_begun() {
            return;
        }
        self.leaving = Leaving::Going {
            lan: false,
            wan: self.wan.is_none(),
            removed: self.server.is_none(),
            deadline: self.clock.latest() + self.config.leave_timeout,
        };
        if let Some(local) = &mut self.local {
            // The leader removes this node from the catalog: nothing may bring it back.
            local.cease();
        }
        self.server_input(server::Input::Leave);
        for pool in [Pool::Lan, Pool::Wan] {
            self.gossip_input(pool, gossip::Input::Leave);
        }
    }

    pub(super) fn stop(&mut self) {
        if matches!(self.leaving, Leaving::Stopping { .. } | Leaving::Done) {
            return;
        }
        self.stop_server(false);
    }

    pub(super) fn pool_left(&mut self, pool: Pool) {
        if let Leaving::Going { lan, wan, .. } = &mut self.leaving {
            match pool {
                Pool::Lan => *lan = true,
                Pool::Wan => *wan = true,
            }
        }
        self.go_on_leaving();
    }

    pub(super) fn removed(&mut self) {
        if let Leaving::Going { removed, .. } = &mut self.leaving {
            *removed = true;
        }
        self.go_on_leaving();
    }

    pub(super) fn leave_timeout(&mut self, now: Instant) {
        if self.leaving.deadline().is_some_and(|deadline| deadline <= now) {
            self.stop_server(true);
        }
    }

    pub(super) fn server_stopped(&mut self) {
        if let Leaving::Stopping { left } = self.leaving {
            self.leaving = Leaving::Done;
            self.out
                .push_back(if left { Effect::Left } else { Effect::Stopped });
        }
    }

    fn go_on_leaving(&mut self) {
        let done = Leaving::Going {
            lan: true,
            wan: true,
            removed: true,
            deadline: self.leaving.deadline().unwrap_or_default(),
        };
        if self.leaving == done {
            self.stop_server(true);
        }
    }

    fn stop_server(&mut self, left: bool) {
        self.leaving = Leaving::Stopping { left };
        if self.server.is_none() || self.fault_of_server() {
            self.server_stopped();
        } else {
            self.server_input(server::Input::Stop);
        }
    }

    fn fault_of_server(&self) -> bool {
        lictor_machine::Machine::fault(self).is_some()
    }
}
