//! The encoding of what members say: it stands still, holds its limits, and takes nothing for granted.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use lictor_gossip::coordinate::DIMENSIONS;
use lictor_gossip::event::{
    EventDigest, EventsFound, EventsHeld, EventsWanted, MAX_QUERY_ANSWER_BYTES, QueryAnswer, QueryStatement,
};
use lictor_gossip::wire::{
    BUCKETS, MAX_CALL_BYTES, MAX_CALL_PARTS, MAX_PACKET_BYTES, MAX_PACKET_PARTS, MAX_PART_BYTES,
    MIN_PACKET_BYTES, PacketBuilder, Part, PoolTag, Profile, Received, Statement, Step, Summary, read_call,
    read_packet,
};
use lictor_gossip::{
    Coordinate, Incarnation, LamportTime, MAX_NAME_BYTES, MAX_TAGS_BYTES, MAX_USER_EVENT_BYTES, MemberState,
    QueryId, Refusal, Tags, UserEvent,
};
use lictor_machine::NodeId;
use proptest::prelude::*;

/// Longer than any id that a test uses: as long as one can be.
const ID: NodeId = NodeId(u128::MAX);

fn pool() -> PoolTag {
    PoolTag::new("dc1")
}

fn event(payload: usize) -> UserEvent {
    UserEvent {
        time: LamportTime(300),
        origin: NodeId(7),
        name: "deploy".to_owned(),
        payload: Bytes::from(vec![b'p'; payload]),
        coalesce: true,
    }
}

fn query() -> QueryStatement {
    QueryStatement {
        id: QueryId {
            time: LamportTime(300),
            origin: NodeId(7),
            nonce: 9,
        },
        name: "who".to_owned(),
        payload: Bytes::from_static(b"?"),
        nodes: vec!["n1".to_owned()],
        tags: vec![("role".to_owned(), "web".to_owned())],
        relay: 2,
        acks: true,
        timeout_ms: 3200,
    }
}

fn answer(payload: Option<Bytes>) -> QueryAnswer {
    QueryAnswer {
        query: query().id,
        from: NodeId(8),
        payload,
    }
}

fn coordinate() -> Coordinate {
    Coordinate {
        vector: [0.5, -0.25, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0],
        error: 0.75,
        adjustment: -0.125,
        height: 0.5,
    }
}

fn profile() -> Profile {
    Profile {
        id: NodeId(7),
        incarnation: Incarnation(300),
        name: "n7".to_owned(),
        address: ([10, 0, 0, 7], 8301).into(),
        tags: Tags::from([("role".to_owned(), "web".to_owned())]),
    }
}

/// One of each kind.
fn parts() -> Vec<Part> {
    let (id, incarnation, from) = (NodeId(7), Incarnation(300), NodeId(8));
    let time = LamportTime(300);
    let statements = [
        Statement::Alive(profile()),
        Statement::Suspect {
            id,
            incarnation,
            from,
        },
        Statement::Dead {
            id,
            incarnation,
            from,
        },
        Statement::Left { id, incarnation },
        Statement::Join { id, time },
        Statement::Leave {
            id,
            incarnation,
            time,
            prune: true,
        },
        Statement::State {
            profile: Profile {
                address: ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7], 8301).into(),
                ..profile()
            },
            state: MemberState::Left,
            time,
            gone_seconds: 60,
        },
    ];
    let mut parts = vec![
        Part::Ping {
            seq: 300,
            target: NodeId(7),
            incarnation,
        },
        Part::PingRequest {
            seq: 300,
            target: NodeId(7),
        },
        Part::Ack {
            seq: 300,
            incarnation: Some(incarnation),
            coordinate: Some(coordinate()),
        },
        Part::Ack {
            seq: 300,
            incarnation: None,
            coordinate: None,
        },
        Part::Nack { seq: 300 },
    ];
    parts.extend(statements.map(Part::Statement));
    let digest = EventDigest {
        newest: time,
        count: 12,
        fingerprint: 0x0102_0304_0506_0708,
    };
    for step in [Step::Join, Step::Sync, Step::Push, Step::Reply] {
        parts.push(Part::Summary(Summary {
            step,
            clocks: [time, LamportTime(2), LamportTime(3)],
            buckets: (0..BUCKETS as u64).collect(),
            events: digest,
        }));
    }
    parts.extend([
        Part::UserEvent(event(3)),
        Part::Digest(digest),
        Part::EventsWanted(EventsWanted {
            above: time,
            below: 9,
        }),
        Part::EventsHeld(EventsHeld {
            fingerprints: vec![1, u64::MAX],
        }),
        Part::EventsFound(EventsFound {
            same_below: true,
            more: false,
        }),
        Part::Query(query()),
        Part::QueryAnswer(answer(Some(Bytes::from_static(b"me")))),
        Part::QueryAnswer(answer(None)),
        Part::Relay(answer(None)),
    ]);
    parts
}

fn packet(parts: &[Part]) -> Bytes {
    let mut packet = PacketBuilder::packet(pool(), MAX_PACKET_BYTES);
    for part in parts {
        assert!(packet.push_part(part), "{part:?}");
    }
    packet.finish()
}

/// What is read of a packet, and what ended it.
fn read(packet: &Bytes) -> (Vec<Part>, Option<Refusal>) {
    let parts = match read_packet(packet, pool()) {
        Ok(parts) => parts,
        Err(reason) => return (Vec::new(), Some(reason)),
    };
    let mut good = Vec::new();
    for part in parts {
        match part {
            Ok(Received { part, .. }) => good.push(part),
            Err(reason) => return (good, Some(reason)),
        }
    }
    (good, None)
}

#[test]
fn the_format_stands_still() {
    let mut now = String::new();
    for part in parts() {
        let bytes = packet(std::slice::from_ref(&part));
        let hex = bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let _ = writeln!(now, "{hex}");
    }
    let golden = include_str!("wire.golden");
    for ((line, expected), part) in now.lines().zip(golden.lines()).zip(parts()) {
        assert_eq!(line, expected, "{part:?}");
    }
    assert_eq!(now.lines().count(), golden.lines().count(), "{now}");
}

#[test]
fn what_is_said_is_what_is_read() {
    for part in parts() {
        assert_eq!(part.check(), Ok(()), "{part:?}");
        assert_eq!(read(&packet(std::slice::from_ref(&part))), (vec![part], None));
    }
    let some = &parts()[..12];
    assert_eq!(read(&packet(some)), (some.to_vec(), None), "in order");
    assert_eq!(read(&packet(&[])), (Vec::new(), None));
}

/// What arrived can be passed on without being encoded again.
#[test]
fn the_bytes_of_a_part_are_a_slice_of_what_arrived() {
    let packet = packet(&parts()[..5]);
    for received in read_packet(&packet, pool()).unwrap() {
        let received = received.unwrap();
        assert_eq!(received.encoded, received.part.encode());
        let arrived = packet.as_ptr_range();
        assert!(arrived.contains(&received.encoded.as_ptr()));
    }
}

#[test]
fn another_version_another_pool_and_nonsense_are_told_apart() {
    let good = packet(&parts()[..1]);
    let mut other = good.to_vec();
    other[0] = 2;
    assert_eq!(read(&Bytes::from(other)).1, Some(Refusal::Version));
    assert_eq!(
        read_packet(&good, PoolTag::new("dc2")).unwrap_err(),
        Refusal::ForeignPool
    );
    assert_eq!(read(&Bytes::new()).1, Some(Refusal::Malformed));
    for end in 1..5 {
        assert_eq!(read(&good.slice(..end)).1, Some(Refusal::Malformed), "{end}");
    }
    assert_eq!(
        read(&good.slice(..5)),
        (Vec::new(), None),
        "a packet may be empty"
    );
    for end in 6..good.len() {
        assert_eq!(
            read(&good.slice(..end)),
            (Vec::new(), Some(Refusal::Malformed)),
            "{end}"
        );
    }
}

/// A part says its length, and that is what it must have.
#[test]
fn a_part_with_something_behind_it_is_refused() {
    let mut packet = PacketBuilder::packet(pool(), 1150);
    let mut nack = Part::Nack { seq: 1 }.encode().to_vec();
    assert!(packet.push(&nack));
    nack.push(0);
    assert!(packet.push(&nack));
    assert!(packet.push_part(&Part::Nack { seq: 2 }));
    let (parts, refused) = read(&packet.finish());
    assert_eq!(
        parts,
        [Part::Nack { seq: 1 }],
        "what is behind a bad part is not read"
    );
    assert_eq!(refused, Some(Refusal::Malformed));
}

/// G-11: as many parts as there can be, and one more.
#[test]
fn g11_a_packet_holds_its_limits_both_ways() {
    let small = Part::Nack { seq: 1 };
    let mut packet = PacketBuilder::packet(pool(), MAX_PACKET_BYTES);
    let mut pushed = 0;
    while packet.push_part(&small) {
        pushed += 1;
    }
    assert_eq!((pushed, packet.room()), (MAX_PACKET_PARTS, 0));
    let full = packet.finish();
    assert_eq!(read(&full), (vec![small.clone(); MAX_PACKET_PARTS], None));
    let mut more = full.to_vec();
    let encoded = small.encode();
    more.extend((encoded.len() as u16).to_le_bytes());
    more.extend(&encoded);
    let (parts, refused) = read(&Bytes::from(more));
    assert_eq!(
        (parts.len(), refused),
        (MAX_PACKET_PARTS, Some(Refusal::TooLarge))
    );
    assert_eq!(
        read(&Bytes::from(vec![1; MAX_PACKET_BYTES + 1])).1,
        Some(Refusal::TooLarge)
    );
}

#[test]
fn a_packet_is_never_longer_than_its_budget() {
    for budget in [0, 5, 6, 7, 8, 100, 1150, MAX_PACKET_BYTES, usize::MAX] {
        let mut packet = PacketBuilder::packet(pool(), budget);
        for part in parts().iter().cycle().take(500) {
            let (before, room) = (packet.room(), part.encode().len());
            assert_eq!(packet.push_part(part), room <= before);
        }
        assert!(
            packet.finish().len() <= budget.clamp(5, MAX_PACKET_BYTES),
            "{budget}"
        );
    }
}

#[test]
fn a_part_is_never_longer_than_its_limit() {
    let mut packet = PacketBuilder::call(pool());
    assert_eq!(packet.room(), MAX_PART_BYTES);
    assert!(!packet.push(&vec![0; MAX_PART_BYTES + 1]));
    assert!(!packet.push(&[]), "nothing is no part");
    assert!(packet.is_empty());
    let mut long = packet.finish().to_vec();
    long.extend((MAX_PART_BYTES as u16 + 1).to_le_bytes());
    long.extend(vec![0; MAX_PART_BYTES + 1]);
    let mut parts = read_call(&Bytes::from(long), pool()).unwrap();
    assert_eq!(parts.next(), Some(Err(Refusal::TooLarge)));
    assert_eq!(parts.next(), None);
}

#[test]
fn a_call_holds_its_limits_both_ways() {
    let small = Part::Nack { seq: 1 }.encode();
    let mut call = PacketBuilder::call(pool());
    let mut pushed = 0;
    while call.push(&small) {
        pushed += 1;
    }
    assert_eq!(pushed, MAX_CALL_PARTS);
    let full = call.finish();
    assert_eq!(
        read_call(&full, pool()).unwrap().map(Result::unwrap).count(),
        pushed
    );
    let too_long = Bytes::from(vec![1; MAX_CALL_BYTES + 1]);
    assert_eq!(read_call(&too_long, pool()).unwrap_err(), Refusal::TooLarge);
}

/// The longest of each that may be said fits where it has to go.
#[test]
fn the_longest_parts_fit_into_the_smallest_packets() {
    let name = "n".repeat(MAX_NAME_BYTES);
    let tags = BTreeMap::from([("k".to_owned(), "v".repeat(MAX_TAGS_BYTES - 3))]);
    let long = Profile {
        id: ID,
        incarnation: Incarnation(u64::MAX),
        name,
        address: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(),
        tags,
    };
    let time = LamportTime(u64::MAX);
    let id = QueryId {
        time,
        origin: ID,
        nonce: u32::MAX,
    };
    let parts = [
        Part::Statement(Statement::State {
            profile: long,
            state: MemberState::Failed,
            time,
            gone_seconds: u32::MAX,
        }),
        Part::UserEvent(UserEvent {
            time,
            origin: ID,
            ..event(MAX_USER_EVENT_BYTES - "deploy".len())
        }),
        Part::Query(QueryStatement {
            id,
            payload: Bytes::new(),
            nodes: vec!["n".repeat(1022 - 3)],
            tags: Vec::new(),
            timeout_ms: u32::MAX,
            ..query()
        }),
        Part::Relay(QueryAnswer {
            query: id,
            from: ID,
            payload: Some(Bytes::from(vec![0; MAX_QUERY_ANSWER_BYTES])),
        }),
    ];
    for part in parts {
        if !matches!(part, Part::Statement(_)) {
            assert_eq!(part.check(), Ok(()), "{part:?}");
        }
        let mut packet = PacketBuilder::packet(pool(), MIN_PACKET_BYTES);
        assert!(packet.push_part(&part), "{} bytes: {part:?}", part.encode().len());
    }
}

#[test]
fn what_breaks_a_bound_is_refused() {
    let too_long = "x".repeat(MAX_NAME_BYTES + 1);
    let tags = Tags::from([("k".to_owned(), "v".repeat(MAX_TAGS_BYTES))]);
    let alive = |profile| Part::Statement(Statement::Alive(profile));
    let with = |change: fn(&mut Coordinate)| {
        let mut coordinate = coordinate();
        change(&mut coordinate);
        Part::Ack {
            seq: 1,
            incarnation: None,
            coordinate: Some(coordinate),
        }
    };
    let cases = [
        (
            alive(Profile {
                name: String::new(),
                ..profile()
            }),
            Refusal::Malformed,
        ),
        (
            alive(Profile {
                name: too_long,
                ..profile()
            }),
            Refusal::TooLarge,
        ),
        (alive(Profile { tags, ..profile() }), Refusal::TooLarge),
        (Part::UserEvent(event(MAX_USER_EVENT_BYTES)), Refusal::TooLarge),
        (
            Part::UserEvent(UserEvent {
                name: String::new(),
                ..event(1)
            }),
            Refusal::Malformed,
        ),
        (
            Part::UserEvent(UserEvent {
                time: LamportTime(0),
                ..event(1)
            }),
            Refusal::Malformed,
        ),
        (
            Part::Query(QueryStatement {
                name: String::new(),
                ..query()
            }),
            Refusal::Malformed,
        ),
        (
            Part::Query(QueryStatement { relay: 6, ..query() }),
            Refusal::TooLarge,
        ),
        (
            Part::Query(QueryStatement {
                nodes: vec![String::new(); 600],
                ..query()
            }),
            Refusal::TooLarge,
        ),
        (
            Part::QueryAnswer(answer(Some(Bytes::from(vec![0; MAX_QUERY_ANSWER_BYTES + 1])))),
            Refusal::TooLarge,
        ),
        // G-17
        (with(|c| c.vector[DIMENSIONS - 1] = f64::NAN), Refusal::Coordinate),
        (with(|c| c.vector[0] = f64::INFINITY), Refusal::Coordinate),
        (with(|c| c.vector[0] = 1e300), Refusal::Coordinate),
        (with(|c| c.error = f64::NAN), Refusal::Coordinate),
        (with(|c| c.error = -0.1), Refusal::Coordinate),
        (with(|c| c.error = 1.6), Refusal::Coordinate),
        (with(|c| c.adjustment = f64::NEG_INFINITY), Refusal::Coordinate),
        (with(|c| c.height = 0.0), Refusal::Coordinate),
        (with(|c| c.height = f64::NAN), Refusal::Coordinate),
        (with(|c| c.height = 1e9), Refusal::Coordinate),
    ];
    for (part, reason) in cases {
        let sent = packet(&[Part::Nack { seq: 1 }, part.clone(), Part::Nack { seq: 2 }]);
        assert_eq!(
            read(&sent),
            (vec![Part::Nack { seq: 1 }], Some(reason)),
            "{part:?}"
        );
    }
}

/// A count that no message could hold is not believed.
#[test]
fn a_length_is_believed_only_if_the_bytes_are_there() {
    let mut held = Part::EventsHeld(EventsHeld {
        fingerprints: Vec::new(),
    })
    .encode()
    .to_vec();
    held.pop();
    held.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let mut packet = PacketBuilder::packet(pool(), 1150);
    assert!(packet.push(&held));
    assert_eq!(read(&packet.finish()).1, Some(Refusal::Malformed));
}

proptest! {
    /// No bytes make it panic, and what is read says the same when it is said again.
    #[test]
    fn anything_may_arrive(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut framed = packet(&[]).to_vec();
        framed.extend(&bytes);
        for arrived in [Bytes::from(bytes), Bytes::from(framed)] {
            for part in read(&arrived).0 {
                prop_assert_eq!(part.check(), Ok(()));
                prop_assert_eq!(read(&packet(std::slice::from_ref(&part))), (vec![part], None));
            }
        }
    }

    /// One byte of a good packet is another.
    #[test]
    fn a_damaged_packet_is_read_or_refused(at in 0_usize..2000, to in any::<u8>()) {
        let mut damaged = packet(&parts()[..12]).to_vec();
        let at = at % damaged.len();
        damaged[at] = to;
        let (parts, _) = read(&Bytes::from(damaged));
        for part in parts {
            prop_assert_eq!(part.check(), Ok(()));
        }
    }
}
