//! Who is in the pool.

use core::fmt;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lictor_machine::NodeId;
use serde::{Deserialize, Serialize};

/// What a member says of itself beside its name and address, in order of their keys. Its encoded size is bounded by
/// [`crate::MAX_TAGS_BYTES`].
pub type Tags = BTreeMap<String, String>;

/// Counts what a member says of itself (SWIM §4.2): of two statements about a member the one with the higher incarnation holds. Only
/// the member itself makes new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A member as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub id: NodeId,
    /// Its name; unique among the members that are not gone.
    pub name: String,
    /// Where it is reached.
    pub address: SocketAddr,
    /// What it says of itself.
    pub tags: Tags,
    /// Of the last statement about it.
    pub incarnation: Incarnation,
    /// How it is.
    pub state: MemberState,
}

/// How a member is. `Left` is a state of its own: one that left in good order is never taken for failed, nor the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemberState {
    /// Well, as far as is known.
    Alive,
    /// It did not answer; it has a while to prove that it lives (SWIM §4.2). Still counted as well.
    Suspect,
    /// It has said that it is about to leave.
    Leaving,
    /// It left in good order, or was made to.
    Left,
    /// It is dead, or out of reach.
    Failed,
}

impl MemberState {
    /// Whether others may rely on it: alive, or only suspected not to be.
    pub const fn is_well(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// A change of the pool, in order, with the member as it is after the change. Shared, so that telling costs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberEvent {
    /// It is new, or back after it had failed or left.
    Joined(Arc<Member>),
    /// Its address, name or tags are others, or it came under suspicion, was cleared of it, or began to leave.
    Updated(Arc<Member>),
    /// It failed.
    Failed(Arc<Member>),
    /// It left.
    Left(Arc<Member>),
    /// It has been gone for so long that it is forgotten, or it was pruned.
    Reaped(Arc<Member>),
}

impl MemberEvent {
    /// The member.
    pub fn member(&self) -> &Arc<Member> {
        match self {
            Self::Joined(member)
            | Self::Updated(member)
            | Self::Failed(member)
            | Self::Left(member)
            | Self::Reaped(member) => member,
        }
    }
}
