//! What other agents answered, kept for agents that have no catalog of their own, and for other data centers.
//!
//! An answer that is wanted is watched: whoever gave it is asked to say when it changes, so a kept answer is as good as a new one, and costs
//! no way over the network. When nobody can be reached, what is kept is still said, as long as it is not too old.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::lock::Mutex as AsyncMutex;
use lictor_catalog::{Found, Query};
use lictor_machine::Index;
use lictor_runtime::{Runtime, Task};

use crate::source::{Ask, Failure, Freshness, Reading, Source};

/// How long whoever is asked waits for a change before they say that there is none.
const WATCH: Duration = Duration::from_mins(5);

/// How long after one change the next is asked for, so that what changes all the time does not go over the network all the time.
const PAUSE: Duration = Duration::from_millis(250);

/// The same for whole catalogs.
const PAUSE_ALL: Duration = Duration::from_secs(10);

/// How long an answer that nobody watches is as good as a new one.
const MOMENT: Duration = Duration::from_secs(1);

/// How long after a failure the next attempt is made, at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Kept answers, the least recently wanted of which make room for new ones.
#[derive(Debug)]
pub(crate) struct Kept(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Arc<dyn Source>,
    runtime: Runtime,
    /// How many are kept at most.
    limit: usize,
    /// How long an answer is watched after it was last wanted.
    keep_watching: Duration,
    began: Instant,
    places: Mutex<HashMap<Key, Place>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    datacenter: Option<String>,
    query: Query,
}

#[derive(Debug)]
struct Place {
    slot: Arc<Slot>,
    watching: Option<Task<()>>,
}

/// A kept answer. Times are in milliseconds since the beginning.
#[derive(Debug)]
pub(crate) struct Slot {
    current: Mutex<Option<Reading>>,
    /// Another number after each change of the answer.
    version: AtomicUsize,
    /// When it was last wanted.
    wanted: AtomicU64,
    /// When somebody last said that it is right; 0 if there is none.
    confirmed: AtomicU64,
    /// How long before that whoever said so had heard the leader, in milliseconds.
    lag: AtomicU64,
    /// When last nobody could be asked; 0 if somebody could be since then.
    failed: AtomicU64,
    /// Whether somebody has promised to say when it changes.
    watched: AtomicBool,
    /// Held by the one who fetches an answer. Within: why the last attempt failed, if one has.
    fetching: AsyncMutex<Option<Failure>>,
    /// How many attempts have failed.
    failures: AtomicUsize,
}

/// What an answer was made of, to see later whether it would be the same.
#[derive(Clone, Debug)]
pub(crate) struct KeptWitness {
    slot: Arc<Slot>,
    version: usize,
}

impl Kept {
    pub(crate) fn new(
        source: Arc<dyn Source>,
        runtime: Runtime,
        limit: usize,
        keep_watching: Duration,
    ) -> Self {
        Self(Arc::new(Shared {
            source,
            runtime,
            limit: limit.max(1),
            keep_watching,
            began: Instant::now(),
            places: Mutex::default(),
        }))
    }

    /// The answer to a query if it is there, and not older than `max`. Waits for nobody.
    pub(crate) fn peek(
        &self,
        datacenter: Option<&str>,
        query: &Query,
        max: Duration,
    ) -> Option<(Arc<Found>, KeptWitness)> {
        let key = Key {
            datacenter: datacenter.map(str::to_owned),
            query: query.clone(),
        };
        let slot = Arc::clone(&self.0.places().get(&key)?.slot);
        self.0.usable(&slot, max)
    }

    /// The answer to a query, not older than `max`: what is kept, or else what somebody answers now.
    pub(crate) async fn get(
        &self,
        datacenter: Option<&str>,
        query: &Query,
        max: Duration,
    ) -> Result<(Arc<Found>, KeptWitness), Failure> {
        let key = Key {
            datacenter: datacenter.map(str::to_owned),
            query: query.clone(),
        };
        let slot = self.0.slot(&key);
        let failures = slot.failures.load(Ordering::Acquire);
        let mut fetching = slot.fetching.lock().await;
        if let Some(kept) = self.0.usable(&slot, max) {
            return Ok(kept);
        }
        // Who waited for somebody else's attempt does not make the same one again: attempts may take long.
        if slot.failures.load(Ordering::Acquire) != failures
            && let Some(failure) = &*fetching
        {
            return Err(failure.clone());
        }
        match self.0.source.find(key.ask(Index::ZERO, max)).await {
            Ok(reading) if reading.age > max => Err(too_old(reading.age, max)),
            Ok(reading) => {
                let watchable = is_worth_watching(&reading.found);
                let kept = self.0.store(&slot, reading);
                drop(fetching);
                if watchable {
                    self.0.watch(&key, &slot);
                }
                Ok(kept)
            }
            Err(failure) => {
                slot.failed.store(self.0.now(), Ordering::Release);
                *fetching = Some(failure.clone());
                slot.failures.fetch_add(1, Ordering::AcqRel);
                self.0.usable(&slot, max).ok_or(failure)
            }
        }
    }

    /// How old what an answer was made of is; `None` if that has changed, or is older than `max`.
    pub(crate) fn stands(&self, witness: &KeptWitness, max: Duration) -> Option<Duration> {
        let now = self.0.now();
        witness.slot.wanted.store(now, Ordering::Relaxed);
        let same = witness.slot.version.load(Ordering::Acquire) == witness.version;
        (same && witness.slot.is_usable(now, max)).then(|| witness.slot.age(now))
    }

    /// How old what an answer was made of is.
    pub(crate) fn age(&self, witness: &KeptWitness) -> Duration {
        witness.slot.age(self.0.now())
    }

    /// How many answers are kept, and how old the oldest of those is that nobody vouches for.
    pub(crate) fn census(&self) -> (usize, Duration) {
        let now = self.0.now();
        let places = self.0.places();
        let ages = places.values().filter(|place| place.slot.lock().is_some());
        let ages = ages.filter(|place| !place.slot.is_current(now));
        let oldest = ages.map(|place| place.slot.age(now)).max().unwrap_or_default();
        (places.len(), oldest)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let places = std::mem::take(&mut *self.0.places());
        drop(places);
    }
}

impl Key {
    fn ask(&self, after: Index, max: Duration) -> Ask {
        Ask {
            datacenter: self.datacenter.clone(),
            query: self.query.clone(),
            freshness: Freshness::Stale { max },
            after,
            wait: if after == Index::ZERO {
                Duration::ZERO
            } else {
                WATCH
            },
        }
    }
}

impl Shared {
    /// No foreign code runs under the lock, so a poisoned one still guards a sound state.
    fn places(&self) -> MutexGuard<'_, HashMap<Key, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the beginning; never 0, which means "never".
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).map_or(u64::MAX, |now| now.saturating_add(1))
    }

    fn slot(&self, key: &Key) -> Arc<Slot> {
        let now = self.now();
        let mut places = self.places();
        if let Some(place) = places.get(key) {
            place.slot.wanted.store(now, Ordering::Relaxed);
            return Arc::clone(&place.slot);
        }
        let mut removed = None;
        if places.len() >= self.limit {
            let wanted = |place: &Place| place.slot.wanted.load(Ordering::Relaxed);
            let least = places.iter().min_by_key(|(_, place)| wanted(place));
            if let Some(least) = least.map(|(key, _)| key.clone()) {
                removed = places.remove(&least);
            }
        }
        let slot = Arc::new(Slot::new(now));
        let place = Place {
            slot: Arc::clone(&slot),
            watching: None,
        };
        places.insert(key.clone(), place);
        drop(places);
        drop(removed);
        slot
    }

    fn usable(&self, slot: &Arc<Slot>, max: Duration) -> Option<(Arc<Found>, KeptWitness)> {
        let now = self.now();
        slot.wanted.store(now, Ordering::Relaxed);
        // The version first: if the answer is replaced in between, the witness is of an older one and does not stand.
        let version = slot.version.load(Ordering::Acquire);
        let found = slot.lock().as_ref().map(|reading| Arc::clone(&reading.found))?;
        let witness = KeptWitness {
            slot: Arc::clone(slot),
            version,
        };
        slot.is_usable(now, max).then_some((found, witness))
    }

    /// Keeps an answer.
    fn store(&self, slot: &Arc<Slot>, reading: Reading) -> (Arc<Found>, KeptWitness) {
        let now = self.now();
        let found = Arc::clone(&reading.found);
        let lag = u64::try_from(reading.age.as_millis()).unwrap_or(u64::MAX);
        let mut current = slot.lock();
        let same = current.as_ref().is_some_and(|kept| kept.found == found);
        *current = Some(reading);
        let version = if same {
            slot.version.load(Ordering::Acquire)
        } else {
            slot.version.fetch_add(1, Ordering::AcqRel) + 1
        };
        slot.lag.store(lag, Ordering::Release);
        slot.confirmed.store(now, Ordering::Release);
        slot.failed.store(0, Ordering::Release);
        drop(current);
        let witness = KeptWitness {
            slot: Arc::clone(slot),
            version,
        };
        (found, witness)
    }

    /// Sees to it that a slot is watched.
    fn watch(self: &Arc<Self>, key: &Key, slot: &Arc<Slot>) {
        let mut places = self.places();
        let Some(place) = places.get_mut(key) else { return };
        if place.watching.is_some() || !Arc::ptr_eq(&place.slot, slot) {
            return;
        }
        let watching = keep_watching(Arc::downgrade(self), key.clone(), Arc::clone(slot));
        place.watching = Some(self.runtime.spawn(watching));
    }

    /// Ends the watching of a slot.
    fn unwatch(&self, key: &Key, slot: &Arc<Slot>) {
        slot.watched.store(false, Ordering::Release);
        let mut places = self.places();
        let forgotten = match places.get(key) {
            Some(place) if Arc::ptr_eq(&place.slot, slot) => places.remove(key),
            Some(_) | None => None,
        };
        drop(places);
        drop(forgotten);
    }
}

impl KeptWitness {
    /// Whether both are of the same answer.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.slot, &other.slot) && self.version == other.version
    }
}

impl Slot {
    /// One without an answer, that is wanted now.
    fn new(now: u64) -> Self {
        Self {
            current: Mutex::new(None),
            version: AtomicUsize::new(0),
            wanted: AtomicU64::new(now),
            confirmed: AtomicU64::new(0),
            lag: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            watched: AtomicBool::new(false),
            fetching: AsyncMutex::new(None),
            failures: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reading>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How old the answer is: since then it may have changed. Whoever promised to say so may meanwhile have lost the leader, so that what is
    /// watched grows old, too, until somebody says again that it is right.
    fn age(&self, now: u64) -> Duration {
        let since = now.saturating_sub(self.confirmed.load(Ordering::Acquire));
        let lag = self.lag.load(Ordering::Acquire);
        Duration::from_millis(since.saturating_add(lag))
    }

    /// Whether the answer is as good as a new one.
    fn is_current(&self, now: u64) -> bool {
        let since = now.saturating_sub(self.confirmed.load(Ordering::Acquire));
        self.watched.load(Ordering::Acquire) || Duration::from_millis(since) <= MOMENT
    }

    /// Whether to say it without asking anybody.
    fn is_usable(&self, now: u64, max: Duration) -> bool {
        let failed = self.failed.load(Ordering::Acquire);
        let just_failed = failed != 0 && Duration::from_millis(now.saturating_sub(failed)) <= RETRY.1;
        self.confirmed.load(Ordering::Acquire) != 0
            && self.age(now) <= max
            && (self.is_current(now) || just_failed)
    }
}

/// Has a slot's answer replaced when it changes, until nobody has wanted it for long enough.
async fn keep_watching(shared: Weak<Shared>, key: Key, slot: Arc<Slot>) {
    let mut retry = RETRY.0;
    let pause = if key.query == Query::NodeInfos {
        PAUSE_ALL
    } else {
        PAUSE
    };
    let mut failing = false;
    slot.watched.store(true, Ordering::Release);
    loop {
        let Some(alive) = shared.upgrade() else { return };
        let unwanted = alive.now().saturating_sub(slot.wanted.load(Ordering::Relaxed));
        if Duration::from_millis(unwanted) > alive.keep_watching {
            alive.unwatch(&key, &slot);
            return;
        }
        let (source, runtime) = (Arc::clone(&alive.source), alive.runtime.clone());
        let known = slot.lock().as_ref().map_or(Index::ZERO, |reading| reading.index);
        // After a failure it must soon be known how things are; else index 0 cannot be waited on, so 1 stands for it.
        let after = if failing { Index::ZERO } else { known.max(Index(1)) };
        drop(alive);
        let answer = source.find(key.ask(after, Duration::MAX)).await;
        let Some(alive) = shared.upgrade() else { return };
        match answer {
            Ok(reading) => {
                let worth = is_worth_watching(&reading.found);
                alive.store(&slot, reading);
                if !worth {
                    alive.unwatch(&key, &slot);
                    return;
                }
                slot.watched.store(true, Ordering::Release);
                retry = RETRY.0;
                drop(alive);
                if !std::mem::take(&mut failing) {
                    runtime.sleep(pause).await;
                }
            }
            Err(failure) => {
                tracing::debug!(query = ?key.query, %failure, "a kept answer is not vouched for");
                slot.failed.store(alive.now(), Ordering::Release);
                slot.watched.store(false, Ordering::Release);
                failing = true;
                drop(alive);
                runtime.sleep(retry).await;
                retry = (retry * 2).min(RETRY.1);
            }
        }
    }
}

/// Whether there is something. What is not there is asked for again when it is wanted: anybody can make up names.
fn is_worth_watching(found: &Found) -> bool {
    if let Found::NodeServices(node) = found {
        node.is_some()
    } else if let Found::Instances(instances) = found {
        !instances.is_empty()
    } else if let Found::NodeInfos(nodes) = found {
        !nodes.is_empty()
    } else {
        false
    }
}

fn too_old(age: Duration, max: Duration) -> Failure {
    Failure::Unavailable(format!(
        "the best answer is {} s old, and at most {} s are allowed",
        age.as_secs(),
        max.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_grows_old_as_well() {
        let slot = Slot::new(1);
        slot.confirmed.store(1, Ordering::Release);
        slot.lag.store(500, Ordering::Release);
        slot.watched.store(true, Ordering::Release);
        let seconds = Duration::from_secs;
        assert!(slot.is_usable(4_501, seconds(5)));
        assert!(!slot.is_usable(4_502, seconds(5)));
        assert!(slot.is_usable(4_502, seconds(6)));
        assert!(slot.is_current(4_502));
        slot.confirmed.store(4_502, Ordering::Release);
        slot.lag.store(0, Ordering::Release);
        assert!(slot.is_usable(9_502, seconds(5)));
    }
}
