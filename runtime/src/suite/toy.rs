//! A machine with no purpose but to be driven, and an outlet that keeps what it is given.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lictor_machine::{Clamped, Deadline, Instant, Machine, Now};

use crate::driver::{Envelope, Outlet};
use crate::inbox::{Completions, Inbox};

#[derive(Debug)]
pub(super) enum Input {
    /// Say it.
    Say(u64),
    /// Say every number below this.
    Count(u64),
    /// Refuse it.
    Refuse(u64),
    /// Ring this long from now; replaces an earlier alarm.
    Ring(Duration),
    /// Fail.
    Break,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Said(u64),
    Rang { due: Instant, now: Instant },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ring;

/// What the machine fails with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reject {
    Refused(u64),
    AlreadyBroken,
}

#[derive(Debug, Default)]
pub(super) struct Toy {
    clock: Clamped,
    effects: VecDeque<Effect>,
    alarm: Option<Instant>,
    fault: Option<Broken>,
}

impl Toy {
    /// One that has something to say from the start.
    pub(super) fn that_says(words: impl IntoIterator<Item = u64>) -> Self {
        Self {
            effects: words.into_iter().map(Effect::Said).collect(),
            ..Self::default()
        }
    }
}

impl Machine for Toy {
    type Input = Input;
    type Effect = Effect;
    type Reject = Reject;
    type Timer = Ring;
    type Fault = Broken;

    fn handle(&mut self, now: Now, input: Input) -> Result<(), Reject> {
        if self.fault.is_some() {
            return Err(Reject::AlreadyBroken);
        }
        let now = self.clock.advance(now.mono);
        match input {
            Input::Say(word) => self.effects.push_back(Effect::Said(word)),
            Input::Count(bound) => self.effects.extend((0..bound).map(Effect::Said)),
            Input::Refuse(word) => return Err(Reject::Refused(word)),
            Input::Ring(after) => self.alarm = Some(now + after),
            Input::Break => self.fault = Some(Broken),
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Now) {
        let now = self.clock.advance(now.mono);
        if let Some(due) = self.alarm.take_if(|due| *due <= now) {
            self.effects.push_back(Effect::Rang { due, now });
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        if self.fault.is_some() {
            None
        } else {
            self.effects.pop_front()
        }
    }

    fn poll_timeout(&self) -> Option<Deadline<Ring>> {
        self.alarm.map(|at| Deadline { at, reason: Ring })
    }

    fn fault(&self) -> Option<&Broken> {
        self.fault.as_ref()
    }
}

pub(super) type Letter = Envelope<Input, u64>;

/// An input whose tag is nobody's business.
pub(super) fn untagged(input: Input) -> Letter {
    Envelope { input, tag: 0 }
}

/// What came out of the loop so far; shared with the case that looks at it.
#[derive(Clone, Debug, Default)]
pub(super) struct Record(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) effects: Vec<Effect>,
    pub(super) accepted: Vec<u64>,
    pub(super) rejected: Vec<(u64, Reject)>,
    pub(super) flushes: usize,
    /// The most effects that one flush covered.
    pub(super) largest_turn: usize,
}

impl Record {
    pub(super) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every word said, in order.
    pub(super) fn said(&self) -> Vec<u64> {
        let words = |effect: &Effect| match effect {
            Effect::Said(word) => Some(*word),
            Effect::Rang { .. } => None,
        };
        self.lock().effects.iter().filter_map(words).collect()
    }

    /// When the alarm was due and when it rang.
    pub(super) fn rang(&self) -> Option<(Instant, Instant)> {
        self.lock().effects.iter().find_map(|effect| match effect {
            Effect::Said(_) => None,
            Effect::Rang { due, now } => Some((*due, *now)),
        })
    }
}

/// Keeps a record, and does what a case needs beside.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) record: Record,
    downstream: Option<Inbox<u64>>,
    echo: Option<Completions<Letter>>,
    /// The words of the turn that were not passed on yet.
    words: VecDeque<u64>,
    /// How many effects the turn had so far.
    turn: usize,
}

impl Outbox {
    /// Passes every word on in `flush`, one by one, waiting for room.
    pub(super) fn passing_on(downstream: Inbox<u64>) -> Self {
        Self {
            downstream: Some(downstream),
            ..Self::default()
        }
    }

    /// Answers every word by the next word, until the alarm rings: the loop never runs out of inputs.
    pub(super) fn echoing(echo: Completions<Letter>) -> Self {
        Self {
            echo: Some(echo),
            ..Self::default()
        }
    }
}

impl Outlet<Toy> for Outbox {
    type Tag = u64;

    fn turn_started(&mut self, _now: Now, _inputs: usize) {
        self.turn = 0;
    }

    fn accepted(&mut self, tag: u64) {
        self.record.lock().accepted.push(tag);
    }

    fn rejected(&mut self, tag: u64, reject: Reject) {
        self.record.lock().rejected.push((tag, reject));
    }

    fn effect(&mut self, effect: Effect) {
        self.turn += 1;
        match effect {
            Effect::Said(word) => {
                if self.downstream.is_some() {
                    self.words.push_back(word);
                }
                if let Some(echo) = &self.echo {
                    let next = untagged(Input::Say(word + 1));
                    echo.push(next)
                        .expect("the loop runs, and nobody stopped it while it echoes");
                }
            }
            Effect::Rang { .. } => self.echo = None,
        }
        // Echoes without end would fill the memory.
        if self.echo.is_none() {
            self.record.lock().effects.push(effect);
        }
    }

    async fn flush(&mut self) {
        {
            let mut seen = self.record.lock();
            seen.flushes += 1;
            seen.largest_turn = seen.largest_turn.max(self.turn);
        }
        let Some(downstream) = &self.downstream else {
            return;
        };
        while let Some(word) = self.words.pop_front() {
            downstream
                .send(word)
                .await
                .expect("the case reads until the loop has ended");
        }
    }
}
