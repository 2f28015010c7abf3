//! What a server says of itself while it is in no cluster: whom it waits for, and what keeps it from founding one.

use core::time::Duration;

use lictor_machine::{Instant, NodeId};

use crate::io::Event;
use crate::node::Node;

/// Servers that are started together find each other before that.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often the same is said again.
const REPEAT_AFTER: Duration = Duration::from_mins(1);

/// How soon something else is said, so that servers which come and go do not fill the log.
const CHANGE_AFTER: Duration = Duration::from_secs(5);

/// How many servers are named at most.
const NAMED_MAX: usize = 8;

/// What was said last, and when.
#[derive(Debug)]
pub(crate) struct Waiting {
    said: Option<String>,
    /// Of the start, if nothing was said yet.
    at: Instant,
}

impl Waiting {
    pub(crate) const fn since(now: Instant) -> Self {
        Self { said: None, at: now }
    }

    /// Whether this is to be said now; from now on it was.
    fn is_due(&mut self, now: Instant, text: &str) -> bool {
        let pause = match &self.said {
            None => PATIENCE,
            Some(said) if said == text => REPEAT_AFTER,
            Some(_) => CHANGE_AFTER,
        };
        let due = now.since(self.at) >= pause;
        if due {
            self.said = Some(text.to_owned());
            self.at = now;
        }
        due
    }
}

impl Node {
    /// Says why this server is in no cluster, unless it is in one, or that was said lately.
    pub(crate) fn say_what_is_awaited(&mut self) {
        // One that has agreed to the founding of another says itself when that takes too long.
        if self.society.notes.cluster.is_some() || self.promise().is_some() {
            return;
        }
        let event = self.awaited();
        let (Event::Waiting(text) | Event::Trouble(text)) = &event else {
            return;
        };
        let now = self.now();
        if self.society.waiting.is_due(now, text) {
            self.event(event);
        }
    }

    fn awaited(&self) -> Event {
        let expect = self.config.expect;
        if let Some(voters) = self.reluctant() {
            return Event::Waiting(format!(
                "this server founds a cluster, and waits for {} to agree",
                self.names(voters)
            ));
        }
        if let Some(cluster) = self.lively().find_map(|(_, other)| other.cluster) {
            return Event::Waiting(format!(
                "this server waits for the leader of the cluster {cluster} to take it in"
            ));
        }
        let others = self.lively().filter(|(_, other)| other.expect != expect);
        let differ: Vec<String> = others
            .filter(|(_, other)| other.expect > 0 && expect > 0)
            .take(NAMED_MAX)
            .map(|(id, other)| format!("{} {}", self.names(vec![id]), other.expect))
            .collect();
        if !differ.is_empty() {
            return Event::Trouble(format!(
                "no cluster is founded: this server expects {expect} servers, {}; give all the same -bootstrap-expect",
                differ.join(", ")
            ));
        }
        if expect == 0 {
            return Event::Waiting(format!(
                "this server is in no cluster and founds none, since it has no -bootstrap-expect: it waits for one that takes it in, and sees \
                 {} other servers; -retry-join says where to look",
                self.lively().count()
            ));
        }
        let found: Vec<NodeId> = self.candidates().into_iter().collect();
        Event::Waiting(format!(
            "a cluster is founded as soon as {expect} servers have found each other that all expect {expect}; {} of {expect} are there: {}; \
             -retry-join says where to look",
            found.len(),
            self.names(found)
        ))
    }

    /// Servers as people know them.
    fn names(&self, ids: Vec<NodeId>) -> String {
        let more = ids.len().saturating_sub(NAMED_MAX);
        let name = |id: NodeId| {
            if id == self.config.id {
                return "this one".to_owned();
            }
            let peer = self.peer_address(id);
            peer.map_or_else(|| id.to_string(), |peer| format!("{:?}", peer.name))
        };
        let mut names: Vec<String> = ids.into_iter().take(NAMED_MAX).map(name).collect();
        if more > 0 {
            names.push(format!("{more} more"));
        }
        names.join(", ")
    }
}
