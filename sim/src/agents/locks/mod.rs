//! Processes on the machines of agents contend for locks, write under their protection, and repeat under idempotency keys what they got
//! no answer to, while everything breaks.
//!
//! Two oracles judge that. The `witness` carries out once more what is committed, and holds every single step against what may happen to
//! sessions, locks, fences, lock delays and kept answers, and when. The `promises` know what each process was told, and when: in true
//! time there is never more than one that may rely on holding a lock. In the calm that follows the faults everybody gets every lock
//! again, and when all have gone nothing is left.

mod contender;
mod errands;
mod facts;
mod play;
mod promises;
pub mod run;
mod seen;
pub mod swarm;
mod witness;
mod writer;

use bytes::Bytes;
use lictor_catalog::Key;

pub(in crate::agents) use errands::{Answer, Bearer, Errand, ErrandId, Failure, Via};
pub(in crate::agents) use play::{Actor, Play};
pub use seen::Seen;

/// The names of locks begin so.
const LOCKS: &[u8] = b"lock/";

/// Those of counters do so.
const COUNTERS: &[u8] = b"count/";

fn lock_key(number: u8) -> Key {
    Key::from(format!("lock/{number}"))
}

/// What a lock protects.
fn data_key(number: u8) -> Key {
    Key::from(format!("data/{number}"))
}

fn counter_key(number: u8) -> Key {
    Key::from(format!("count/{number}"))
}

fn is_lock(key: &[u8]) -> bool {
    key.starts_with(LOCKS)
}

fn is_counter(key: &[u8]) -> bool {
    key.starts_with(COUNTERS)
}

/// The value of a write: every one has a number of its own. Counters hold their count, which is none.
fn value_bytes(number: u64) -> Bytes {
    Bytes::from(format!("value {number}"))
}

fn value_number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value)
        .ok()?
        .strip_prefix("value ")?
        .parse()
        .ok()
}
