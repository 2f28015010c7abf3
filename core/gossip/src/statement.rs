//! What members say about members.

use std::net::SocketAddr;

use lictor_machine::NodeId;
use serde::{Deserialize, Serialize};

use crate::event::EventDigest;
use crate::io::Refusal;
use crate::lamport::LamportTime;
use crate::member::{Incarnation, MemberState, Tags};
use crate::{MAX_NAME_BYTES, MAX_TAGS_BYTES};

/// Into how many groups members are put, by a hash of their ids, so that two who compare what they know exchange only the groups
/// that differ.
pub const BUCKETS: usize = 64;

/// Something about a member. The order of the variants is the encoding: new ones come last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// It lives, and this is what it says of itself.
    Alive(Profile),
    /// It did not answer (SWIM §4.2).
    Suspect {
        /// Who.
        id: NodeId,
        /// The incarnation that did not answer.
        incarnation: Incarnation,
        /// Who found out: suspicions of several count for more (Lifeguard §IV-B).
        from: NodeId,
    },
    /// It is dead.
    Dead {
        /// Who.
        id: NodeId,
        /// The incarnation that died.
        incarnation: Incarnation,
        /// Who found out.
        from: NodeId,
    },
    /// It has left in good order. Stronger than death at the same incarnation: who left and then falls silent has not failed.
    Left {
        /// Who.
        id: NodeId,
        /// The incarnation that left.
        incarnation: Incarnation,
    },
    /// It wants to be in the pool: contradicts an earlier `Leave`.
    Join {
        /// Who.
        id: NodeId,
        /// When it said so.
        time: LamportTime,
    },
    /// It is about to leave, or was made to.
    Leave {
        /// Who.
        id: NodeId,
        /// At this incarnation or below: who comes back afterwards is not meant.
        incarnation: Incarnation,
        /// When that was said.
        time: LamportTime,
        /// Forget it altogether.
        prune: bool,
    },
    /// How a member is, in an exchange of everything.
    State {
        /// Who, and what it says of itself.
        profile: Profile,
        /// How it is.
        state: MemberState,
        /// Of its last intent.
        time: LamportTime,
        /// For how long it has been gone, in seconds; 0 while it is not.
        gone_seconds: u32,
    },
}

/// What a member says of itself, once for each incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Who.
    pub id: NodeId,
    /// Its count of its own statements.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub address: SocketAddr,
    /// What it says of itself beside.
    pub tags: Tags,
}

impl Statement {
    /// Checks lengths.
    ///
    /// # Errors
    /// A name is empty, or something is too long.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Alive(profile) | Self::State { profile, .. } => {
                check_name(&profile.name)?;
                check_tags(&profile.tags)
            }
            Self::Suspect { .. }
            | Self::Dead { .. }
            | Self::Left { .. }
            | Self::Join { .. }
            | Self::Leave { .. } => Ok(()),
        }
    }

    /// Whom it is about.
    pub const fn subject(&self) -> NodeId {
        match self {
            Self::Alive(profile) | Self::State { profile, .. } => profile.id,
            Self::Suspect { id, .. }
            | Self::Dead { id, .. }
            | Self::Left { id, .. }
            | Self::Join { id, .. }
            | Self::Leave { id, .. } => *id,
        }
    }
}

/// What the rest of a call is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Which step of an exchange it is.
    pub step: Step,
    /// The Lamport times of member intents, user events and queries.
    pub clocks: [LamportTime; 3],
    /// For each of [`BUCKETS`] groups of members a fingerprint of what the sender knows of them.
    pub buckets: Vec<u64>,
    /// Which user events the sender has.
    pub events: EventDigest,
}

impl Summary {
    /// Checks the number of groups.
    ///
    /// # Errors
    /// It is not [`BUCKETS`].
    pub fn check(&self) -> Result<(), Refusal> {
        if self.buckets.len() == BUCKETS {
            Ok(())
        } else {
            Err(Refusal::Malformed)
        }
    }
}

/// The steps of an exchange of everything: who calls says what it has, is answered with what differs, and gives back in a second
/// call what the other lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The first call of somebody who knows nobody yet.
    Join,
    /// The first call of a member.
    Sync,
    /// The second call.
    Push,
    /// A reply to any.
    Reply,
}

/// Whether a member can be called this.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::Malformed);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Refusal::TooLarge);
    }
    Ok(())
}

/// How many bytes tags count for: each text, and a byte or two for its length.
pub(crate) fn tags_bytes(tags: &Tags) -> usize {
    tags.iter().map(|(key, value)| key.len() + value.len() + 2).sum()
}

/// Whether a member can say this of itself.
pub(crate) fn check_tags(tags: &Tags) -> Result<(), Refusal> {
    if tags_bytes(tags) > MAX_TAGS_BYTES {
        return Err(Refusal::TooLarge);
    }
    Ok(())
}
