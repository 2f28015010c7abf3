//! What can happen in a world, and what is on its way between its servers.

use bytes::Bytes;
use lictor_machine::{Index, Token};
use lictor_raft::FetchId;

use crate::swarm::Fault;
use crate::trace::Gist;

/// Something that will happen. `life` is that of the server when it was scheduled: what belongs to an earlier life does not happen.
#[derive(Debug)]
pub(super) enum Event {
    Arrive(Packet),
    Notice {
        at: usize,
        life: u64,
        peer: usize,
    },
    LogWritten {
        at: usize,
        life: u64,
    },
    StateWritten {
        at: usize,
        life: u64,
    },
    Read {
        at: usize,
        life: u64,
        id: FetchId,
        first: Index,
        last: Index,
        max_bytes: usize,
    },
    Wake {
        at: usize,
        life: u64,
    },
    Turn {
        at: usize,
        life: u64,
    },
    CallOver {
        at: usize,
        life: u64,
        id: u64,
    },
    Client(usize),
    GiveUp {
        client: usize,
        token: Token,
    },
    Fault(Fault),
    Restart {
        at: usize,
    },
    Resume {
        at: usize,
        life: u64,
    },
    Heal {
        pattern: u64,
    },
    DiskWell {
        at: usize,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) life: u64,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Message { bytes: Bytes, gist: Gist },
    Call { id: u64, body: Bytes },
    Reply { id: u64, body: Bytes },
}
