//! Who is in the pools, for readers: the API, and whoever looks for a server.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use lictor_gossip::{Coordinate, Member, MemberEvent, MemberState};
use lictor_machine::NodeId;
use lictor_node::agent::{Distance, Pool};

/// The members of both pools as they were last heard of.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    lan: RwLock<BTreeMap<NodeId, Arc<Member>>>,
    wan: RwLock<BTreeMap<NodeId, Arc<Member>>>,
    /// Where the members of the WAN pool are.
    distances: RwLock<BTreeMap<NodeId, Coordinate>>,
}

impl Pools {
    fn of(&self, pool: Pool) -> &RwLock<BTreeMap<NodeId, Arc<Member>>> {
        match pool {
            Pool::Lan => &self.lan,
            Pool::Wan => &self.wan,
        }
    }

    /// Takes note of a change.
    pub(crate) fn apply(&self, pool: Pool, event: &MemberEvent) {
        let mut members = self.of(pool).write().unwrap_or_else(PoisonError::into_inner);
        let member = event.member();
        if matches!(event, MemberEvent::Reaped(_)) {
            members.remove(&member.id);
        } else {
            members.insert(member.id, Arc::clone(member));
        }
    }

    /// All members of a pool, by id.
    pub(crate) fn members(&self, pool: Pool) -> Vec<Arc<Member>> {
        let members = self.of(pool).read().unwrap_or_else(PoisonError::into_inner);
        members.values().cloned().collect()
    }

    /// One member of a pool.
    pub(crate) fn member(&self, pool: Pool, id: NodeId) -> Option<Arc<Member>> {
        let members = self.of(pool).read().unwrap_or_else(PoisonError::into_inner);
        members.get(&id).cloned()
    }

    /// How many members of a pool are in each state.
    pub(crate) fn count(&self, pool: Pool, state: impl Fn(MemberState) -> bool) -> usize {
        let members = self.of(pool).read().unwrap_or_else(PoisonError::into_inner);
        members.values().filter(|member| state(member.state)).count()
    }

    /// Takes note of where the members of the WAN pool are.
    pub(crate) fn set_distances(&self, distances: Vec<Distance>) {
        let distances = distances
            .into_iter()
            .map(|distance| (distance.id, distance.coordinate))
            .collect();
        *self.distances.write().unwrap_or_else(PoisonError::into_inner) = distances;
    }

    /// Where a member of the WAN pool is, if that is known.
    pub(crate) fn coordinate(&self, id: NodeId) -> Option<Coordinate> {
        let distances = self.distances.read().unwrap_or_else(PoisonError::into_inner);
        distances.get(&id).copied()
    }
}

#[cfg(test)]
mod tests {
    use lictor_gossip::{Incarnation, Tags};

    use super::*;

    #[test]
    fn readers_see_members_come_change_and_go() {
        let pools = Pools::default();
        let member = |state| {
            Arc::new(Member {
                id: NodeId(1),
                name: "a".into(),
                address: "127.0.0.1:8300".parse().unwrap(),
                tags: Tags::new(),
                incarnation: Incarnation(1),
                state,
            })
        };
        pools.apply(Pool::Lan, &MemberEvent::Joined(member(MemberState::Alive)));
        assert_eq!(pools.members(Pool::Lan).len(), 1);
        assert!(pools.members(Pool::Wan).is_empty());
        pools.apply(Pool::Lan, &MemberEvent::Failed(member(MemberState::Failed)));
        let state = |id| pools.member(Pool::Lan, id).map(|member| member.state);
        assert_eq!(state(NodeId(1)), Some(MemberState::Failed));
        assert_eq!(pools.count(Pool::Lan, MemberState::is_well), 0);
        pools.apply(Pool::Lan, &MemberEvent::Reaped(member(MemberState::Failed)));
        assert_eq!(state(NodeId(1)), None);
    }
}
