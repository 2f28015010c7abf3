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
        if !self.remembered.is_empty() {
            self.timers.set_if_none(Timer::Reconnect, self.now());
        }
    }

    /// Somebody is lost: sees to it that they are tried again.
    pub(crate) fn arm_reconnect(&mut self) {
        if self.phase != Phase::Present {
            return;
        }
        let alone = self.table.here() == 0;
        let nobody = self.table.failed() == 0 && (!alone || self.remembered.is_empty());
        if nobody {
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

    fn seek_anybody(&mut self) {
        let step = if self.fresh { Step::Join } else { Step::Sync };
        for attempt in 0..AT_ONCE {
            let nth = (self.attempts as usize)
                .wrapping_mul(AT_ONCE)
                .wrapping_add(attempt);
            let Some(target) = self.nth_lost(nth, attempt) else {
                continue;
            };
            let request = self.sync_request(step);
            self.call(target, request, self.config.stream_timeout, Purpose::Sync);
        }
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Takes turns among those who are remembered, and one of those who failed every other time.
    fn nth_lost(&mut self, nth: usize, attempt: usize) -> Option<Target> {
        let failed = if attempt % 2 == 1 || self.remembered.is_empty() {
            let slot = self.table.random_failed(&mut self.rng);
            slot.map(|slot: Slot| self.table.member(slot).id)
        } else {
            None
        };
        if let Some(id) = failed {
            return Some(Target::Node(id));
        }
        let count = self.remembered.len();
        if count == 0 || attempt >= count {
            return None;
        }
        let peer = &self.remembered[nth % count];
        let known: Option<NodeId> = self.member(peer.id).map(|member| member.id);
        Some(known.map_or(Target::Address(peer.address), Target::Node))
    }
}
