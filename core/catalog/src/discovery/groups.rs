//! The instances of each service, over all nodes.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use lictor_machine::Index;

use super::defs::{ServiceDef, Text};
use super::records::ServiceRecord;
use super::validation::END;
use crate::command::Key;

/// By which of its names an instance is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// By that of its service.
    Service,
    /// By that of the service whose callers in the mesh it takes.
    Connect,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Service, Self::Connect];

    /// The kind that a question asks for.
    pub(super) const fn of(connect: bool) -> Self {
        if connect { Self::Connect } else { Self::Service }
    }

    /// The name by which an instance is found, if it is found by one of this kind.
    pub(super) fn name(self, def: &ServiceDef) -> Option<&Text> {
        match self {
            Self::Service => Some(&def.name),
            Self::Connect => def.connect_name(),
        }
    }
}

/// All instances that are found by one name.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The name as it was last spelled.
    pub(super) name: Text,
    /// How many instances there are.
    pub(super) count: usize,
    /// How often each tag is on an instance, by tag.
    tags: Vec<(Text, usize)>,
    pub(super) indexes: GroupIndexes,
}

/// When the answers to questions about one name last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct GroupIndexes {
    /// Which instances there are, or where they run.
    pub(super) instances: Index,
    /// The same, or how well they are.
    pub(super) health: Index,
    /// The checks of the instances.
    pub(super) checks: Index,
}

/// What of a group has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Facet {
    /// An instance, or the node of one.
    Instances,
    /// A check of a node that an instance runs on.
    NodeChecks,
    /// A check of an instance.
    Checks,
}

impl GroupIndexes {
    pub(super) const fn new(index: Index) -> Self {
        Self {
            instances: index,
            health: index,
            checks: index,
        }
    }

    pub(super) const fn bump(&mut self, facet: Facet, index: Index) {
        self.health = index;
        match facet {
            Facet::Instances => self.instances = index,
            Facet::Checks => self.checks = index,
            Facet::NodeChecks => {}
        }
    }
}

impl Group {
    /// The tags of all instances, sorted, each once.
    pub(super) fn tags(&self) -> impl Iterator<Item = &Text> {
        self.tags.iter().map(|(tag, _)| tag)
    }

    /// Counts tags in; tells whether one is new.
    fn add_tags(&mut self, tags: &[Text]) -> bool {
        let before = self.tags.len();
        for tag in tags {
            match self.tags.binary_search_by(|(other, _)| other.cmp(tag)) {
                Ok(at) => self.tags[at].1 += 1,
                Err(at) => self.tags.insert(at, (tag.clone(), 1)),
            }
        }
        self.tags.len() > before
    }

    /// Counts tags out that were counted in before; tells whether one is gone.
    fn remove_tags(&mut self, tags: &[Text]) -> bool {
        let before = self.tags.len();
        for tag in tags {
            let Ok(at) = self.tags.binary_search_by(|(other, _)| other.cmp(tag)) else {
                continue;
            };
            self.tags[at].1 -= 1;
            if self.tags[at].1 == 0 {
                self.tags.remove(at);
            }
        }
        self.tags.len() < before
    }
}

/// Groups by name. Clones are O(1).
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// By name in lower case.
    pub(super) by_name: OrdMap<Key, Arc<Group>>,
    /// By name, node and id, all in lower case.
    members: OrdMap<Key, Arc<ServiceRecord>>,
}

/// What became of a group's name and tags when an instance came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Regrouped {
    /// There is no group any more.
    pub(super) vanished: bool,
    /// What a list of all names and tags says has changed.
    pub(super) listing: bool,
}

impl Groups {
    /// Adds an instance on the node `at`, in place of the one with the same id that is in this group now. `old` must be that.
    pub(super) fn join(
        &mut self,
        name: &Text,
        key: &Key,
        at: &Key,
        record: &Arc<ServiceRecord>,
        old: Option<&ServiceRecord>,
        index: Index,
    ) -> Regrouped {
        let listing = if let Some(group) = self.by_name.get_mut(key) {
            let group = Arc::make_mut(group);
            // In this order, so that a tag which stays is neither gone nor new.
            let added = group.add_tags(&record.def.tags);
            let removed = old.is_some_and(|old| group.remove_tags(&old.def.tags));
            let respelled = group.name != *name;
            if respelled {
                group.name = name.clone();
            }
            group.count += usize::from(old.is_none());
            added || removed || respelled
        } else {
            let mut group = Group {
                name: name.clone(),
                count: 1,
                tags: Vec::new(),
                indexes: GroupIndexes::new(index),
            };
            group.add_tags(&record.def.tags);
            self.by_name.insert(key.clone(), Arc::new(group));
            true
        };
        self.members
            .insert(member(key, at, &record.def.id), Arc::clone(record));
        Regrouped {
            vanished: false,
            listing,
        }
    }

    /// Removes an instance that is in this group.
    pub(super) fn leave(&mut self, key: &Key, at: &Key, record: &ServiceRecord) -> Regrouped {
        self.members.remove(&member(key, at, &record.def.id)[..]);
        let mut regrouped = Regrouped {
            vanished: false,
            listing: false,
        };
        if let Some(group) = self.by_name.get_mut(key) {
            let group = Arc::make_mut(group);
            regrouped.listing = group.remove_tags(&record.def.tags);
            group.count -= 1;
            if group.count == 0 {
                self.by_name.remove(key);
                regrouped = Regrouped {
                    vanished: true,
                    listing: true,
                };
            }
        }
        regrouped
    }

    /// Puts a record in place of one with the same names and tags.
    pub(super) fn replace(&mut self, key: &Key, at: &Key, record: &Arc<ServiceRecord>) {
        self.members
            .insert(member(key, at, &record.def.id), Arc::clone(record));
    }

    /// One of a group's instances.
    pub(super) fn any_member(&self, key: &[u8]) -> Option<&Arc<ServiceRecord>> {
        let start = [key, &[END]].concat();
        let (found, record) = self
            .members
            .range::<_, [u8]>((Bound::Included(&start[..]), Bound::Unbounded))
            .next()?;
        found.starts_with(&start).then_some(record)
    }

    /// A group's instances, each with its node's name in lower case, in order of that and of their ids.
    pub(super) fn members_of<'a>(
        &'a self,
        key: &[u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a Arc<ServiceRecord>)> + use<'a> {
        let start = [key, &[END]].concat();
        let skip = start.len();
        let members = self
            .members
            .range::<_, [u8]>((Bound::Included(&start[..]), Bound::Unbounded));
        members
            .take_while(move |(key, _)| key.starts_with(&start))
            .map(move |(key, record)| {
                let rest = &key[skip..];
                let end = rest.iter().position(|byte| *byte == END);
                (&rest[..end.unwrap_or(rest.len())], record)
            })
    }
}

fn member(name: &[u8], at: &[u8], id: &str) -> Key {
    let mut key = Vec::with_capacity(name.len() + at.len() + id.len() + 2);
    key.extend_from_slice(name);
    key.push(END);
    key.extend_from_slice(at);
    key.push(END);
    key.extend(id.bytes().map(|byte| byte.to_ascii_lowercase()));
    Key::from(key)
}
