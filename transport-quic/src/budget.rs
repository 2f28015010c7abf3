//! How much memory may go into what is open on one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use event_listener::Event;

/// What is at most this long is not counted, and never waits: how many there are is bounded elsewhere, and whoever asks whether a peer is
/// there must not wait behind what keeps it busy.
pub(crate) const FREE_BYTES: usize = 4096;

/// Bytes that are taken and given back. Clones are of the same budget.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget(Arc<Account>);

#[derive(Debug, Default)]
struct Account {
    taken: AtomicUsize,
    given_back: Event,
    /// Held by the one that waits next: in a line, so that the large come to their turn.
    line: async_lock::Mutex<()>,
}

/// A part of a budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// Takes this much if no more than `limit` is taken then; or if nothing is, so that nothing is too large for ever.
    pub(crate) fn try_take(&self, bytes: usize, limit: usize) -> Option<Share> {
        if bytes <= FREE_BYTES {
            return Some(self.share(0));
        }
        let with = |taken: usize| {
            let with = taken.saturating_add(bytes);
            (taken == 0 || with <= limit).then_some(with)
        };
        let taken = &self.0.taken;
        let done = taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, with);
        done.is_ok().then(|| self.share(bytes))
    }

    /// Waits until it can be taken.
    pub(crate) async fn take(&self, bytes: usize, limit: usize) -> Share {
        if bytes <= FREE_BYTES {
            return self.share(0);
        }
        let _turn = self.0.line.lock().await;
        loop {
            if let Some(share) = self.try_take(bytes, limit) {
                return share;
            }
            let given_back = self.0.given_back.listen();
            // It may have been just before.
            if let Some(share) = self.try_take(bytes, limit) {
                return share;
            }
            given_back.await;
        }
    }

    /// Takes this much, whatever is taken already: it is there.
    pub(crate) fn charge(&self, bytes: usize) -> Share {
        self.0.taken.fetch_add(bytes, Ordering::AcqRel);
        self.share(bytes)
    }

    fn share(&self, bytes: usize) -> Share {
        Share {
            budget: self.clone(),
            bytes,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let account = &self.budget.0;
            account.taken.fetch_sub(self.bytes, Ordering::AcqRel);
            account.given_back.notify(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    const LIMIT: usize = 10 * FREE_BYTES;

    #[test]
    fn no_more_is_taken_than_there_is_and_one_always_fits() {
        let budget = Budget::default();
        let all = budget.try_take(LIMIT, LIMIT).unwrap();
        assert!(budget.try_take(FREE_BYTES + 1, LIMIT).is_none());
        let small = budget.try_take(FREE_BYTES, LIMIT);
        assert!(small.is_some(), "what is small is not counted");
        drop(all);
        let huge = budget.try_take(LIMIT * 100, LIMIT).unwrap();
        assert!(budget.try_take(FREE_BYTES + 1, LIMIT).is_none());
        drop((small, huge));
        assert!(budget.try_take(LIMIT, LIMIT).is_some());
    }

    #[test]
    fn those_who_wait_have_their_turn_in_order() {
        block_on(async {
            let budget = Budget::default();
            let first = budget.charge(LIMIT + 1);
            let mut large = Box::pin(budget.take(LIMIT, LIMIT));
            let mut small = Box::pin(budget.take(LIMIT / 2, LIMIT));
            assert!(poll_once(&mut large).await.is_none());
            assert!(poll_once(&mut small).await.is_none());
            drop(first);
            assert!(poll_once(&mut small).await.is_none(), "it came later");
            let large = poll_once(&mut large).await.unwrap();
            assert!(poll_once(&mut small).await.is_none());
            drop(large);
            assert!(poll_once(&mut small).await.is_some());
        });
    }

    #[test]
    fn who_gives_up_waiting_holds_nobody_up() {
        block_on(async {
            let budget = Budget::default();
            let first = budget.charge(LIMIT);
            let mut gives_up = Box::pin(budget.take(LIMIT, LIMIT));
            let mut stays = Box::pin(budget.take(LIMIT, LIMIT));
            assert!(poll_once(&mut gives_up).await.is_none());
            assert!(poll_once(&mut stays).await.is_none());
            drop(gives_up);
            drop(first);
            assert!(poll_once(&mut stays).await.is_some());
        });
    }
}
