//! Answering queries; most of all, reading the key-value store.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use lictor_machine::Index;

use crate::command::{Found, Key, Query};
use crate::kv::KvEntry;
use crate::state::State;
use crate::store::KvStore;

impl State {
    /// Answers a query, with the index of the answer (see the crate's documentation): 0 while the table has never changed, for which
    /// the HTTP API says 1.
    pub fn query(&self, query: &Query) -> (Index, Found) {
        let (index, found) = self.look_up(query);
        (index.max(self.floor()), found)
    }

    fn look_up(&self, query: &Query) -> (Index, Found) {
        let discovery = &self.discovery;
        let of = |query| self.index_of(query).unwrap_or(Index::ZERO);
        match query {
            Query::KvGet(key) => self.kv.get(key),
            Query::KvList(prefix) => self.kv.list(prefix),
            Query::KvKeys { prefix, separator } => self.kv.keys(prefix, separator),
            Query::Autopilot => {
                let (index, autopilot) = self.autopilot.get();
                (index, Found::Autopilot(autopilot))
            }
            Query::Coordinates => {
                let (index, entries) = self.coordinates.all();
                (index, Found::Coordinates(entries))
            }
            Query::Coordinate(node) => {
                let (index, entries) = self.coordinates.of_node(node);
                (index, Found::Coordinates(entries))
            }
            Query::Nodes => (of(query), Found::Nodes(discovery.nodes())),
            Query::NodeServices(node) => (of(query), Found::NodeServices(discovery.node_services(node))),
            Query::NodeInfo(node) => (of(query), Found::NodeInfos(discovery.node_info(node))),
            Query::NodeInfos => (of(query), Found::NodeInfos(discovery.node_infos())),
            Query::Services { node_meta } => (of(query), Found::Services(discovery.service_tags(node_meta))),
            Query::ServiceNodes { service, connect } => {
                let found = discovery.service_nodes(service, *connect);
                (of(query), Found::ServiceNodes(found))
            }
            Query::HealthNode(node) => (of(query), Found::Checks(discovery.health_node(node))),
            Query::HealthChecks { service, node_meta } => {
                let found = discovery.health_checks(service, node_meta);
                (of(query), Found::Checks(found))
            }
            Query::HealthService { service, connect } => {
                let found = discovery.health_service(service, *connect);
                (of(query), Found::Instances(found))
            }
            Query::HealthState { status, node_meta } => {
                let found = discovery.health_state(*status, node_meta);
                (of(query), Found::Checks(found))
            }
            Query::Sessions => (of(query), self.sessions.list()),
            Query::Session(id) => (of(query), self.sessions.info(*id)),
            Query::NodeSessions(node) => (of(query), self.sessions.list_node(node)),
            Query::PreparedQueries => (of(query), Found::PreparedQueries(self.prepared.list())),
            Query::PreparedQuery(id) => {
                let found = self.prepared.get(*id).into_iter().collect();
                (of(query), Found::PreparedQueries(found))
            }
            Query::Resolve(name) => (of(query), Found::Resolved(self.prepared.resolve(name))),
        }
    }

    /// The index that [`Self::query`] would answer with, if that costs less than the answer: `None` for questions about keys.
    ///
    /// As long as this is the same and the state is not replaced as a whole ([`crate::Touched::All`]), the answer is the same, so one
    /// who kept it can give it again.
    pub fn index_of(&self, query: &Query) -> Option<Index> {
        let discovery = &self.discovery;
        let index = match query {
            Query::KvGet(_) | Query::KvList(_) | Query::KvKeys { .. } => return None,
            Query::Autopilot => self.autopilot.get().0,
            Query::Coordinates => self.coordinates.index,
            Query::Coordinate(node) => self.coordinates.of_node(node).0,
            Query::Nodes => discovery.nodes_index(),
            Query::NodeServices(node) => discovery.node_services_index(node),
            Query::NodeInfo(node) => discovery.node_info_index(node),
            Query::NodeInfos => discovery.indexes().latest(),
            Query::Services { node_meta } => discovery.services_index(node_meta),
            Query::ServiceNodes { service, connect } => discovery.service_nodes_index(service, *connect),
            Query::HealthNode(node) => discovery.health_node_index(node),
            Query::HealthChecks { service, node_meta } => discovery.health_checks_index(service, node_meta),
            Query::HealthService { service, connect } => discovery.health_service_index(service, *connect),
            Query::HealthState { status, node_meta } => discovery.health_state_index(*status, node_meta),
            Query::Sessions => self.sessions.index,
            Query::Session(id) => self.sessions.info_index(*id),
            Query::NodeSessions(node) => self.sessions.node_index(node),
            Query::PreparedQueries | Query::PreparedQuery(_) | Query::Resolve(_) => self.prepared.index,
        };
        Some(index.max(self.floor()))
    }
}

impl KvStore {
    fn get(&self, key: &Key) -> (Index, Found) {
        let entry = self.entries.get(key).cloned();
        (
            entry.as_ref().map_or(self.index, |entry| entry.modify_index),
            Found::Entry(entry),
        )
    }

    /// Costs as much as the entries under the prefix.
    fn list(&self, prefix: &Key) -> (Index, Found) {
        let mut latest = Index::ZERO;
        let entries = self.under(prefix);
        let entries = entries
            .inspect(|entry| latest = latest.max(entry.modify_index))
            .cloned()
            .collect();
        (self.prefix_index(prefix, latest), Found::Entries(entries))
    }

    /// Costs as much as the entries under the prefix; if they are cut at a separator under the empty prefix, only as much as the keys in
    /// the answer.
    fn keys(&self, prefix: &Key, separator: &Bytes) -> (Index, Found) {
        if prefix.is_empty() {
            return (self.index, Found::Keys(self.top_keys(separator)));
        }
        let mut latest = Index::ZERO;
        let mut keys: Vec<Key> = Vec::new();
        for entry in self.under(prefix) {
            latest = latest.max(entry.modify_index);
            let key = cut(&entry.key, prefix.len(), separator);
            if keys.last() != Some(&key) {
                keys.push(key);
            }
        }
        (self.prefix_index(prefix, latest), Found::Keys(keys))
    }

    /// The entries with `prefix`, in order.
    pub(crate) fn under<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a Arc<KvEntry>> {
        let from = self
            .entries
            .range::<_, [u8]>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| entry)
    }

    /// The index of a prefix, `latest` being the highest of its entries.
    fn prefix_index(&self, prefix: &[u8], latest: Index) -> Index {
        if prefix.is_empty() {
            return self.index;
        }
        match latest.max(self.graveyard.max_under(prefix)) {
            Index::ZERO => self.index,
            index => index,
        }
    }

    /// All keys, cut at the separator. Leaps over what a cut key stands for.
    fn top_keys(&self, separator: &[u8]) -> Vec<Key> {
        if separator.is_empty() {
            return self.entries.keys().cloned().collect();
        }
        let mut keys: Vec<Key> = Vec::new();
        let mut entries = self.entries.range::<_, [u8]>(..);
        while let Some((key, _)) = entries.next() {
            let short = cut(key, 0, separator);
            let leap = short.len() < key.len();
            if keys.last() != Some(&short) {
                keys.push(short.clone());
            }
            if leap {
                let Some(next) = behind(&short) else { break };
                entries = self
                    .entries
                    .range::<_, [u8]>((Bound::Included(&next[..]), Bound::Unbounded));
            }
        }
        keys
    }
}

/// `key` up to and with the first separator behind the prefix, or all of it. An empty separator is nowhere.
fn cut(key: &Key, prefix_len: usize, separator: &[u8]) -> Bytes {
    let found = match separator {
        [] => None,
        [byte] => key[prefix_len..].iter().position(|other| other == byte),
        _ => key[prefix_len..]
            .windows(separator.len())
            .position(|window| window == separator),
    };
    found.map_or_else(
        || key.clone(),
        |at| key.slice(..prefix_len + at + separator.len()),
    )
}

/// The least key that is greater than every key with `prefix`; `None` if there is no such key.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut next = prefix[..=kept].to_vec();
    next[kept] += 1;
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_prefix_is_the_next_key_without_it() {
        assert_eq!(behind(b"a/"), Some(b"a0".to_vec()));
        assert_eq!(behind(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(behind(b"\xff"), None);
        assert_eq!(behind(b""), None);
    }
}
