//! What members say about members.

use std::net::SocketAddr;

use lictor_machine::NodeId;
use serde::{Deserialize, Serialize};

use crate::event::EventDigest;
use crate::io::Refusal;
use crate::lamport::LamportTime;
use crate::member::{Incarnation, MemberState, Tags};
use crate::{MAX_NAME_BYTES, MAX_TAGS_BYTES};

/// Something about a member. The order of the variants is the encoding: new ones come last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// It lives, and this is what it says of itself.
    Alive {
        /// Who.
        id: NodeId,
        /// Its count of its own statements.
        incarnation: Incarnation,
        /// Its name.
        name: String,
        /// Where it is reached.
        address: SocketAddr,
        /// What it says of itself beside.
        tags: Tags,
    },
    /// It did not answer.
    Suspect {
        /// Who.
        id: NodeId,
        /// The incarnation that did not answer.
        incarnation: Incarnation,
        /// Who found out: suspicions of several count for more (Lifeguard §IV-B).
        from: NodeId,
    },
    /// It is dead; or it has left, if it says so itself.
    Dead {
        /// Who.
        id: NodeId,
        /// The incarnation that died.
        incarnation: Incarnation,
        /// Who found out.
        from: NodeId,
    },
    /// It is about to be in the pool.
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
        /// When that was said.
        time: LamportTime,
        /// Forget it altogether.
        prune: bool,
    },
    /// How a member is, in an exchange of everything.
    State {
        /// Who.
        id: NodeId,
        /// Of the last statement about it.
        incarnation: Incarnation,
        /// Its name.
        name: String,
        /// Where it is reached.
        address: SocketAddr,
        /// What it says of itself.
        tags: Tags,
        /// How it is.
        state: MemberState,
        /// Of its last intent.
        time: LamportTime,
    },
}

impl Statement {
    /// Checks lengths.
    ///
    /// # Errors
    /// A name is empty, or something is too long.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Alive { name, tags, .. } | Self::State { name, tags, .. } => {
                check_name(name)?;
                check_tags(tags)
            }
            Self::Suspect { .. } | Self::Dead { .. } | Self::Join { .. } | Self::Leave { .. } => Ok(()),
        }
    }
}

/// What the rest of a call is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Whether who calls is about to join, and knows nobody yet.
    pub joining: bool,
    /// The Lamport times of member intents, user events and queries.
    pub clocks: [LamportTime; 3],
    /// Which user events the sender has.
    pub events: EventDigest,
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

/// Whether a member can say this of itself. What counts is the encoded size: each text and a byte or two for its length.
pub(crate) fn check_tags(tags: &Tags) -> Result<(), Refusal> {
    let bytes: usize = tags
        .iter()
        .map(|(key, value)| key.len() + value.len() + 2)
        .sum();
    if bytes > MAX_TAGS_BYTES {
        return Err(Refusal::TooLarge);
    }
    Ok(())
}
