//! When, and whom, to ask for events that this member lacks.

use core::time::Duration;

use lictor_machine::{Instant, NodeId};

use crate::event::EventDigest;

/// The longest pause between two questions, in rounds of gossip, while the answers bring nothing.
const MAX_PAUSE: u32 = 256;

/// Somebody has events that this member may lack.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    peer: NodeId,
    /// What it has; `None` if it only had one event that this member lacked.
    digest: Option<EventDigest>,
    /// When to ask, if the events do not come by themselves.
    at: Instant,
}

/// A question that is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) peer: NodeId,
    /// Whether everything was asked for.
    pub(super) whole: bool,
}

/// One question at a time, and fewer while they bring nothing.
#[derive(Debug)]
pub(super) struct Pull {
    gossip_interval: Duration,
    doubt: Option<Doubt>,
    asked: Option<Asked>,
    /// The next question is about everything, since the recent ones alone do not explain the difference.
    whole: bool,
    not_before: Instant,
    /// In rounds of gossip.
    pause: u32,
}

impl Pull {
    pub(super) const fn new(gossip_interval: Duration) -> Self {
        Self {
            gossip_interval,
            doubt: None,
            asked: None,
            whole: false,
            not_before: Instant::ZERO,
            pause: 1,
        }
    }

    /// `peer` has something else. It may be on its way, so it is asked for after `patience`.
    pub(super) fn differs(
        &mut self,
        now: Instant,
        peer: NodeId,
        digest: Option<EventDigest>,
        patience: Duration,
    ) {
        let at = (now + patience).max(self.not_before);
        let at = self.doubt.map_or(at, |doubt| doubt.at.min(at));
        // Who spoke last is most likely still to have it.
        self.doubt = Some(Doubt { peer, digest, at });
    }

    /// `peer` has the same.
    pub(super) fn agrees(&mut self, peer: NodeId) {
        if self.doubt.is_some_and(|doubt| doubt.peer == peer) {
            self.doubt = None;
        }
        self.pause = 1;
        self.whole = false;
    }

    /// A question that is due, unless what made it so has come by itself: this member has `digest` now. It is taken for asked until
    /// [`Pull::answered`].
    pub(super) fn ask(&mut self, now: Instant, digest: EventDigest) -> Option<Asked> {
        if self.asked.is_some() {
            return None;
        }
        let doubt = self.doubt.take_if(|doubt| doubt.at <= now)?;
        if doubt.digest == Some(digest) {
            return None;
        }
        let asked = Asked {
            peer: doubt.peer,
            whole: core::mem::take(&mut self.whole),
        };
        self.asked = Some(asked);
        Some(asked)
    }

    /// When a question is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.asked {
            Some(_) => None,
            None => self.doubt.map(|doubt| doubt.at),
        }
    }

    /// The question has had an answer, or will have none.
    pub(super) fn answered(&mut self, now: Instant, outcome: Outcome) {
        let Some(asked) = self.asked.take() else { return };
        let again = match outcome {
            Outcome::Failed | Outcome::Nothing => {
                self.pause = (self.pause * 2).min(MAX_PAUSE);
                false
            }
            Outcome::All => {
                self.pause = 1;
                false
            }
            Outcome::More => {
                self.pause = 1;
                self.whole = asked.whole;
                true
            }
            Outcome::DiffersBelow => {
                self.whole = true;
                !asked.whole
            }
        };
        if again {
            self.doubt = Some(Doubt {
                peer: asked.peer,
                digest: None,
                at: now,
            });
        } else {
            self.not_before = now + self.gossip_interval * self.pause;
            if let Some(doubt) = &mut self.doubt {
                doubt.at = doubt.at.max(self.not_before);
            }
        }
    }
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No answer.
    Failed,
    /// Nothing new.
    Nothing,
    /// All that was lacking.
    All,
    /// A part of what was lacking.
    More,
    /// What was asked for, and the difference is in what was not.
    DiffersBelow,
}
