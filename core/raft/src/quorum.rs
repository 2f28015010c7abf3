//! Majorities, also of two sets at once (joint consensus, Raft §6). Pure functions.

use std::collections::BTreeSet;

use lictor_machine::{Index, NodeId};

use crate::types::Configuration;

/// How a poll stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// A quorum said yes.
    Won,
    /// A quorum can no longer say yes.
    Lost,
    /// Neither yet.
    Open,
}

const fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// Whether those for which `has` holds are a quorum. Nobody is a quorum of an empty configuration.
pub(crate) fn reached(members: &Configuration, has: impl Fn(NodeId) -> bool) -> bool {
    let enough = |set: &BTreeSet<NodeId>| set.iter().filter(|id| has(**id)).count() >= majority(set.len());
    enough(&members.voters) && (members.outgoing.is_empty() || enough(&members.outgoing))
}

/// The result of a poll where `vote` tells each voter's answer so far.
pub(crate) fn poll(members: &Configuration, vote: impl Fn(NodeId) -> Option<bool>) -> Poll {
    if reached(members, |id| vote(id) == Some(true)) {
        Poll::Won
    } else if reached(members, |id| vote(id) != Some(false)) {
        Poll::Open
    } else {
        Poll::Lost
    }
}

/// The highest value that a quorum has reached, where `value` tells how far each voter is.
pub(crate) fn highest<T: Ord + Copy + Default>(members: &Configuration, value: impl Fn(NodeId) -> T) -> T {
    let of = |set: &BTreeSet<NodeId>| {
        let mut values: Vec<T> = set.iter().map(|id| value(*id)).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(majority(set.len()) - 1).copied().unwrap_or_default()
    };
    let incoming = of(&members.voters);
    if members.outgoing.is_empty() {
        incoming
    } else {
        incoming.min(of(&members.outgoing))
    }
}

/// The highest index that is on a quorum.
pub(crate) fn committed(members: &Configuration, matched: impl Fn(NodeId) -> Index) -> Index {
    highest(members, matched)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(bits: u32) -> BTreeSet<NodeId> {
        (0..5)
            .filter(|n| bits & (1 << n) != 0)
            .map(|n| NodeId(u128::from(n as u8)))
            .collect()
    }

    /// Every joint configuration of up to five nodes, against the definition: a quorum of both halves.
    #[test]
    fn joint_quorums_match_their_definition_exhaustively() {
        for voters in 1..32 {
            for outgoing in 0..32 {
                let members = Configuration {
                    voters: ids(voters),
                    outgoing: ids(outgoing),
                    learners: BTreeSet::new(),
                };
                for yes in 0..32_u32 {
                    let most = |set: u32| (set & yes).count_ones() * 2 > set.count_ones();
                    let expected = most(voters) && (outgoing == 0 || most(outgoing));
                    assert_eq!(reached(&members, |id| yes & (1 << id.0) != 0), expected);
                }
            }
        }
    }

    /// Two quorums of one configuration always share a node: the heart of safety.
    #[test]
    fn any_two_quorums_intersect() {
        for voters in 1..32 {
            for outgoing in 0..32 {
                let members = Configuration {
                    voters: ids(voters),
                    outgoing: ids(outgoing),
                    learners: BTreeSet::new(),
                };
                let quorums: Vec<u32> = (0..32_u32)
                    .filter(|yes| reached(&members, |id| yes & (1 << id.0) != 0))
                    .collect();
                for a in &quorums {
                    assert!(quorums.iter().all(|b| a & b != 0), "{members:?} {quorums:?}");
                }
            }
        }
    }

    #[test]
    fn the_committed_index_is_the_highest_that_a_quorum_reaches() {
        for voters in 1..32 {
            for outgoing in [0, 3, 7, 28, 31] {
                let members = Configuration {
                    voters: ids(voters),
                    outgoing: ids(outgoing),
                    learners: BTreeSet::new(),
                };
                for seed in 0..200 {
                    let mut rng = lictor_machine::Rng::new(seed);
                    let at: Vec<Index> = (0..5).map(|_| Index(rng.below(4))).collect();
                    let found = committed(&members, |id| at[id.0 as usize]);
                    assert!(reached(&members, |id| at[id.0 as usize] >= found));
                    assert!(!reached(&members, |id| at[id.0 as usize] > found));
                }
            }
        }
    }

    #[test]
    fn a_poll_is_lost_once_a_quorum_cannot_say_yes() {
        let members = Configuration::of((0..3).map(NodeId));
        let with = |votes: [Option<bool>; 3]| poll(&members, |id| votes[id.0 as usize]);
        assert_eq!(with([Some(true), None, None]), Poll::Open);
        assert_eq!(with([Some(true), Some(true), None]), Poll::Won);
        assert_eq!(with([Some(true), Some(false), None]), Poll::Open);
        assert_eq!(with([Some(true), Some(false), Some(false)]), Poll::Lost);
        assert!(!reached(&Configuration::default(), |_| true));
    }
}
