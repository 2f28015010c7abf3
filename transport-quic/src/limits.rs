//! How much of everything a transport will have.

use std::time::Duration;

use crate::plane::Plane;

/// See [`Limits::first_calls`].
const FIRST_CALLS: u32 = 16;

/// Bounds of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame on the Raft plane, in bytes; below 4 GiB.
    pub raft_frame_bytes: usize,
    /// Longest frame, request and answer on any other plane, in bytes; below 4 GiB.
    pub message_bytes: usize,
    /// Longest answer to a call on the RPC and WAN planes, in bytes; below 4 GiB. It takes memory only as it comes in.
    pub answer_bytes: usize,
    /// Frames that may wait on one lane.
    pub queue_frames: usize,
    /// Bytes that may wait on one lane. A frame is always taken by an empty queue.
    pub queue_bytes: usize,
    /// Events that may wait for the agent. When they are this many, peers are no longer read from.
    pub event_queue: usize,
    /// Datagrams of peers that may wait for the agent. Beyond it they are dropped.
    pub datagram_queue: usize,
    /// How many of them may have come on one connection.
    pub datagrams_per_connection: usize,
    /// Peers, counted once for each plane, that a connection is kept to. Beyond it the one that was not used for
    /// longest is closed.
    pub links: usize,
    /// Connections from peers.
    pub max_connections: usize,
    /// Connections from peers that have not yet greeted.
    pub max_handshakes: usize,
    /// Connections that are being made at one time for the sake of datagrams. Beyond it a datagram to a peer without a
    /// connection is dropped. There are fewer while none succeeds.
    pub max_dials: usize,
    /// Calls that one peer may have open on one connection of the RPC or WAN plane; more wait at the caller. Memory
    /// grows with how many there are, not with this.
    pub calls_per_connection: u32,
    /// Bytes of requests of this agent that may be open on one connection: more of them wait. A peer that has more than twice as
    /// many open, over all its connections of a plane, has the rest refused: its own count may be ahead of ours by what it has given up, or by
    /// a connection that is lost without our knowing. Requests of up to 4 KiB do not count; one larger than all of this goes when no more
    /// than half of it is open.
    pub request_bytes: usize,
    /// Bytes of answers to a peer that may wait for it to take them, over all its connections of a plane, before
    /// [`crate::ReplyHandle::room_for`] makes more answers wait. Answers of up to 4 KiB do not count; one larger than all of this is made when
    /// no more than half of it waits. An answer is counted when it is sent, so those that nobody asked room for bound nothing.
    pub unsent_bytes: usize,
    /// For a connection to be made, both greetings included.
    pub handshake_timeout: Duration,
    /// A connection that is not of the Raft plane is closed when it was not used for so long.
    pub idle_timeout: Duration,
    /// The pause after the first failed attempt to reach a peer; it doubles with each.
    pub reconnect_min: Duration,
    /// The longest such pause.
    pub reconnect_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            raft_frame_bytes: 8 * 1024 * 1024,
            message_bytes: 16 * 1024 * 1024,
            answer_bytes: 512 * 1024 * 1024,
            queue_frames: 4096,
            queue_bytes: 32 * 1024 * 1024,
            event_queue: 1024,
            datagram_queue: 1024,
            datagrams_per_connection: 128,
            links: 256,
            max_connections: 8192,
            max_handshakes: 256,
            max_dials: 32,
            calls_per_connection: 4096,
            request_bytes: 32 * 1024 * 1024,
            unsent_bytes: 32 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(45),
            reconnect_min: Duration::from_millis(25),
            reconnect_max: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// The longest answer to a call on `plane`.
    pub(crate) fn answer_bytes(&self, plane: Plane) -> usize {
        match plane {
            Plane::Raft | Plane::Gossip => self.frame_bytes(plane),
            Plane::Rpc | Plane::Wan => self.answer_bytes.min(u32::MAX as usize),
        }
    }

    /// The longest frame on `plane`.
    pub(crate) fn frame_bytes(&self, plane: Plane) -> usize {
        let limit = match plane {
            Plane::Raft => self.raft_frame_bytes,
            Plane::Rpc | Plane::Gossip | Plane::Wan => self.message_bytes,
        };
        limit.min(u32::MAX as usize)
    }

    /// Calls that a peer may have open on a connection before it has shown that it needs more.
    pub(crate) fn first_calls(&self) -> u32 {
        self.calls_per_connection.min(FIRST_CALLS)
    }
}
