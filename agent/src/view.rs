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

/// More keys than this, waiting to be looked up, are taken for "everything".
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
        (Touched::These { kv: mut before }, Touched::These { kv: after })
            if before.len() + after.len() <= TOUCHED_MAX =>
        {
            before.extend(after);
            Touched::These { kv: before }
        }
        (Touched::These { .. } | Touched::All, Touched::These { .. } | Touched::All) => Touched::All,
    }
}

/// What these locks guard is sound after any step, so a poisoned one means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
