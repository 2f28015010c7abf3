//! Taking an archive in: what to ask of the leader next, and what to make of its answers; and the leader's care for archives that
//! nobody brings to an end.

use bytes::Bytes;
use core::time::Duration;
use lictor_catalog::{Action, Outcome, RestoreId, RestoreStep};
use lictor_machine::{Index, Instant};

use crate::io::{Answer, RequestError};
use crate::node::Node;

/// How long one step is tried again and again while nobody leads.
const PATIENCE: Duration = Duration::from_mins(1);

/// After so long without another step an archive has been given up, in the eyes of the leader.
const ABANDONED: Duration = Duration::from_mins(3);

/// An archive on its way into the catalog, as whoever takes it in sees it: any server, for steps are writes like others. Every step
/// is asked for until it is known to be done, so a change of leader does no harm; and one step at a time, so they come in order.
#[derive(Debug)]
pub struct Restoring {
    id: RestoreId,
    index: Index,
    chunks: u64,
    /// How many steps are done: the beginning, the chunks, the end.
    done: u64,
    /// When the last of them was.
    since: Instant,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Ask for the next step.
    Next,
    /// Ask for the same step again, soon.
    Again,
    /// All is done: the archive has taken the place of everything.
    Restored,
    /// It has failed.
    Failed(RestoreError),
}

/// Why an archive was not restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The servers do not take it. Nothing was changed.
    #[error("the archive was not restored: {0}")]
    Refused(String),
    /// It could not be brought to its end. Nothing was changed.
    #[error("the archive was not restored: {0}")]
    Failed(RequestError),
    /// The last step was asked for, and whether it was done is not known.
    #[error("{0}: whether the archive was restored is not known")]
    Unknown(RequestError),
}

impl Restoring {
    /// Nothing is done yet. The archive is of `index` and has `chunks` chunks; `id` is drawn at random.
    pub const fn new(id: RestoreId, index: Index, chunks: u64, now: Instant) -> Self {
        Self {
            id,
            index,
            chunks,
            done: 0,
            since: now,
        }
    }

    /// The chunk that [`Self::next`] needs; `None`: none.
    pub fn wanted(&self) -> Option<u64> {
        let number = self.done.checked_sub(1)?;
        (number < self.chunks).then_some(number)
    }

    /// The step to ask for, with the rows of the chunk that is [wanted](Self::wanted).
    pub fn next(&self, rows: Bytes) -> Action {
        let id = self.id;
        Action::Restore(match (self.done, self.wanted()) {
            (0, _) => RestoreStep::Begin {
                id,
                index: self.index,
            },
            (_, Some(number)) => RestoreStep::Chunk { id, number, rows },
            (_, None) => RestoreStep::Finish {
                id,
                chunks: self.chunks,
            },
        })
    }

    /// Gives it up: worth asking for after a failure, once, so that the servers need not keep what has come.
    pub const fn abandon(&self) -> Action {
        Action::Restore(RestoreStep::Abandon(self.id))
    }

    /// Takes note of the answer to what was asked for.
    pub fn answered(&mut self, now: Instant, answer: Answer) -> Progress {
        let error = match answer {
            Answer::Written {
                outcome: Outcome::Done(true),
                ..
            } => {
                self.since = now;
                self.done += 1;
                return if self.done == self.chunks + 2 {
                    Progress::Restored
                } else {
                    Progress::Next
                };
            }
            Answer::Written {
                outcome: Outcome::Refused(why),
                ..
            } => return Progress::Failed(RestoreError::Refused(why)),
            Answer::Failed(error) => error,
            // Not answers to a step.
            Answer::Written { .. }
            | Answer::Readable { .. }
            | Answer::Transferred
            | Answer::Operator(_)
            | Answer::Renewed(_) => RequestError::LeadershipLost,
        };
        let passing = match error {
            RequestError::NoLeader | RequestError::LeadershipLost | RequestError::Busy => true,
            RequestError::TooLarge { .. }
            | RequestError::Stopped(_)
            | RequestError::NotTransferred(_)
            | RequestError::Refused(_) => false,
        };
        if passing && now.since(self.since) < PATIENCE {
            return Progress::Again;
        }
        Progress::Failed(if self.done == self.chunks + 1 {
            // An earlier attempt at the last step may have been the one that counts.
            RestoreError::Unknown(error)
        } else {
            RestoreError::Failed(error)
        })
    }
}

/// An archive that a leader has seen come in, how far, and since when it has not come any further.
pub(crate) type Seen = Option<(RestoreId, u64, Instant)>;

impl Node {
    /// The leader drops what has come of an archive that does not come any further: whoever took it in is gone.
    pub(crate) fn look_for_abandoned_archives(&mut self) {
        let now = self.now();
        let Some((id, chunks)) = self.state.restoring() else {
            self.applying.archive = None;
            return;
        };
        match self.applying.archive {
            Some((seen, so_far, since)) if (seen, so_far) == (id, chunks) => {
                if now.since(since) >= ABANDONED {
                    // Refused when busy: then the next look does it.
                    self.do_duty(Action::Restore(RestoreStep::Abandon(id)));
                }
            }
            Some(_) | None => self.applying.archive = Some((id, chunks, now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RestoreId = RestoreId(7);

    fn done() -> Answer {
        Answer::Written {
            index: Index(1),
            outcome: Outcome::Done(true),
        }
    }

    fn rows() -> Bytes {
        Bytes::from_static(b"rows")
    }

    #[test]
    fn the_steps_follow_each_other() {
        let now = Instant::from_millis(1);
        let mut restoring = Restoring::new(ID, Index(9), 2, now);
        let mut steps = Vec::new();
        loop {
            let rows = restoring.wanted().map_or_else(Bytes::new, |_| rows());
            steps.push(restoring.next(rows));
            match restoring.answered(now, done()) {
                Progress::Next => {}
                Progress::Restored => break,
                other @ (Progress::Again | Progress::Failed(_)) => panic!("{other:?}"),
            }
        }
        let chunk = |number| RestoreStep::Chunk {
            id: ID,
            number,
            rows: rows(),
        };
        let begin = RestoreStep::Begin {
            id: ID,
            index: Index(9),
        };
        let expected = [
            begin,
            chunk(0),
            chunk(1),
            RestoreStep::Finish { id: ID, chunks: 2 },
        ];
        assert_eq!(steps, expected.map(Action::Restore));
    }

    #[test]
    fn what_is_not_known_to_be_done_is_asked_for_again_but_not_for_ever() {
        let start = Instant::from_millis(1);
        let mut restoring = Restoring::new(ID, Index(9), 0, start);
        for error in [
            RequestError::NoLeader,
            RequestError::LeadershipLost,
            RequestError::Busy,
        ] {
            let before = restoring.next(Bytes::new());
            assert_eq!(restoring.answered(start, Answer::Failed(error)), Progress::Again);
            assert_eq!(restoring.next(Bytes::new()), before);
        }
        let late = start + PATIENCE;
        let failed = restoring.answered(late, Answer::Failed(RequestError::NoLeader));
        assert_eq!(
            failed,
            Progress::Failed(RestoreError::Failed(RequestError::NoLeader))
        );
        // Patience begins anew with every step; and what the last one has done is not known.
        assert_eq!(restoring.answered(late, done()), Progress::Next);
        let again = restoring.answered(late, Answer::Failed(RequestError::NoLeader));
        assert_eq!(again, Progress::Again);
        let failed = restoring.answered(late + PATIENCE, Answer::Failed(RequestError::NoLeader));
        assert_eq!(
            failed,
            Progress::Failed(RestoreError::Unknown(RequestError::NoLeader))
        );
    }

    #[test]
    fn a_refusal_ends_it_at_once() {
        let now = Instant::from_millis(1);
        let mut restoring = Restoring::new(ID, Index(9), 1, now);
        let refused = Answer::Written {
            index: Index(1),
            outcome: Outcome::Refused("no".into()),
        };
        let failed = restoring.answered(now, refused);
        assert_eq!(failed, Progress::Failed(RestoreError::Refused("no".into())));
        let large = RequestError::TooLarge { size: 2, limit: 1 };
        let failed = restoring.answered(now, Answer::Failed(large.clone()));
        assert_eq!(failed, Progress::Failed(RestoreError::Failed(large)));
        assert_eq!(restoring.abandon(), Action::Restore(RestoreStep::Abandon(ID)));
    }
}
