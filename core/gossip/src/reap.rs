//! Forgetting: who is gone for long enough, or has to make room.

use core::time::Duration;

use crate::gossip::{Gossip, Timer};
use crate::io::Effect;
use crate::member::{MemberEvent, MemberState};
use crate::members::{Slot, is_gone};
use crate::rounds::Topic;

impl Gossip {
    /// For how long a member in this state is kept.
    pub(crate) const fn keeping(&self, state: MemberState) -> Duration {
        match state {
            MemberState::Left => self.config.tombstone_timeout,
            MemberState::Alive | MemberState::Suspect | MemberState::Leaving | MemberState::Failed => {
                self.config.reconnect_timeout
            }
        }
    }

    /// Has a member forgotten in time, that has been gone for so long already.
    pub(crate) fn schedule_reaping(&mut self, slot: Slot, gone: Duration) {
        let state = self.table.member(slot).state;
        debug_assert!(is_gone(state), "only who is gone is forgotten");
        let at = self.now() + self.keeping(state).saturating_sub(gone);
        self.table.forget_at(slot, at);
        self.arm_reaping();
    }

    /// For how long a member has failed; zero for one that has not.
    pub(crate) fn failed_for(&self, slot: Slot) -> Duration {
        let left = self.table.forgotten_at(slot).map(|at| at.since(self.now()));
        left.map_or(Duration::ZERO, |left| {
            self.keeping(MemberState::Failed).saturating_sub(left)
        })
    }

    /// Forgets those whose time has come.
    pub(crate) fn reap_due(&mut self) {
        while let Some((at, slot)) = self.table.first_to_forget()
            && at <= self.now()
        {
            self.reap(slot);
        }
        self.arm_reaping();
    }

    /// Forgets a member, but not that it died.
    pub(crate) fn reap(&mut self, slot: Slot) {
        let time = self.table.time(slot);
        let member = self.table.remove(slot);
        let id = member.id;
        // What was said of it before is no news now either.
        self.early_intents.note(id, time, None);
        self.tombstones.bury(id, member.incarnation);
        self.clear_suspicion(id);
        self.contests.remove(&id);
        self.queue.remove(Topic::state(id));
        self.forget_coordinate(id);
        self.memory_changed();
        self.effects.push_back(Effect::Forget(id));
        self.emit(MemberEvent::Reaped(member));
    }

    /// Whether there is room for one more member; who has been gone for longest makes some.
    pub(crate) fn make_room(&mut self) -> bool {
        if self.table.len() < self.config.members_max {
            return true;
        }
        let Some((_, slot)) = self.table.first_to_forget() else {
            return false;
        };
        self.reap(slot);
        true
    }

    fn arm_reaping(&mut self) {
        if let Some((at, _)) = self.table.first_to_forget() {
            self.timers.set(Timer::Reap, at);
        }
    }
}
