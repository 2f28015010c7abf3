//! How many connections there may be.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lictor_metrics::{Counter, Registry};

use crate::load::refused;

/// How many connections over a limit are told so at the same time; more are closed without a word.
const MAX_REFUSALS: usize = 128;

/// Counts connections and keeps them within limits.
#[derive(Debug)]
pub(crate) struct Admission {
    total: usize,
    per_client: usize,
    counts: Mutex<Counts>,
    refused: Counter,
    refused_client: Counter,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    refusals: usize,
    clients: HashMap<IpAddr, usize>,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Served(Option<IpAddr>),
    Refused,
}

/// Which limit a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// That of its client's address.
    Client { client: IpAddr, limit: usize },
    /// That of the server.
    Server { limit: usize },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { client, limit } => write!(
                f,
                "Too many connections from {client}: http_max_conns_per_client is {limit}. Close some, or raise the limit."
            ),
            Self::Server { limit } => write!(
                f,
                "Too many connections to this server: http_max_conns is {limit}. Try again later, or raise the limit."
            ),
        }
    }
}

impl Admission {
    /// Limits of 0 are none.
    pub(crate) fn new(total: usize, per_client: usize, metrics: &Registry) -> Arc<Self> {
        let limit = |limit| if limit == 0 { usize::MAX } else { limit };
        let admission = Arc::new(Self {
            total: limit(total),
            per_client: limit(per_client),
            counts: Mutex::default(),
            refused: refused(metrics, "http_max_conns"),
            refused_client: refused(metrics, "http_max_conns_per_client"),
        });
        metrics.collect({
            let admission = Arc::clone(&admission);
            move |gauges| gauges.put("lictor.http.connections", admission.counts().total as f64)
        });
        admission
    }

    /// Lets a connection in. Connections that come from no address count only for the server's limit. A refusal has a
    /// place too, for as long as it takes to say so; without one it is not to be said.
    pub(crate) fn admit(self: &Arc<Self>, client: Option<IpAddr>) -> Result<Place, (Refusal, Option<Place>)> {
        let mut counts = self.counts();
        let of_client = client
            .and_then(|client| counts.clients.get(&client))
            .copied()
            .unwrap_or(0);
        let refusal = match client {
            _ if counts.total >= self.total => Refusal::Server { limit: self.total },
            Some(client) if of_client >= self.per_client => Refusal::Client {
                client,
                limit: self.per_client,
            },
            client => {
                counts.total += 1;
                if let Some(client) = client {
                    counts.clients.insert(client, of_client + 1);
                }
                return Ok(Place {
                    admission: Arc::clone(self),
                    kind: Kind::Served(client),
                });
            }
        };
        match refusal {
            Refusal::Server { .. } => self.refused.increment(),
            Refusal::Client { .. } => self.refused_client.increment(),
        }
        if counts.refusals >= MAX_REFUSALS {
            return Err((refusal, None));
        }
        counts.refusals += 1;
        Err((
            refusal,
            Some(Place {
                admission: Arc::clone(self),
                kind: Kind::Refused,
            }),
        ))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing panics while it holds the lock.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        match self.kind {
            Kind::Refused => counts.refusals -= 1,
            Kind::Served(client) => {
                counts.total -= 1;
                let Some(client) = client else { return };
                if let Some(count) = counts.clients.get_mut(&client) {
                    *count -= 1;
                    if *count == 0 {
                        counts.clients.remove(&client);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn each_client_has_its_own_limit() {
        let admission = Admission::new(0, 2, &Registry::new());
        let first = admission.admit(Some(A)).unwrap();
        let _second = admission.admit(Some(A)).unwrap();
        let (refusal, place) = admission.admit(Some(A)).unwrap_err();
        assert_eq!(refusal, Refusal::Client { client: A, limit: 2 });
        assert!(refusal.to_string().contains("http_max_conns_per_client is 2"));
        assert!(place.is_some());
        let _other = admission.admit(Some(B)).unwrap();
        drop(first);
        assert!(
            admission.admit(Some(A)).is_ok(),
            "a place given back can be taken"
        );
    }

    #[test]
    fn the_server_has_a_limit() {
        let admission = Admission::new(2, 0, &Registry::new());
        let _a = admission.admit(Some(A)).unwrap();
        let unix = admission.admit(None).unwrap();
        assert_eq!(
            admission.admit(Some(B)).unwrap_err().0,
            Refusal::Server { limit: 2 }
        );
        drop(unix);
        assert!(admission.admit(None).is_ok());
    }

    #[test]
    fn refusals_are_bounded_and_nothing_is_left_over() {
        let admission = Admission::new(1, 1, &Registry::new());
        let place = admission.admit(Some(A)).unwrap();
        let refused: Vec<_> = (0..MAX_REFUSALS)
            .map(|_| admission.admit(Some(A)).unwrap_err())
            .collect();
        assert!(refused.iter().all(|(_, place)| place.is_some()));
        assert!(admission.admit(Some(A)).unwrap_err().1.is_none());
        drop((place, refused));
        let counts = admission.counts();
        assert_eq!((counts.total, counts.refusals, counts.clients.len()), (0, 0, 0));
    }
}
