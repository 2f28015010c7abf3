//! A process that counts: it reads a counter and asks for the next number, under an idempotency key, again and again until it is
//! answered, of whichever agent; and now and then once more after that, as if it had not heard.

use core::time::Duration;

use lictor_catalog::{Action, IdempotencyKey, KvEntry, KvPair, KvTxnOp, KvWrite, Once, Outcome, TxnOp};
use lictor_machine::{Index, Instant, Rng};
use lictor_raft::ReadMode;

use super::counter_key;
use super::errands::{Answer, Errand, Told};
use crate::agents::world::violation;
use crate::oracles::{Check, Violation, ensure};

/// A change that it wants.
#[derive(Clone, Debug)]
struct Job {
    action: Action,
    /// When it asked first.
    since: Instant,
    /// What it was answered first, and for what in the log.
    first: Option<(Index, Outcome)>,
    /// How often it will ask after it was answered.
    again: u64,
}

/// What became of its changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// It was told that it counted.
    pub(super) counted: u64,
    /// It was never told anything.
    pub(super) unknown: u64,
}

/// See the module.
pub(super) struct Writer {
    pub(super) rng: Rng,
    pub(super) counter: u8,
    job: Option<Job>,
    /// How long it asks for the same.
    persists: Duration,
    pub(super) account: Account,
    /// It begins nothing any more.
    pub(super) leaving: bool,
}

impl Writer {
    pub(super) const fn new(rng: Rng, counter: u8, persists: Duration) -> Self {
        Self {
            rng,
            counter,
            job: None,
            persists,
            account: Account {
                counted: 0,
                unknown: 0,
            },
            leaving: false,
        }
    }

    /// Whether it wanted to go, and has no change under way.
    pub(super) const fn has_gone(&self) -> bool {
        self.leaving && self.job.is_none()
    }

    /// What it asks for next; `None`: nothing more.
    pub(super) fn next(&mut self) -> Option<Errand> {
        match &self.job {
            Some(job) => Some(Errand::Write(job.action.clone())),
            None if self.leaving => None,
            None => Some(Errand::Read(counter_key(self.counter), ReadMode::Lease)),
        }
    }

    /// Takes note of what came of that; `replaced` says whether an archive took the place of everything between two changes. Returns how
    /// long it waits before it goes on.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        answer: Answer,
        replaced: impl Fn(Index, Index) -> bool,
    ) -> Result<Duration, Violation> {
        let soon = self
            .rng
            .between(Duration::from_millis(1), Duration::from_millis(200));
        match (&mut self.job, answer) {
            (None, Ok(Told::Entry(entry))) => {
                let action = self.count(entry.as_deref())?;
                let again = if self.rng.chance(1, 3) {
                    1 + self.rng.below(2)
                } else {
                    0
                };
                self.job = Some(Job {
                    action,
                    since: now,
                    first: None,
                    again,
                });
            }
            (Some(job), Ok(Told::Written(index, outcome))) => {
                if let Some((at, first)) = &job.first {
                    // Restoring an archive undoes what came after it, and answers with it.
                    same(first, &outcome, replaced(*at, index))?;
                } else {
                    let counted = matches!(outcome, Outcome::Done(true) | Outcome::Txn(Ok(_)));
                    self.account.counted += u64::from(counted);
                    job.first = Some((index, outcome));
                }
                let over = now.since(job.since) >= self.persists;
                if job.again == 0 || over {
                    self.job = None;
                } else {
                    job.again -= 1;
                    return Ok(soon * 10);
                }
            }
            (Some(job), Err(_)) if now.since(job.since) >= self.persists => {
                self.account.unknown += u64::from(job.first.is_none());
                self.job = None;
            }
            (Some(_) | None, Err(_)) => {}
            (job, Ok(told)) => {
                return Err(violation(
                    "requests are answered",
                    format!("{job:?} is answered {told:?}"),
                ));
            }
        }
        Ok(soon)
    }

    /// What counts one further than this.
    fn count(&mut self, entry: Option<&KvEntry>) -> Result<Action, Violation> {
        let key = counter_key(self.counter);
        let (count, index) = match entry {
            Some(entry) => (count_in(entry)?, entry.modify_index),
            None => (0, Index::ZERO),
        };
        let pair = KvPair {
            key: key.clone(),
            value: (count + 1).to_string().into(),
            flags: 0,
        };
        let plain = if self.rng.chance(1, 2) {
            Action::Kv(KvWrite::Cas(pair, index))
        } else {
            let condition = match entry {
                Some(_) => KvTxnOp::CheckIndex(key, index),
                None => KvTxnOp::CheckNotExists(key),
            };
            Action::Txn([condition, KvTxnOp::Set(pair)].map(TxnOp::Kv).into())
        };
        let name = IdempotencyKey::of(&[&self.rng.next_u64().to_be_bytes()]);
        let once = Once::new(name, &plain);
        let once =
            once.ok_or_else(|| violation("changes of keys take idempotency keys", format!("{plain:?}")))?;
        Ok(Action::Once(Box::new(once)))
    }
}

fn same(first: &Outcome, again: &Outcome, replaced: bool) -> Check {
    ensure(
        "a repeated change happens once",
        replaced || first == again,
        || format!("the answer is {again:?}, and was {first:?} the first time"),
    )
}

/// What a counter says.
pub(super) fn count_in(entry: &KvEntry) -> Result<u64, Violation> {
    let text = String::from_utf8_lossy(&entry.value);
    text.parse()
        .map_err(|_| violation("counters count", format!("one says {text:?}")))
}
