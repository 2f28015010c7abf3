//! User events: what they are on their way between agents, and the last ones that this agent received.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use event_listener::{Event, EventListener};
use lictor_gossip as gossip;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many events are kept.
const KEPT: usize = 256;

/// The format of an event's content on its way: its first byte.
const VERSION: u8 = 1;

/// Before the name of an event on its way, to tell it from what agents tell each other for reasons of their own.
const PREFIX: &str = "user:";

/// How much memory a filter may take, compiled, in bytes.
const FILTER_SIZE_MAX: usize = 256 << 10;

/// Something that a client told all agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEvent {
    /// Names it.
    pub id: Uuid,
    /// What it is called.
    pub name: String,
    /// Its content.
    pub payload: Bytes,
    /// Only for agents in whose name this regular expression is found; empty: for all.
    pub node_filter: String,
    /// Only for agents with a service in whose name this regular expression is found; empty: for all.
    pub service_filter: String,
    /// Only if that service has a tag in which this regular expression is found; empty: whatever its tags.
    pub tag_filter: String,
    /// When, by the event clock of the pool; 0 before it was told.
    pub time: u64,
}

/// A service of an agent, as far as filters look at it.
#[derive(Clone, Copy, Debug)]
pub struct LocalService<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its tags.
    pub tags: &'a [String],
}

/// Why what came by gossip is not a user event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// It is something that agents tell each other for reasons of their own.
    #[error("not a user event")]
    NotOurs,
    /// A newer version of this program wrote it.
    #[error("a user event in format {0}, and this program knows none above {VERSION}")]
    NewerFormat(u8),
    /// It does not follow its format.
    #[error("a damaged user event: {0}")]
    Damaged(String),
    /// One of its filters is not a regular expression.
    #[error("a user event with a bad filter: {0}")]
    Filter(String),
}

/// An event's content on its way.
#[derive(Serialize, Deserialize)]
struct Content<'a> {
    id: Uuid,
    #[serde(borrow)]
    node_filter: &'a str,
    #[serde(borrow)]
    service_filter: &'a str,
    #[serde(borrow)]
    tag_filter: &'a str,
    #[serde(borrow)]
    payload: &'a [u8],
}

impl UserEvent {
    /// The name and the content that gossip carries. Together they may have [`gossip::MAX_USER_EVENT_BYTES`].
    pub fn to_gossip(&self) -> (String, Bytes) {
        let content = Content {
            id: self.id,
            node_filter: &self.node_filter,
            service_filter: &self.service_filter,
            tag_filter: &self.tag_filter,
            payload: &self.payload,
        };
        let encoded = postcard::to_extend(&content, vec![VERSION]);
        let encoded =
            encoded.expect("an event holds nothing that postcard refuses, and a Vec takes all bytes");
        (format!("{PREFIX}{}", self.name), encoded.into())
    }

    /// The event that [`UserEvent::to_gossip`] made this of.
    pub fn from_gossip(told: &gossip::UserEvent) -> Result<Self, EventError> {
        let name = told.name.strip_prefix(PREFIX).ok_or(EventError::NotOurs)?;
        let damaged = |what: &str| EventError::Damaged(what.to_owned());
        let (version, body) = told.payload.split_first().ok_or_else(|| damaged("it is empty"))?;
        match *version {
            0 => return Err(damaged("its format is 0, which never existed")),
            VERSION => {}
            newer => return Err(EventError::NewerFormat(newer)),
        }
        let (content, rest) = postcard::take_from_bytes::<Content<'_>>(body)
            .map_err(|error| EventError::Damaged(error.to_string()))?;
        if !rest.is_empty() {
            return Err(damaged("something is left over at its end"));
        }
        Ok(Self {
            id: content.id,
            name: name.to_owned(),
            payload: told.payload.slice_ref(content.payload),
            node_filter: content.node_filter.to_owned(),
            service_filter: content.service_filter.to_owned(),
            tag_filter: content.tag_filter.to_owned(),
            time: told.time.0,
        })
    }

    /// Whether it is for an agent of this name with these services.
    pub fn is_for(&self, node: &str, services: &[LocalService<'_>]) -> Result<bool, EventError> {
        let found = |filter: &str| compile(filter).map_err(|error| EventError::Filter(error.to_string()));
        let [of_node, of_service, of_tag] =
            [&self.node_filter, &self.service_filter, &self.tag_filter].map(|filter| found(filter));
        let (of_node, of_service, of_tag) = (of_node?, of_service?, of_tag?);
        let has = |service: &LocalService<'_>| {
            of_service.is_match(service.name)
                && (self.tag_filter.is_empty() || service.tags.iter().any(|tag| of_tag.is_match(tag)))
        };
        Ok(of_node.is_match(node) && (self.service_filter.is_empty() || services.iter().any(has)))
    }

    /// The number that stands for this event where one waits for the next: the two halves of its id, combined.
    fn index(&self) -> u64 {
        let (high, low) = self.id.as_u64_pair();
        high ^ low
    }
}

/// Compiles a filter. What it costs to run is bounded by its length and that of the text.
pub(crate) fn compile(filter: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(filter).size_limit(FILTER_SIZE_MAX).build()
}

/// The last user events that an agent received and that are for it. Old ones make room for new ones.
#[derive(Debug, Default)]
pub struct EventLog {
    ring: Mutex<VecDeque<Arc<UserEvent>>>,
    news: Event,
}

impl EventLog {
    /// Without any events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over an event that is for this agent (see [`UserEvent::is_for`]). Wakes those who wait for events.
    pub fn add(&self, event: UserEvent) {
        let mut ring = self.lock();
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(Arc::new(event));
        drop(ring);
        self.news.notify(usize::MAX);
    }

    /// The events, oldest first, or those with this name; and the number of the last one, or 1 if there is none. It is not in any order:
    /// it only tells whether there is something new.
    pub fn list(&self, name: Option<&str>) -> (u64, Vec<Arc<UserEvent>>) {
        let ring = self.lock();
        let wanted = |event: &&Arc<UserEvent>| name.is_none_or(|name| event.name == name);
        let events: Vec<_> = ring.iter().filter(wanted).cloned().collect();
        let index = events.last().map_or(0, |event| event.index());
        (index.max(1), events)
    }

    /// Completes when the next event arrives. To miss nothing, call this before [`EventLog::list`], and await it after.
    pub(crate) fn changed(&self) -> EventListener {
        self.news.listen()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<UserEvent>>> {
        // The ring is sound after any of its steps, so a poisoned lock means nothing.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use lictor_gossip::LamportTime;
    use lictor_machine::NodeId;

    use super::*;

    fn event() -> UserEvent {
        UserEvent {
            id: Uuid::from_u128(0xe8d8_9201_03a0_15fb_ad23_5067_79ff_e3f0),
            name: "deploy".to_owned(),
            payload: Bytes::from_static(b"hello"),
            node_filter: "n".to_owned(),
            service_filter: "s".to_owned(),
            tag_filter: "t".to_owned(),
            time: 9,
        }
    }

    fn told(event: &UserEvent) -> gossip::UserEvent {
        let (name, payload) = event.to_gossip();
        gossip::UserEvent {
            time: LamportTime(event.time),
            origin: NodeId(1),
            name,
            payload,
            coalesce: false,
        }
    }

    #[test]
    fn the_format_stands_still() {
        let told = told(&event());
        assert_eq!(told.name, "user:deploy");
        let id = b"\x01\x10\xe8\xd8\x92\x01\x03\xa0\x15\xfb\xad\x23\x50\x67\x79\xff\xe3\xf0";
        assert_eq!(told.payload, [&id[..], b"\x01n\x01s\x01t\x05hello"].concat());
        assert_eq!(UserEvent::from_gossip(&told), Ok(event()));
    }

    #[test]
    fn what_is_not_an_event_is_refused() {
        let good = told(&event());
        let with = |payload: &[u8]| {
            let payload = Bytes::copy_from_slice(payload);
            UserEvent::from_gossip(&gossip::UserEvent {
                payload,
                ..good.clone()
            })
        };
        let other = gossip::UserEvent {
            name: "deploy".to_owned(),
            ..good.clone()
        };
        assert_eq!(UserEvent::from_gossip(&other), Err(EventError::NotOurs));
        assert_eq!(with(b"\x02what"), Err(EventError::NewerFormat(2)));
        let longer = [&good.payload[..], b"x"].concat();
        for bad in [&b""[..], b"\x00", &longer] {
            assert!(matches!(with(bad), Err(EventError::Damaged(_))));
        }
        for cut in 1..good.payload.len() {
            assert!(matches!(with(&good.payload[..cut]), Err(EventError::Damaged(_))));
        }
    }

    #[test]
    fn whatever_arrives_is_an_event_or_refused() {
        let good = told(&event());
        for at in 0..good.payload.len() {
            for byte in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut payload = good.payload.to_vec();
                payload[at] = byte;
                let payload = Bytes::from(payload);
                let bent = gossip::UserEvent {
                    payload: payload.clone(),
                    ..good.clone()
                };
                if let Ok(event) = UserEvent::from_gossip(&bent) {
                    assert_eq!(event.to_gossip(), (good.name.clone(), payload));
                }
            }
        }
    }

    #[test]
    fn the_index_is_made_of_the_id() {
        let log = EventLog::new();
        assert_eq!(log.list(None), (1, vec![]));
        let all = UserEvent {
            node_filter: String::new(),
            service_filter: String::new(),
            tag_filter: String::new(),
            ..event()
        };
        log.add(all.clone());
        assert_eq!(
            log.list(None),
            (5_042_837_953_166_964_235, vec![Arc::new(all.clone())])
        );
        let zero = UserEvent {
            id: Uuid::nil(),
            ..all
        };
        log.add(zero);
        assert_eq!(log.list(None).0, 1);
    }

    #[test]
    fn hostile_filters_cost_little() {
        for filter in ["(", "(a{1000}){1000}", "[", "\\"] {
            let bad = UserEvent {
                node_filter: filter.to_owned(),
                ..event()
            };
            let error = bad.is_for("n1", &[]).unwrap_err();
            assert!(matches!(error, EventError::Filter(_)), "{filter}");
        }
    }
}
