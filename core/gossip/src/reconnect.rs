//! Finding those again who are lost: one that failed now and then, and, for who has lost everybody, anybody at all, for ever.

use core::time::Duration;

use lictor_machine::NodeId;

use crate::calls::Purpose;
use crate::gossip::{Gossip, Timer};
use crate::io::Target;
use crate::leave::Phase;
use crate::members::Slot;
use crate::statement::Step;

/// How many are tried at once by a member that is alone.
const AT_ONCE: usize = 3;

/// Between the first attempts of a member that is alone; doubled after each, up to the interval of the settings.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

impl Gossip {
    /// Looks for those who are remembered, at once.
    pub(crate) fn seek(&mut self) {
        if !self.remembered.is_empty() && !self.keeps_apart {
            self.timers.set_if_none(Timer::Reconnect, self.now());
        }
    }

    /// Somebody is lost: sees to it that they are tried again.
    pub(crate) fn arm_reconnect(&mut self) {
        if self.phase != Phase::Present || self.keeps_apart {
            return;
        }
        let alone = self.table.here() == 0;
        let ever_known = self.table.len() > 1 || !self.remembered.is_empty();
        if self.table.failed() == 0 && !(alone && ever_known) {
            return;
        }
        let interval = self.config.reconnect_interval;
        let pause = if alone {
            let doubled = FIRST_PAUSE.saturating_mul(1 << self.attempts.min(16));
            doubled.min(interval)
        } else {
            interval
        };
        let jitter = self.rng.between(pause.mul_f64(0.75), pause.mul_f64(1.25));
        self.timers.set_if_none(Timer::Reconnect, self.now() + jitter);
    }

    /// Tries again.
    pub(crate) fn reconnect(&mut self) {
        if self.table.here() == 0 {
            self.seek_anybody();
        } else {
            self.attempts = 0;
            // All together try about as many as have failed, however many they are (as Serf does).
            let (failed, here) = (self.table.failed() as u64, self.table.here() as u64);
            if self.rng.chance(failed, here)
                && let Some(slot) = self.table.random_failed(&mut self.rng)
            {
                let id = self.table.member(slot).id;
                self.sync(Target::Node(id));
            }
        }
        self.arm_reconnect();
    }

    /// Takes turns among all who were ever heard of: also one that left may be back.
    fn seek_anybody(&mut self) {
        let lost = self.lost();
        let step = if self.fresh { Step::Join } else { Step::Sync };
        let first = (self.attempts as usize).wrapping_mul(AT_ONCE);
        for nth in 0..AT_ONCE.min(lost.len()) {
            let target = lost[first.wrapping_add(nth) % lost.len()];
            let request = self.sync_request(step);
            self.call(target, request, self.config.stream_timeout, Purpose::Sync);
        }
        self.attempts = self.attempts.saturating_add(1);
    }

    fn lost(&self) -> Vec<Target> {
        let known = |id: NodeId| self.table.find(id).is_some();
        let remembered = self.remembered.iter().filter(|peer| !known(peer.id));
        let remembered = remembered.map(|peer| Target::Address(peer.address));
        let others = self.table.iter().filter(|(slot, _)| *slot != Slot::ME);
        let others = others.map(|(_, member)| Target::Node(member.id));
        remembered.chain(others).collect()
    }
}
