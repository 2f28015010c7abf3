//! How much memory may go into what is open on a connection, or of a peer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use event_listener::Event;
use lictor_machine::NodeId;

use crate::plane::Plane;
use crate::shared::lock;

/// What is at most this long is not counted, and never waits: how many there are is bounded elsewhere, and whoever asks whether a peer is
/// there must not wait behind what keeps it busy.
pub(crate) const FREE_BYTES: usize = 4096;

/// Peers that are remembered before it is looked for those of whom nothing is open any more.
const PEERS_MIN: usize = 64;

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
    /// Takes this much if no more than `limit` is taken then. What is larger than all of that is taken if no more than half is, so that
    /// nothing is too large for ever, nor waits until everybody else is done.
    pub(crate) fn try_take(&self, bytes: usize, limit: usize) -> Option<Share> {
        if bytes <= FREE_BYTES {
            return Some(self.share(0));
        }
        let with = |taken: usize| {
            let with = taken.saturating_add(bytes);
            let fits = with <= limit || (bytes > limit && taken <= limit / 2);
            fits.then_some(with)
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
        if bytes <= FREE_BYTES {
            return self.share(0);
        }
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

/// The budgets of all peers, each for all its connections of a plane: as many as it may make, it has no more memory of this agent. They
/// are known by the identities that certificates vouch for.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Accounts>);

#[derive(Debug, Default)]
struct Accounts {
    /// Of requests, and of answers. Whoever has a budget, or a part of it, keeps the account.
    peers: HashMap<(NodeId, Plane), (Weak<Account>, Weak<Account>)>,
    /// How many there are when it is looked next for those that are closed.
    sweep_at: usize,
}

impl Ledger {
    /// What this peer asks, and what it is answered.
    pub(crate) fn of(&self, peer: NodeId, plane: Plane) -> (Budget, Budget) {
        let open = |account: &Weak<Account>| account.strong_count() > 0;
        let mut accounts = lock(&self.0);
        if accounts.peers.len() >= accounts.sweep_at {
            accounts
                .peers
                .retain(|_, (asked, answers)| open(asked) || open(answers));
            accounts.sweep_at = PEERS_MIN.max(accounts.peers.len() * 2);
        }
        let (asked, answers) = accounts.peers.entry((peer, plane)).or_default();
        let budget = |account: &mut Weak<Account>| {
            let budget = account.upgrade().map(Budget).unwrap_or_default();
            *account = Arc::downgrade(&budget.0);
            budget
        };
        (budget(asked), budget(answers))
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
    fn what_is_larger_than_the_limit_goes_beside_what_is_half_of_it() {
        let budget = Budget::default();
        let half = budget.charge(LIMIT / 2);
        assert!(budget.try_take(LIMIT, LIMIT).is_none(), "it will fit later");
        let huge = budget.try_take(LIMIT + 1, LIMIT).unwrap();
        drop(half);
        assert!(budget.try_take(LIMIT + 1, LIMIT).is_none());
        drop(huge);
        let more = budget.charge(LIMIT / 2 + 1);
        assert!(budget.try_take(LIMIT + 1, LIMIT).is_none());
        drop(more);
    }

    #[test]
    fn what_is_small_is_not_counted_when_it_is_there_already() {
        let budget = Budget::default();
        let small: Vec<Share> = (0..100).map(|_| budget.charge(FREE_BYTES)).collect();
        assert!(budget.try_take(LIMIT, LIMIT).is_some());
        drop(small);
    }

    #[test]
    fn a_peer_has_one_account_for_each_plane_as_long_as_anything_of_it_is_open() {
        let ledger = Ledger::default();
        let peer = NodeId(7);
        let (asked, answers) = ledger.of(peer, Plane::Rpc);
        let share = asked.try_take(LIMIT, LIMIT).unwrap();
        let (again, _) = ledger.of(peer, Plane::Rpc);
        assert!(again.try_take(LIMIT, LIMIT).is_none());
        assert!(answers.try_take(LIMIT, LIMIT).is_some(), "another account");
        for (node, plane) in [(peer, Plane::Wan), (NodeId(8), Plane::Rpc)] {
            assert!(ledger.of(node, plane).0.try_take(LIMIT, LIMIT).is_some());
        }
        // Its connections are gone, and what came on them is still being worked on.
        drop((asked, again, answers));
        assert!(ledger.of(peer, Plane::Rpc).0.try_take(LIMIT, LIMIT).is_none());
        drop(share);
        assert!(ledger.of(peer, Plane::Rpc).0.try_take(LIMIT, LIMIT).is_some());
    }

    #[test]
    fn peers_that_are_gone_are_forgotten() {
        let ledger = Ledger::default();
        let kept = ledger.of(NodeId(0), Plane::Rpc);
        let share = kept.0.try_take(LIMIT, LIMIT).unwrap();
        for node in 1..100_000 {
            drop(ledger.of(NodeId(node), Plane::Rpc));
            assert!(lock(&ledger.0).peers.len() <= PEERS_MIN);
        }
        drop(kept);
        assert!(
            ledger
                .of(NodeId(0), Plane::Rpc)
                .0
                .try_take(LIMIT, LIMIT)
                .is_none()
        );
        drop(share);
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
