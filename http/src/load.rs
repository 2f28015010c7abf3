//! How much is going on at once, and what is too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lictor_metrics::{Counter, Registry};

use crate::backend::Failure;
use crate::server::Limits;

/// When those who are refused may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is going on, by kind, each with its limit.
#[derive(Debug)]
pub(crate) struct Load {
    requests: Bounded,
    blocking_queries: Bounded,
    body_bytes: Bounded,
    answer_bytes: Bounded,
}

/// Something of which there may be so much at once.
#[derive(Debug)]
struct Bounded {
    name: &'static str,
    limit: usize,
    used: AtomicUsize,
    refused: Counter,
}

/// A part of a bounded thing, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    load: Arc<Load>,
    of: fn(&Load) -> &Bounded,
    amount: usize,
}

impl Load {
    pub(crate) fn new(limits: &Limits, metrics: &Registry) -> Arc<Self> {
        let bounded = |name: &'static str, limit: usize| Bounded {
            name,
            limit: if limit == 0 { usize::MAX } else { limit },
            used: AtomicUsize::new(0),
            refused: refused(metrics, name),
        };
        let load = Arc::new(Self {
            requests: bounded("http_max_requests", limits.requests),
            blocking_queries: bounded("http_max_blocking_queries", limits.blocking_queries),
            body_bytes: bounded("http_max_body_bytes", limits.body_bytes),
            answer_bytes: bounded("http_max_answer_bytes", limits.answer_bytes),
        });
        metrics.collect({
            let load = Arc::clone(&load);
            move |gauges| {
                for (name, bounded) in [
                    ("lictor.http.requests", &load.requests),
                    ("lictor.http.blocking_queries", &load.blocking_queries),
                    ("lictor.http.body_bytes", &load.body_bytes),
                    ("lictor.http.answer_bytes", &load.answer_bytes),
                ] {
                    gauges.put(name, bounded.used.load(Ordering::Relaxed) as f64);
                }
            }
        });
        load
    }

    /// A place for a request.
    pub(crate) fn request(self: &Arc<Self>) -> Result<Held, Failure> {
        self.hold(|load| &load.requests, 1)
    }

    /// A place for somebody who waits for a change.
    pub(crate) fn blocking_query(self: &Arc<Self>) -> Result<Held, Failure> {
        self.hold(|load| &load.blocking_queries, 1)
    }

    /// Room for a request's body.
    pub(crate) fn body(self: &Arc<Self>, bytes: usize) -> Result<Held, Failure> {
        self.hold(|load| &load.body_bytes, bytes)
    }

    /// Room for an answer that is there already.
    pub(crate) fn answer(self: &Arc<Self>, bytes: usize) -> Held {
        self.answer_bytes.used.fetch_add(bytes, Ordering::Relaxed);
        Held {
            load: Arc::clone(self),
            of: |load| &load.answer_bytes,
            amount: bytes,
        }
    }

    /// Whether there is room for another answer: those that clients have not taken yet count.
    pub(crate) fn room_for_answer(&self) -> Result<(), Failure> {
        let answers = &self.answer_bytes;
        if answers.used.load(Ordering::Relaxed) < answers.limit {
            Ok(())
        } else {
            Err(answers.refuse())
        }
    }

    fn hold(self: &Arc<Self>, of: fn(&Self) -> &Bounded, amount: usize) -> Result<Held, Failure> {
        let bounded = of(self);
        let room = |used: usize| used.checked_add(amount).filter(|used| *used <= bounded.limit);
        if bounded
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .is_err()
        {
            return Err(bounded.refuse());
        }
        Ok(Held {
            load: Arc::clone(self),
            of,
            amount,
        })
    }
}

impl Bounded {
    fn refuse(&self) -> Failure {
        self.refused.increment();
        Failure::Busy {
            limit: self.name.into(),
            retry_after: RETRY_AFTER,
        }
    }
}

impl Held {
    /// Gives it back for as long as what is returned is there.
    pub(crate) fn lend(&mut self) -> Lent<'_> {
        (self.of)(&self.load)
            .used
            .fetch_sub(self.amount, Ordering::Relaxed);
        Lent(self)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.of)(&self.load)
            .used
            .fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// What is given back for a while. Afterwards it is taken again even if that is too much: nobody who was let in is thrown out.
#[derive(Debug)]
pub(crate) struct Lent<'a>(&'a mut Held);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        (self.0.of)(&self.0.load)
            .used
            .fetch_add(self.0.amount, Ordering::Relaxed);
    }
}

/// Counts those who were refused for a limit.
pub(crate) fn refused(metrics: &Registry, limit: &'static str) -> Counter {
    metrics.labelled_counter("lictor.http.refused", vec![("limit".into(), limit.into())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(limits: Limits) -> (Arc<Load>, Registry) {
        let metrics = Registry::new();
        (Load::new(&limits, &metrics), metrics)
    }

    #[test]
    fn limits_hold_and_places_come_back() {
        let (load, metrics) = load(Limits {
            requests: 2,
            body_bytes: 100,
            ..Limits::default()
        });
        let mut first = load.request().unwrap();
        let _second = load.request().unwrap();
        let Err(Failure::Busy { limit, .. }) = load.request() else {
            panic!("one too many")
        };
        assert_eq!(limit, "http_max_requests");
        let lent = first.lend();
        let third = load.request().unwrap();
        drop(lent);
        assert_eq!(load.requests.used.load(Ordering::Relaxed), 3);
        drop(third);
        assert!(load.request().is_err());
        drop(first);
        assert!(load.request().is_ok());
        let body = load.body(60).unwrap();
        assert!(load.body(41).is_err());
        assert!(load.body(usize::MAX).is_err());
        drop(body);
        assert!(load.body(100).is_ok());
        let refused: Vec<_> = (metrics.report().counters.iter())
            .map(|series| (series.labels[0].1.to_string(), series.total.count))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            refused,
            [("http_max_body_bytes".into(), 2), ("http_max_requests".into(), 2)]
        );
    }

    #[test]
    fn answers_that_nobody_takes_leave_no_room_for_others() {
        let (load, _) = load(Limits {
            answer_bytes: 10,
            ..Limits::default()
        });
        let small = load.answer(9);
        load.room_for_answer().unwrap();
        let large = load.answer(1000);
        assert!(load.room_for_answer().is_err());
        drop(large);
        load.room_for_answer().unwrap();
        drop(small);
        assert_eq!(load.answer_bytes.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let (load, _) = load(Limits {
            blocking_queries: 0,
            ..Limits::default()
        });
        let held: Vec<_> = (0..100_000).map(|_| load.blocking_query().unwrap()).collect();
        assert_eq!(load.blocking_queries.used.load(Ordering::Relaxed), held.len());
    }
}
