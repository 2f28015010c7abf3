//! The bytes of every message that nodes exchange are held still here. A change of any of them is a new version of the protocol.

#![allow(clippy::unwrap_used, clippy::format_collect, reason = "a test")]

use bytes::Bytes;
use core::time::Duration;
use std::sync::Arc;

use lictor_catalog::{
    Action, AutopilotConfig, Coordinate, KvEntry, KvPair, KvTxnOp, KvWrite, NodeCoordinate, Outcome, Session,
    SessionDef, SessionId, SessionRef, TxnError, TxnOp, TxnResult,
};
use lictor_gossip::MemberState;
use lictor_machine::{Index, NodeId};
use lictor_node::wire::{
    DecodeError, VERSION, decode_call, decode_raft, decode_reply, encode_call, encode_raft, encode_reply,
};
use lictor_node::{
    Call, ClusterId, FoundRefusal, Founding, Hello, OperatorAnswer, OperatorRequest, PeerAddress, RaftServer,
    Reply, RequestError, ServerHealth, ServersHealth,
};
use lictor_raft::{
    AppendReply, Body, Configuration, Entry, LogId, Message, Payload, Poll, SnapshotMeta, Term,
};
use proptest::prelude::*;

const CLUSTER: ClusterId = ClusterId(0xc1);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn members() -> Configuration {
    Configuration {
        voters: [NodeId(1), NodeId(300)].into(),
        outgoing: [NodeId(2)].into(),
        learners: [NodeId(3)].into(),
    }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let (last, poll) = (LogId::new(5, 600), Poll { boot: 7, count: 8 });
    let entry = |index, payload| Entry {
        id: LogId::new(5, index),
        payload,
    };
    let entries = vec![
        entry(601, Payload::Noop),
        entry(602, Payload::Command(Bytes::from_static(b"abc"))),
        entry(603, Payload::Members(members())),
    ];
    vec![
        ("PRE_VOTE", Body::PreVote { last, poll }),
        ("PRE_VOTE_REPLY", Body::PreVoteReply { poll, granted: true }),
        (
            "VOTE",
            Body::Vote {
                last,
                poll,
                transfer: true,
            },
        ),
        (
            "VOTE_REPLY",
            Body::VoteReply {
                poll,
                granted: true,
                commit: last,
            },
        ),
        (
            "APPEND",
            Body::Append {
                prev: last,
                entries,
                commit: Index(599),
            },
        ),
        (
            "ACCEPTED",
            Body::AppendReply(AppendReply::Accepted { through: Index(603) }),
        ),
        (
            "REJECTED",
            Body::AppendReply(AppendReply::Rejected {
                prev: Index(603),
                hint: last,
                last: Index(604),
            }),
        ),
        (
            "HEARTBEAT",
            Body::Heartbeat {
                commit: Index(599),
                round: 9,
            },
        ),
        ("HEARTBEAT_REPLY", Body::HeartbeatReply { round: 9 }),
        (
            "SNAPSHOT",
            Body::Snapshot {
                meta: Box::new(SnapshotMeta {
                    last,
                    members: members(),
                }),
                chunk: 2,
                data: Bytes::from_static(b"rows"),
                done: true,
            },
        ),
        (
            "SNAPSHOT_REPLY",
            Body::SnapshotReply {
                snapshot: last,
                next_chunk: 3,
                done: true,
            },
        ),
        (
            "READ_INDEX",
            Body::ReadIndex {
                request: 10,
                lease: true,
            },
        ),
        (
            "READ_INDEX_REPLY",
            Body::ReadIndexReply {
                request: 10,
                index: Some(Index(599)),
            },
        ),
        (
            "READ_INDEX_REFUSED",
            Body::ReadIndexReply {
                request: 10,
                index: None,
            },
        ),
        ("TIMEOUT_NOW", Body::TimeoutNow),
    ]
}

fn hello() -> Hello {
    let peer = |id: u16, at: &str| PeerAddress {
        id: NodeId(id.into()),
        name: format!("n{id}"),
        address: at.parse().unwrap(),
    };
    Hello {
        me: peer(1, "10.0.0.1:8300"),
        expect: 3,
        cluster: Some(CLUSTER),
        given_up: 2,
        peers: vec![peer(2, "[::1]:8300")],
    }
}

fn founding() -> Founding {
    Founding {
        cluster: CLUSTER,
        founder: NodeId(1),
        attempt: 2,
        voters: vec![NodeId(1), NodeId(2)],
    }
}

fn pair() -> KvPair {
    KvPair {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        flags: 42,
    }
}

fn calls() -> Vec<(&'static str, Call)> {
    let key = || Bytes::from_static(b"k");
    let session = || SessionRef("s".into());
    let kv = |write| Call::Write(Action::Kv(write));
    let ops = vec![
        KvTxnOp::Set(pair()),
        KvTxnOp::Cas(pair(), Index(9)),
        KvTxnOp::Lock(pair(), session()),
        KvTxnOp::Unlock(pair(), session()),
        KvTxnOp::Get(key()),
        KvTxnOp::GetOrEmpty(key()),
        KvTxnOp::GetTree(key()),
        KvTxnOp::CheckIndex(key(), Index(9)),
        KvTxnOp::CheckSession(key(), session()),
        KvTxnOp::CheckNotExists(key()),
        KvTxnOp::Delete(key()),
        KvTxnOp::DeleteTree(key()),
        KvTxnOp::DeleteCas(key(), Index(9)),
    ];
    vec![
        ("HELLO", Call::Hello(hello())),
        ("FOUND", Call::Found(founding())),
        ("SET", kv(KvWrite::Set(pair()))),
        ("CAS", kv(KvWrite::Cas(pair(), Index(9)))),
        ("LOCK", kv(KvWrite::Lock(pair(), session()))),
        ("UNLOCK", kv(KvWrite::Unlock(pair(), session()))),
        ("DELETE", kv(KvWrite::Delete(key()))),
        ("DELETE_CAS", kv(KvWrite::DeleteCas(key(), Index(9)))),
        ("DELETE_TREE", kv(KvWrite::DeleteTree(key()))),
        (
            "TXN",
            Call::Write(Action::Txn(ops.into_iter().map(TxnOp::Kv).collect())),
        ),
        ("REAP", Call::Write(Action::ReapTombstones(Index(77)))),
        (
            "AUTOPILOT",
            Call::Write(Action::SetAutopilot {
                config: AutopilotConfig::default(),
                cas: Some(Index(4)),
            }),
        ),
        (
            "COORDINATES",
            Call::Write(Action::Coordinates(vec![coordinate()])),
        ),
        (
            "FORGET_COORDINATES",
            Call::Write(Action::ForgetCoordinates(vec!["a".into()])),
        ),
        ("ADOPT", Call::Adopt(CLUSTER)),
        (
            "SERVERS",
            Call::Operator(OperatorRequest::Servers { stale: true }),
        ),
        ("HEALTH", Call::Operator(OperatorRequest::Health)),
        ("REMOVE", Call::Operator(OperatorRequest::Remove(NodeId(3)))),
        ("RENEW", Call::RenewSession(SessionId(300))),
    ]
}

fn coordinate() -> NodeCoordinate {
    NodeCoordinate {
        node: "a".into(),
        segment: String::new(),
        coordinate: Coordinate::new([0.5; 8], 1.5, 0.0, 0.25).unwrap(),
    }
}

fn raft_server() -> RaftServer {
    RaftServer {
        id: NodeId(3),
        name: Some("c".into()),
        address: Some("127.0.0.1:8300".parse().unwrap()),
        leader: false,
        voter: true,
    }
}

fn replies() -> Vec<(&'static str, Reply)> {
    let written = |outcome| Reply::Written {
        index: Index(700),
        outcome,
    };
    let entry = KvEntry {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        flags: 42,
        lock_index: 1,
        holder: None,
        create_index: Index(5),
        modify_index: Index(6),
    };
    let result = TxnResult::Kv {
        entry: entry.into(),
        value: true,
    };
    let living = Session {
        def: SessionDef {
            id: SessionId(300),
            node: "n".into(),
            ..SessionDef::default()
        },
        create_index: Index(5),
    };
    let error = TxnError {
        op: 3,
        what: "no".into(),
    };
    vec![
        ("HELLO", Reply::Hello(hello())),
        ("AGREED", Reply::Found(Ok(()))),
        ("MEMBER", Reply::Found(Err(FoundRefusal::Member(CLUSTER)))),
        ("PROMISED", Reply::Found(Err(FoundRefusal::Promised(founding())))),
        ("EXPECTS", Reply::Found(Err(FoundRefusal::Expects(5)))),
        ("DONE", written(Outcome::Done(true))),
        ("REFUSED", written(Outcome::Refused("no".into()))),
        ("TXN", written(Outcome::Txn(Ok(vec![result])))),
        ("TXN_FAILED", written(Outcome::Txn(Err(vec![error])))),
        ("NOT_LEADER", Reply::NotLeader(Some(NodeId(2)))),
        ("NO_LEADER", Reply::NotLeader(None)),
        ("FAILED_NO_LEADER", Reply::Failed(RequestError::NoLeader)),
        ("FAILED_LOST", Reply::Failed(RequestError::LeadershipLost)),
        ("FAILED_BUSY", Reply::Failed(RequestError::Busy)),
        (
            "FAILED_TOO_LARGE",
            Reply::Failed(RequestError::TooLarge {
                size: 1000,
                limit: 512,
            }),
        ),
        (
            "FAILED_STOPPED",
            Reply::Failed(RequestError::Stopped("disk".into())),
        ),
        (
            "FAILED_TRANSFER",
            Reply::Failed(RequestError::NotTransferred("slow".into())),
        ),
        (
            "FAILED_REFUSED",
            Reply::Failed(RequestError::Refused("no".into())),
        ),
        ("ADOPTED", Reply::Adopted(Ok(()))),
        ("NOT_ADOPTED", Reply::Adopted(Err(FoundRefusal::Member(CLUSTER)))),
        (
            "SERVERS",
            Reply::Operator(OperatorAnswer::Servers(vec![raft_server()])),
        ),
        (
            "HEALTH",
            Reply::Operator(OperatorAnswer::Health(ServersHealth {
                servers: vec![ServerHealth {
                    server: raft_server(),
                    member: Some(MemberState::Alive),
                    build: "1".into(),
                    last_contact: Some(Duration::from_millis(3)),
                    last_term: Term(5),
                    last_index: Index(600),
                    healthy: true,
                    stable_for: Duration::from_secs(9),
                }],
                failure_tolerance: 1,
            })),
        ),
        ("REMOVED", Reply::Operator(OperatorAnswer::Removed)),
        ("SESSION", written(Outcome::Session(SessionId(300)))),
        ("RENEWED", Reply::Renewed(Some(Arc::new(living)))),
        ("NO_SESSION", Reply::Renewed(None)),
    ]
}

fn message(body: Body) -> Message {
    Message { term: Term(6), body }
}

/// Every message with its bytes.
fn all() -> Vec<(String, Vec<u8>)> {
    let raft = bodies()
        .into_iter()
        .map(|(name, body)| (format!("RAFT {name}"), encode_raft(CLUSTER, &message(body))));
    let calls = calls()
        .into_iter()
        .map(|(name, call)| (format!("CALL {name}"), encode_call(&call)));
    let replies = replies()
        .into_iter()
        .map(|(name, reply)| (format!("REPLY {name}"), encode_reply(&reply)));
    raft.chain(calls).chain(replies).collect()
}

#[test]
fn the_bytes_of_every_message_stay_what_they_are() {
    let golden = include_str!("wire.golden");
    let now: String = all()
        .iter()
        .map(|(name, bytes)| format!("{name} {}\n", hex(bytes)))
        .collect();
    assert!(now == golden, "the bytes have changed:\n{now}");
}

#[test]
fn every_message_comes_back_as_it_was() {
    for (name, body) in bodies() {
        let bytes = encode_raft(CLUSTER, &message(body.clone()));
        assert_eq!(decode_raft(&bytes), Ok((CLUSTER, message(body))), "{name}");
    }
    for (name, call) in calls() {
        assert_eq!(decode_call(&encode_call(&call)), Ok(call), "{name}");
    }
    for (name, reply) in replies() {
        assert_eq!(decode_reply(&encode_reply(&reply)), Ok(reply), "{name}");
    }
}

/// Whether bytes are refused by every decoder.
fn refused(bytes: &[u8]) -> bool {
    decode_raft(bytes).is_err() && decode_call(bytes).is_err() && decode_reply(bytes).is_err()
}

#[test]
fn what_is_cut_short_or_too_long_or_of_another_version_is_refused() {
    assert_eq!(decode_call(&[]), Err(DecodeError::Empty));
    for (name, bytes) in all() {
        let mut long = bytes.clone();
        long.push(0);
        let mut other = bytes.clone();
        other[0] = VERSION + 1;
        match name.split(' ').next() {
            Some("RAFT") => {
                assert_eq!(decode_raft(&long), Err(DecodeError::Trailing(1)), "{name}");
                assert_eq!(decode_raft(&other), Err(DecodeError::Version(VERSION + 1)));
                assert!(
                    (0..bytes.len()).all(|end| decode_raft(&bytes[..end]).is_err()),
                    "{name}"
                );
            }
            Some("CALL") => {
                assert_eq!(decode_call(&long), Err(DecodeError::Trailing(1)), "{name}");
                assert_eq!(decode_call(&other), Err(DecodeError::Version(VERSION + 1)));
                assert!(
                    (0..bytes.len()).all(|end| decode_call(&bytes[..end]).is_err()),
                    "{name}"
                );
            }
            _ => {
                assert_eq!(decode_reply(&long), Err(DecodeError::Trailing(1)), "{name}");
                assert_eq!(decode_reply(&other), Err(DecodeError::Version(VERSION + 1)));
                assert!(
                    (0..bytes.len()).all(|end| decode_reply(&bytes[..end]).is_err()),
                    "{name}"
                );
            }
        }
    }
}

/// A length of 2^62 in the place of any byte: were it believed before the bytes are seen, the program would end here for want of memory.
#[test]
fn lengths_are_not_believed() {
    const HUGE: [u8; 9] = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
    for (_, bytes) in all() {
        for at in 1..bytes.len() {
            let hostile = [&bytes[..at], &HUGE, &bytes[at + 1..]].concat();
            let _ = refused(&hostile);
            let _ = refused(&[&bytes[..at], &HUGE].concat());
        }
    }
}

proptest! {
    #[test]
    fn noise_is_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = refused(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        let _ = refused(&bytes);
    }

    /// Whatever still decodes is a message that can be checked, sent on and read again.
    #[test]
    fn damaged_messages_are_refused_or_are_messages(which in any::<prop::sample::Index>(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let all = all();
        let mut bytes = which.get(&all).1.clone();
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok((cluster, message)) = decode_raft(&bytes) {
            let _ = message.check();
            prop_assert_eq!(decode_raft(&encode_raft(cluster, &message)), Ok((cluster, message)));
        }
        if let Ok(call) = decode_call(&bytes) {
            prop_assert_eq!(decode_call(&encode_call(&call)), Ok(call));
        }
        if let Ok(reply) = decode_reply(&bytes) {
            prop_assert_eq!(decode_reply(&encode_reply(&reply)), Ok(reply));
        }
    }
}
