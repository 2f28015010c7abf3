//! Encoded answers, kept for those who ask the same.
//!
//! When a service changes, everybody who watches it wakes at the same moment and gets the same bytes. They are encoded, and compressed, once.
//! A kept answer is only given again for *equal records*, which is cheap to see, since records that did not change are the same
//! allocation; so nothing here depends on indexes, and nothing has to be told when something changes.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_lock::Mutex as AsyncMutex;
use lictor_catalog::{Found, Query};

use crate::load::{Held, Load};
use crate::offload::offload;
use crate::reply::compress;

/// How many bytes all kept answers have together, at most.
const MAX_BYTES: usize = 64 << 20;

/// How many bytes a kept answer has, at most.
const MAX_BYTES_EACH: usize = MAX_BYTES / 8;

/// How many answers are kept, at most.
const MAX_KEPT: usize = 1024;

/// An encoded answer, and the same compressed, once somebody wanted that.
#[derive(Debug)]
pub(crate) struct Rendering {
    pub(crate) plain: Arc<[u8]>,
    gzip: OnceLock<Arc<[u8]>>,
    _room: Held,
}

impl PartialEq for Rendering {
    fn eq(&self, other: &Self) -> bool {
        self.plain == other.plain
    }
}

impl Eq for Rendering {}

impl Rendering {
    fn new(plain: Vec<u8>, load: &Arc<Load>) -> Self {
        Self {
            _room: load.answer(with_gzip(plain.len())),
            plain: plain.into(),
            gzip: OnceLock::new(),
        }
    }

    /// The answer as gzip.
    pub(crate) async fn compressed(&self) -> Arc<[u8]> {
        if let Some(gzip) = self.gzip.get() {
            return Arc::clone(gzip);
        }
        let plain = Arc::clone(&self.plain);
        let gzip: Arc<[u8]> = offload(plain.len(), move || compress(&plain)).await.into();
        // If somebody else was faster, that one is as good, and this one is not kept.
        Arc::clone(self.gzip.get_or_init(|| gzip))
    }
}

/// All that an answer depends on but for the records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// What was asked of the catalog.
    pub(crate) query: Query,
    /// What else the answer depends on, as text: the endpoint, and parameters in their order.
    pub(crate) shape: String,
}

/// Kept answers, the least recently wanted of which make room for new ones.
#[derive(Debug)]
pub(crate) struct Renderings {
    kept: Mutex<Kept>,
    load: Arc<Load>,
}

#[derive(Debug, Default)]
struct Kept {
    places: HashMap<Question, Place>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Place {
    /// Held while the answer is made, so that it is made once.
    made: Arc<AsyncMutex<Option<Made>>>,
    bytes: usize,
    used: u64,
}

#[derive(Debug)]
struct Made {
    found: Arc<Found>,
    rendering: Arc<Rendering>,
}

impl Renderings {
    /// None yet. What is there counts as answers of `load`.
    pub(crate) fn new(load: Arc<Load>) -> Self {
        Self {
            kept: Mutex::default(),
            load,
        }
    }

    /// The answer to `question` out of `found`, and whether it was there already; `make` encodes it if not.
    pub(crate) async fn get_or_make<F>(
        &self,
        question: Question,
        found: Arc<Found>,
        make: impl FnOnce(Arc<Found>) -> F,
    ) -> (Arc<Rendering>, bool)
    where
        F: Future<Output = Vec<u8>>,
    {
        let place = self.place(&question);
        let mut made = place.lock().await;
        if let Some(kept) = &*made
            && kept.found == found
        {
            return (Arc::clone(&kept.rendering), true);
        }
        let rendering = Arc::new(Rendering::new(make(Arc::clone(&found)).await, &self.load));
        *made = Some(Made {
            found,
            rendering: Arc::clone(&rendering),
        });
        self.account(&question, rendering.plain.len());
        (rendering, false)
    }

    fn place(&self, question: &Question) -> Arc<AsyncMutex<Option<Made>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let used = kept.clock;
        if let Some(place) = kept.places.get_mut(question) {
            place.used = used;
            return Arc::clone(&place.made);
        }
        let place = Place {
            made: Arc::default(),
            bytes: 0,
            used,
        };
        let made = Arc::clone(&place.made);
        kept.places.insert(question.clone(), place);
        kept.make_room();
        made
    }

    fn account(&self, question: &Question, bytes: usize) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = with_gzip(bytes);
        if bytes > MAX_BYTES_EACH {
            // Those who wait for it at this moment still share it.
            kept.forget(question);
            return;
        }
        let Some(place) = kept.places.get_mut(question) else {
            return;
        };
        let before = std::mem::replace(&mut place.bytes, bytes);
        kept.bytes = kept.bytes + bytes - before;
        kept.make_room();
    }
}

/// How many bytes an answer of so many takes with its compressed form, about.
const fn with_gzip(bytes: usize) -> usize {
    bytes + bytes / 4
}

impl Kept {
    fn make_room(&mut self) {
        while self.places.len() > MAX_KEPT || self.bytes > MAX_BYTES {
            let oldest = self.places.iter().min_by_key(|(_, place)| place.used);
            let Some(oldest) = oldest.map(|(question, _)| question.clone()) else {
                return;
            };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, question: &Question) {
        if let Some(place) = self.places.remove(question) {
            self.bytes -= place.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_lite::future::block_on;
    use lictor_catalog::Status;
    use lictor_metrics::Registry;

    use super::*;
    use crate::server::Limits;

    fn renderings() -> Renderings {
        Renderings::new(Load::new(&Limits::default(), &Registry::new()))
    }

    fn question(number: usize) -> Question {
        Question {
            query: Query::Nodes,
            shape: number.to_string(),
        }
    }

    fn ask(renderings: &Renderings, number: usize, found: Found, bytes: usize) -> (usize, bool) {
        let made = Cell::new(false);
        let (rendering, kept) = block_on(renderings.get_or_make(question(number), Arc::new(found), |_| {
            made.set(true);
            async { vec![0; bytes] }
        }));
        assert_eq!(made.get(), !kept);
        (rendering.plain.len(), kept)
    }

    #[test]
    fn the_same_question_about_equal_records_is_rendered_once() {
        let renderings = renderings();
        assert_eq!(ask(&renderings, 1, Found::Nodes(vec![]), 5), (5, false));
        assert_eq!(ask(&renderings, 1, Found::Nodes(vec![]), 6), (5, true));
        assert_eq!(ask(&renderings, 2, Found::Nodes(vec![]), 7), (7, false));
        assert_eq!(ask(&renderings, 1, Found::Services(vec![]), 8), (8, false));
        assert_eq!(ask(&renderings, 1, Found::Services(vec![]), 9), (8, true));
    }

    #[test]
    fn queries_are_told_apart() {
        let renderings = renderings();
        for status in Status::ALL {
            let query = Query::HealthState {
                status: Some(status),
                node_meta: vec![],
            };
            let question = Question {
                query,
                shape: String::new(),
            };
            let found = Arc::new(Found::Checks(vec![]));
            let (_, kept) = block_on(renderings.get_or_make(question, found, |_| async { vec![] }));
            assert!(!kept);
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let renderings = renderings();
        for number in 0..=MAX_KEPT {
            ask(&renderings, number, Found::Nodes(vec![]), 1);
        }
        assert_eq!(renderings.kept.lock().unwrap().places.len(), MAX_KEPT);
        assert_eq!(ask(&renderings, 1, Found::Nodes(vec![]), 2), (1, true));
        assert_eq!(
            ask(&renderings, 0, Found::Nodes(vec![]), 2),
            (2, false),
            "the oldest is gone"
        );
        for number in 5000..5002 {
            ask(&renderings, number, Found::Nodes(vec![]), MAX_BYTES_EACH);
        }
        let kept = renderings.kept.lock().unwrap();
        assert!(kept.places.len() >= MAX_KEPT - 2, "what is too large is not kept");
        assert!(kept.bytes <= MAX_BYTES);
    }

    #[test]
    fn large_answers_make_room_for_each_other() {
        let renderings = renderings();
        let large = MAX_BYTES_EACH / 5 * 4;
        for number in 0..10 {
            ask(&renderings, number, Found::Nodes(vec![]), large);
        }
        let kept = renderings.kept.lock().unwrap();
        assert_eq!(kept.places.len(), 8);
        assert!(kept.bytes <= MAX_BYTES);
    }
}
