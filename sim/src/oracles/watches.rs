//! Watches: whoever waits for a key and reads it anew whenever woken never misses a change, and never sees its index go back.

use lictor_catalog::{Interest, State, Touched, Watches};
use lictor_machine::Index;

use super::{Check, Chronicle, Violation, ensure};
use crate::workload::{Held, held, question};

const PROPERTY: &str = "watches without gaps";

/// What a watcher saw last.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    index: Index,
    held: Option<Held>,
}

/// A watcher of each key on each server.
pub(super) struct AllWatches {
    keys: u8,
    servers: Vec<OnServer>,
    woken: Vec<u8>,
}

struct OnServer {
    watches: Watches<u8>,
    seen: Vec<Seen>,
}

impl AllWatches {
    pub(super) fn new(servers: usize, keys: u8) -> Self {
        let on_server = || OnServer {
            watches: Watches::new(usize::from(keys)),
            seen: vec![Seen::default(); usize::from(keys)],
        };
        Self {
            keys,
            servers: (0..servers).map(|_| on_server()).collect(),
            woken: Vec::new(),
        }
    }

    /// The watchers of a server that has started begin anew.
    pub(super) fn booted(&mut self, at: usize, state: &State) -> Check {
        let on_server = &mut self.servers[at];
        on_server.watches = Watches::new(usize::from(self.keys));
        for key in 0..self.keys {
            on_server.seen[usize::from(key)] = look(state, key);
            on_server.watch(key)?;
        }
        Ok(())
    }

    pub(super) fn published(
        &mut self,
        chronicle: &Chronicle,
        at: usize,
        state: &State,
        touched: &Touched,
    ) -> Check {
        let on_server = &mut self.servers[at];
        on_server.watches.take_touched(touched, &mut self.woken);
        self.woken.sort_unstable();
        self.woken.dedup();
        for key in self.woken.drain(..) {
            let now = look(state, key);
            let before = core::mem::replace(&mut on_server.seen[usize::from(key)], now);
            ensure(PROPERTY, now.index >= before.index, || {
                format!(
                    "on server {} the index of key {key} went back from {} to {}",
                    at + 1,
                    before.index,
                    now.index
                )
            })?;
            on_server.watch(key)?;
        }
        for key in 0..self.keys {
            let (seen, now) = (on_server.seen[usize::from(key)].held, held(state, key));
            ensure(PROPERTY, seen == now, || {
                format!(
                    "on server {} key {key} changed from {seen:?} to {now:?}, and its watcher was not woken",
                    at + 1
                )
            })?;
            let expected = chronicle.reference().held(key, state.index());
            ensure(PROPERTY, now == expected, || {
                format!(
                    "on server {} key {key} holds {now:?} after {}, and should hold {expected:?}",
                    at + 1,
                    state.index()
                )
            })?;
        }
        Ok(())
    }
}

impl OnServer {
    fn watch(&mut self, key: u8) -> Check {
        let interest: Interest = question(key).interest();
        let subscribed = self.watches.subscribe(interest, key);
        subscribed.map(drop).map_err(|full| Violation {
            property: PROPERTY,
            detail: full.to_string(),
        })
    }
}

fn look(state: &State, key: u8) -> Seen {
    Seen {
        index: state.query(&question(key)).0,
        held: held(state, key),
    }
}
