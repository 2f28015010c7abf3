//! The published state, and who waits for a change of it.
//!
//! Readers take the state from here without touching the node's loop. The loop publishes a new state, and notes what was touched,
//! in constant time however many wait; waking them is the business of a task of its own.

use std::collections::BTreeMap;
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_io::Timer;
use event_listener::Event;
use futures::channel::oneshot;
use futures_lite::future::yield_now;
use lictor_catalog::{Interest, Query, State, Touched, WatchId, Watches, WatchesFull};
use lictor_machine::{Index, NodeId};
use lictor_node::Standing;

/// How many may wait for changes at once.
const WATCHES_MAX: usize = 250_000;

/// How many are woken before all others on the executor have a turn: what these do with it takes about a millisecond.
const WAKE_AT_ONCE: usize = 64;

/// More touches than this, waiting to be looked up, are taken for "everything".
const TOUCHED_MAX: usize = 1 << 20;

/// What readers see.
#[derive(Debug)]
pub(crate) struct View {
    state: ArcSwap<State>,
    /// Goes up before and after the state is replaced as a whole.
    generation: AtomicU64,
    standing: ArcSwap<Standing>,
    addresses: RwLock<BTreeMap<NodeId, SocketAddr>>,
    watches: Mutex<Watches<oneshot::Sender<()>>>,
    /// How many watch, so that the loop need not ask under the lock.
    watching: AtomicUsize,
    /// What was touched and has not been looked up yet.
    touched: Mutex<Option<Touched>>,
    news: Event,
}

/// A place in the registry of watchers. Dropping it gives the place back.
struct Watch<'a> {
    view: &'a View,
    id: WatchId,
    woken: oneshot::Receiver<()>,
}

impl Watch<'_> {
    /// Waits until what is watched may have changed, or until `timeout`; whether it was the former.
    async fn changed_before(&mut self, timeout: &mut Timer) -> bool {
        poll_fn(|cx| {
            // A dropped sender means that the registry is gone, and with it the agent.
            if Pin::new(&mut self.woken).poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            Pin::new(&mut *timeout).poll(cx).map(|_| false)
        })
        .await
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut watches = lock(&self.view.watches);
        if watches.cancel(self.id).is_some() {
            self.view.watching.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl View {
    pub(crate) fn new(state: State, standing: Standing) -> Self {
        Self {
            state: ArcSwap::from_pointee(state),
            generation: AtomicU64::new(0),
            standing: ArcSwap::from_pointee(standing),
            addresses: RwLock::default(),
            watches: Mutex::new(Watches::new(WATCHES_MAX)),
            watching: AtomicUsize::new(0),
            touched: Mutex::new(None),
            news: Event::new(),
        }
    }

    pub(crate) fn state(&self) -> arc_swap::Guard<Arc<State>> {
        self.state.load()
    }

    /// The state, with a number that is another one after the state was replaced as a whole, by a snapshot: then nothing that was learned
    /// from the old one can be told to be still right by its indexes.
    pub(crate) fn state_and_generation(&self) -> (Arc<State>, u64) {
        loop {
            let before = self.generation.load(Ordering::SeqCst);
            let state = self.state.load_full();
            if self.generation.load(Ordering::SeqCst) == before {
                return (state, before);
            }
        }
    }

    pub(crate) fn standing(&self) -> arc_swap::Guard<Arc<Standing>> {
        self.standing.load()
    }

    pub(crate) fn set_standing(&self, standing: Standing) {
        self.standing.store(Arc::new(standing));
    }

    pub(crate) fn set_address(&self, node: NodeId, address: SocketAddr) {
        self.addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node, address);
    }

    /// Forgets where a node is that is not there any more.
    pub(crate) fn forget_address(&self, node: NodeId) {
        self.addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&node);
    }

    pub(crate) fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.addresses
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&node)
            .copied()
    }

    /// Makes `state` the one that readers see. Constant time.
    pub(crate) fn publish(&self, state: State, touched: Touched) {
        let replaced = matches!(touched, Touched::All);
        if replaced {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
        self.state.store(Arc::new(state));
        if replaced {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
        // A watcher counts itself before it reads the state. So either it is seen here, or it has seen this state.
        if touched.is_empty() || self.watching.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut waiting = lock(&self.touched);
        *waiting = Some(match waiting.take() {
            None => touched,
            Some(before) => merge(before, touched),
        });
        drop(waiting);
        self.news.notify(1);
    }

    /// How many wait for changes.
    pub(crate) fn watching(&self) -> usize {
        self.watching.load(Ordering::Relaxed)
    }

    /// Waits until the answer to `query` has an index above `seen`, but no longer than `wait`. Holds no answer meanwhile, so what it takes
    /// does not depend on how large answers are.
    pub(crate) async fn wait_for_change(
        &self,
        query: &Query,
        seen: Index,
        wait: Duration,
    ) -> Result<(), WatchesFull> {
        if self.has_changed(query, seen) {
            return Ok(());
        }
        let mut timeout = Timer::after(wait);
        loop {
            // First listen, then look: a change in between is not missed.
            let mut watch = self.watch(query.interest())?;
            if self.has_changed(query, seen) || !watch.changed_before(&mut timeout).await {
                return Ok(());
            }
        }
    }

    fn has_changed(&self, query: &Query, seen: Index) -> bool {
        let state = self.state();
        let index = state.index_of(query);
        index.unwrap_or_else(|| state.query(query).0) > seen
    }

    /// Waits for changes of what `interest` names, from now on.
    fn watch(&self, interest: Interest) -> Result<Watch<'_>, WatchesFull> {
        let (sender, woken) = oneshot::channel();
        let id = lock(&self.watches).subscribe(interest, sender)?;
        self.watching.fetch_add(1, Ordering::SeqCst);
        Ok(Watch {
            view: self,
            id,
            woken,
        })
    }

    /// Wakes watchers, for ever. One task of the agent runs this.
    pub(crate) async fn wake_watchers(self: Arc<Self>) {
        let mut woken = Vec::new();
        loop {
            let listener = self.news.listen();
            let touched = lock(&self.touched).take();
            let Some(touched) = touched else {
                listener.await;
                continue;
            };
            lock(&self.watches).take_touched(&touched, &mut woken);
            self.watching.fetch_sub(woken.len(), Ordering::SeqCst);
            while !woken.is_empty() {
                for sender in woken.drain(..woken.len().min(WAKE_AT_ONCE)) {
                    // One who stopped waiting just now does not mind.
                    let _ = sender.send(());
                }
                // However many there are, writes and heartbeats have their turn in between.
                yield_now().await;
            }
        }
    }
}

fn merge(before: Touched, after: Touched) -> Touched {
    match (before, after) {
        (Touched::These(mut before), Touched::These(after)) if before.len() + after.len() <= TOUCHED_MAX => {
            before.extend(after);
            Touched::These(before)
        }
        (Touched::These(_) | Touched::All, Touched::These(_) | Touched::All) => Touched::All,
    }
}

/// What these locks guard is sound after any step, so a poisoned one means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};
    use lictor_catalog::{Action, Changes, Command, KvPair, KvWrite, Touch};
    use lictor_machine::UnixMillis;
    use lictor_raft::{Configuration, Role, Term};

    use super::*;

    fn view() -> Arc<View> {
        Arc::new(View::new(
            State::new(),
            Standing {
                role: Role::Follower,
                term: Term::ZERO,
                leader: None,
                lease_until: None,
                leader_contact: None,
                members: Configuration::default(),
            },
        ))
    }

    /// The state after `key` is set, and what that touched.
    fn set(view: &View, index: u64, key: &'static str) -> (State, Touched) {
        let mut state = State::clone(&view.state());
        let pair = KvPair {
            key: key.into(),
            // Another one each time: what a write does not change nobody hears of.
            value: index.to_string().into(),
            flags: 0,
        };
        let command = Command {
            stamp: UnixMillis(0),
            action: Action::Kv(KvWrite::Set(pair)),
        };
        let mut changes = Changes::default();
        state.apply(Index(index), &command, &mut changes).unwrap();
        (state, changes.touched)
    }

    fn key(key: &'static str) -> Interest {
        Query::KvGet(key.into()).interest()
    }

    /// Whether it was woken already.
    async fn is_woken(watch: &mut Watch<'_>) -> bool {
        watch.changed_before(&mut Timer::after(Duration::ZERO)).await
    }

    #[test]
    fn who_is_not_there_any_more_takes_no_room() {
        let view = view();
        let at = "127.0.0.1:8300".parse().unwrap();
        view.set_address(NodeId(1), at);
        view.set_address(NodeId(2), at);
        view.forget_address(NodeId(1));
        assert_eq!(
            (view.address(NodeId(1)), view.address(NodeId(2))),
            (None, Some(at))
        );
    }

    #[test]
    fn only_those_who_watch_what_changed_are_woken() {
        block_on(async {
            let view = view();
            let mut waking = Box::pin(Arc::clone(&view).wake_watchers());
            let mut on_a = view.watch(key("a")).unwrap();
            let mut on_b = view.watch(key("b")).unwrap();
            let (state, touched) = set(&view, 1, "a");
            view.publish(state, touched);
            assert!(poll_once(&mut waking).await.is_none());
            assert!(is_woken(&mut on_a).await);
            assert!(!is_woken(&mut on_b).await);
            view.publish(State::new(), Touched::All);
            assert!(poll_once(&mut waking).await.is_none());
            assert!(is_woken(&mut on_b).await);
        });
    }

    #[test]
    fn a_state_that_is_replaced_as_a_whole_is_another_generation() {
        let view = view();
        let (_, first) = view.state_and_generation();
        let (state, touched) = set(&view, 1, "a");
        view.publish(state, touched);
        let (state, same) = view.state_and_generation();
        assert_eq!((state.index(), same), (Index(1), first));
        view.publish(State::new(), Touched::All);
        let (state, other) = view.state_and_generation();
        assert_eq!(state.index(), Index::ZERO);
        assert_ne!(other, first);
    }

    #[test]
    fn many_changes_between_two_wakings_are_one_waking() {
        block_on(async {
            let view = view();
            let mut waking = Box::pin(Arc::clone(&view).wake_watchers());
            assert!(poll_once(&mut waking).await.is_none());
            let mut watches: Vec<Watch<'_>> =
                ["a", "b", "c"].map(|name| view.watch(key(name)).unwrap()).into();
            for (index, name) in (1..).zip(["a", "b"]) {
                let (state, touched) = set(&view, index, name);
                view.publish(state, touched);
            }
            assert!(poll_once(&mut waking).await.is_none());
            let mut woken = Vec::new();
            for watch in &mut watches {
                woken.push(is_woken(watch).await);
            }
            assert_eq!(woken, [true, true, false]);
        });
    }

    #[test]
    fn who_waits_for_a_change_hears_of_that_one_only() {
        block_on(async {
            let view = view();
            let mut waking = Box::pin(Arc::clone(&view).wake_watchers());
            let query = Query::KvGet("a".into());
            let wait = |seen, wait| view.wait_for_change(&query, Index(seen), wait);
            wait(0, Duration::ZERO).await.unwrap();
            let (state, touched) = set(&view, 2, "a");
            view.publish(state, touched);
            // What has changed already is not waited for.
            wait(1, Duration::MAX).await.unwrap();

            let mut waiting = Box::pin(wait(2, Duration::MAX));
            for (index, name, heard) in [(3, "b", false), (4, "a", true)] {
                assert!(poll_once(&mut waiting).await.is_none());
                let (state, touched) = set(&view, index, name);
                view.publish(state, touched);
                assert!(poll_once(&mut waking).await.is_none());
                assert_eq!(poll_once(&mut waiting).await.is_some(), heard, "{name}");
            }
            assert!(lock(&view.watches).is_empty());
            // A wait that ends by itself is no failure.
            wait(4, Duration::from_millis(1)).await.unwrap();
        });
    }

    #[test]
    fn who_waits_takes_little_room() {
        let view = view();
        let query = Query::KvGet("a".into());
        let waiting = view.wait_for_change(&query, Index(1), Duration::MAX);
        assert!(size_of_val(&waiting) <= 384, "{} bytes", size_of_val(&waiting));
    }

    #[test]
    fn others_have_their_turn_while_many_are_woken() {
        block_on(async {
            let view = view();
            let mut waking = Box::pin(Arc::clone(&view).wake_watchers());
            let watches = (0..=2 * WAKE_AT_ONCE).map(|_| view.watch(key("a")).unwrap());
            let mut watches: Vec<Watch<'_>> = watches.collect();
            let (state, touched) = set(&view, 1, "a");
            view.publish(state, touched);
            for expected in [WAKE_AT_ONCE, 2 * WAKE_AT_ONCE, 2 * WAKE_AT_ONCE + 1] {
                assert!(poll_once(&mut waking).await.is_none());
                let mut woken = 0;
                for watch in &mut watches {
                    woken += usize::from(is_woken(watch).await);
                }
                assert_eq!(woken, expected);
            }
        });
    }

    #[test]
    fn a_dropped_watch_gives_its_place_back() {
        let view = view();
        drop((view.watch(key("a")).unwrap(), view.watch(key("a")).unwrap()));
        assert!(lock(&view.watches).is_empty());
        assert_eq!(view.watching.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_change_that_nobody_watches_costs_nothing_later() {
        let view = view();
        let (state, touched) = set(&view, 1, "a");
        view.publish(state, touched);
        assert!(lock(&view.touched).is_none());
        assert_eq!(view.state().index(), Index(1));
    }

    #[test]
    fn too_many_touched_keys_are_taken_for_everything() {
        let many = |count: usize| Touched::These(vec![Touch::Kv("k".into()); count]);
        assert!(matches!(merge(many(2), many(3)), Touched::These(touches) if touches.len() == 5));
        assert_eq!(merge(many(TOUCHED_MAX), many(1)), Touched::All);
        assert_eq!(merge(Touched::All, many(1)), Touched::All);
    }
}
