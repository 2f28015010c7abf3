//! Leaving in good order: first the intent, so that nobody takes the silence that follows for a failure; then the fact. Each is passed
//! on as often as any statement, and the whole takes a bounded time.

use std::sync::Arc;

use crate::gossip::{Gossip, Timer};
use crate::io::Effect;
use crate::member::{MemberEvent, MemberState};
use crate::members::Slot;
use crate::rounds::Topic;
use crate::statement::Statement;
use crate::wire::Part;

/// How far this member has come with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is here, and wants to be.
    Present,
    /// It tells others that it is about to leave. It still contradicts what is wrong.
    Leaving,
    /// It tells others that it has left.
    SayingGoodbye,
    /// It says nothing any more.
    Left,
}

impl Gossip {
    /// Begins to leave.
    pub(crate) fn leave(&mut self) {
        match self.phase {
            Phase::Present => {}
            Phase::Leaving | Phase::SayingGoodbye | Phase::Left => return,
        }
        self.phase = Phase::Leaving;
        let me = self.change(Slot::ME, |me| me.state = MemberState::Leaving);
        self.emit(MemberEvent::Updated(me));
        self.say_leave();
        self.timers
            .set(Timer::Leave, self.now() + self.config.leave_timeout / 2);
    }

    /// Says that this member, as it is now, is about to leave.
    pub(crate) fn say_leave(&mut self) {
        let time = self.intents.increment();
        let (id, incarnation) = (self.me().id, self.me().incarnation);
        self.table.set_time(Slot::ME, time);
        let leave = Part::Statement(Statement::Leave {
            id,
            incarnation,
            time,
            prune: false,
        });
        self.pass_on(Topic::intent(id), leave.encode());
    }

    /// A round of gossip is over: perhaps all that had to be said has been.
    pub(crate) fn flushed(&mut self) {
        let id = self.me().id;
        if self.phase == Phase::Leaving && !self.queue.contains(Topic::intent(id)) {
            self.say_goodbye();
        } else if self.phase == Phase::SayingGoodbye && !self.queue.contains(Topic::state(id)) {
            self.gone();
        }
    }

    /// This step of leaving takes too long: on to the next.
    pub(crate) fn leave_timeout(&mut self) {
        match self.phase {
            Phase::Leaving => self.say_goodbye(),
            Phase::SayingGoodbye => self.gone(),
            Phase::Present | Phase::Left => {}
        }
    }

    fn say_goodbye(&mut self) {
        self.phase = Phase::SayingGoodbye;
        let me = self.change(Slot::ME, |me| me.state = MemberState::Left);
        let left = Part::Statement(Statement::Left {
            id: me.id,
            incarnation: me.incarnation,
        });
        self.timers
            .set(Timer::Leave, self.now() + self.config.leave_timeout / 2);
        if self.table.here() == 0 {
            return self.gone();
        }
        self.pass_on(Topic::state(me.id), left.encode());
    }

    fn gone(&mut self) {
        self.phase = Phase::Left;
        self.abandon_joins();
        self.remember_now();
        self.timers.clear();
        self.queue.clear();
        self.suspicions.clear();
        self.calls.clear();
        self.contests.clear();
        let me = Arc::clone(self.me());
        self.emit(MemberEvent::Left(me));
        self.effects.push_back(Effect::Left);
    }
}
