//! The published state, and who waits for a change of it.
//!
//! Readers take the state from here without touching the node's loop. The loop publishes a new state, and notes what was touched,
//! in constant time however many wait; waking them is the business of a task of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use arc_swap::ArcSwap;
use event_listener::Event;
use futures::channel::oneshot;
use lictor_catalog::{Interest, State, Touched, WatchId, Watches, WatchesFull};
use lictor_machine::NodeId;
use lictor_node::Standing;

/// How many may wait for changes at once.
const WATCHES_MAX: usize = 250_000;

/// More touches than this, waiting to be looked up, are taken for "everything".
const TOUCHED_MAX: usize = 1 << 20;

/// What readers see.
#[derive(Debug)]
pub(crate) struct View {
    state: ArcSwap<State>,
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
pub(crate) struct Watch {
    view: Arc<View>,
    id: WatchId,
    woken: oneshot::Receiver<()>,
}

impl Watch {
    /// Waits until what is watched may have changed.
    pub(crate) async fn changed(&mut self) {
        // A dropped sender means that the registry is gone, and with it the agent.
        let _ = (&mut self.woken).await;
    }
}

impl Drop for Watch {
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
        self.state.store(Arc::new(state));
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

    /// Waits for changes of what `interest` names, from now on.
    pub(crate) fn watch(self: &Arc<Self>, interest: Interest) -> Result<Watch, WatchesFull> {
        let (sender, woken) = oneshot::channel();
        let id = lock(&self.watches).subscribe(interest, sender)?;
        self.watching.fetch_add(1, Ordering::SeqCst);
        Ok(Watch {
            view: Arc::clone(self),
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
            for sender in woken.drain(..) {
                // One who stopped waiting just now does not mind.
                let _ = sender.send(());
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
    use lictor_catalog::{Action, Changes, Command, KvPair, KvWrite, Query, Touch};
    use lictor_machine::{Index, UnixMillis};
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
            value: "v".into(),
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
            assert!(poll_once(Box::pin(on_a.changed())).await.is_some());
            assert!(poll_once(Box::pin(on_b.changed())).await.is_none());
            view.publish(State::new(), Touched::All);
            assert!(poll_once(&mut waking).await.is_none());
            assert!(poll_once(Box::pin(on_b.changed())).await.is_some());
        });
    }

    #[test]
    fn many_changes_between_two_wakings_are_one_waking() {
        block_on(async {
            let view = view();
            let mut waking = Box::pin(Arc::clone(&view).wake_watchers());
            assert!(poll_once(&mut waking).await.is_none());
            let mut watches: Vec<Watch> = ["a", "b", "c"].map(|name| view.watch(key(name)).unwrap()).into();
            for (index, name) in (1..).zip(["a", "b"]) {
                let (state, touched) = set(&view, index, name);
                view.publish(state, touched);
            }
            assert!(poll_once(&mut waking).await.is_none());
            let mut woken = Vec::new();
            for watch in &mut watches {
                woken.push(poll_once(Box::pin(watch.changed())).await.is_some());
            }
            assert_eq!(woken, [true, true, false]);
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
