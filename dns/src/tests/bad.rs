//! What clients should not send.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, RecordType};
use proptest::prelude::*;

use super::*;

fn scene() -> Scene {
    let scene = Scene::configured(|config| config.alt_domain = Some("alt.test".parse().unwrap()));
    scene.world.node("foo", "10.9.0.1", &[("k", "v")]);
    for number in 0..30 {
        scene.world.service(
            &format!("n{number}"),
            &format!("10.0.0.{number}"),
            service("web", 80),
        );
    }
    scene
}

#[test]
fn classes_do_not_matter() {
    let scene = scene();
    for class in [0_u16, 3, 4, 77, 254, 255] {
        let mut query = query("foo.node.consul.", RecordType::A, UDP);
        let at = query.len() - 2;
        query[at..].copy_from_slice(&class.to_be_bytes());
        let answer = scene.exchange(&mut scene.service.desk(), &query, false).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(u16::from(answer.queries[0].query_class()), class);
        assert_eq!(answer.answers.len(), 1, "{class}");
        assert_eq!(answer.answers[0].dns_class, DNSClass::IN);
    }
}

#[test]
fn types_that_nobody_knows_have_no_records() {
    let scene = scene();
    for kind in [0_u16, 41, 250, 253, 254, 999, 65_535] {
        for name in ["foo.node.consul.", "web.service.consul."] {
            let mut bytes = query(name, RecordType::A, UDP);
            let at = bytes.len() - 4;
            bytes[at..at + 2].copy_from_slice(&kind.to_be_bytes());
            let answer = scene.exchange(&mut scene.service.desk(), &bytes, false).unwrap();
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!(said(&answer), ["NoError", SOA], "{name} {kind}");
        }
    }
}

#[test]
fn zones_are_not_handed_over() {
    let scene = scene();
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        for how in [UDP, TCP] {
            for name in ["consul.", "web.service.consul."] {
                let answer = scene.ask_in(name, kind, how);
                assert_eq!(said(&answer), ["NotImp"]);
            }
        }
    }
}

#[test]
fn what_is_refused_is_no_longer_than_what_came() {
    let scene = scene();
    let desk = &mut scene.service.desk();
    let good = query("foo.node.consul.", RecordType::A, UDP);
    let mut many = good.clone();
    many[5] = 100;
    let answer = scene.exchange(desk, &many, false).unwrap();
    assert_eq!((answer.len(), answer[3]), (12, ResponseCode::FormErr.low()));
    let mut reply = good.clone();
    reply[2] |= 0x80;
    assert_eq!(scene.exchange(desk, &reply, false), None);
    assert_eq!(scene.exchange(desk, &good[..5], false), None);
    let stats = scene.service.stats();
    assert_eq!((stats.noise, stats.answers.other), (2, 1));
}

#[test]
fn names_at_their_limits_are_looked_up() {
    let scene = scene();
    let label = "a".repeat(63);
    let long = format!("{label}.{label}.{label}.{}.node.consul.", "b".repeat(48));
    for kind in [RecordType::A, RecordType::SRV] {
        let answer = scene.ask(&long, kind);
        assert_eq!(said(&answer), ["NXDomain", SOA]);
    }
    scene
        .world
        .service(&"h".repeat(200), "10.0.0.1", service(&label, 1));
    assert_eq!(
        scene
            .ask(&format!("{label}.service.consul."), RecordType::A)
            .answers
            .len(),
        1
    );
}

/// Messages that are queries, nearly.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let names = prop_oneof![
        Just("web.service.consul."),
        Just("foo.node.consul."),
        Just("_web._tcp.service.alt.test."),
        Just("1.0.9.10.in-addr.arpa."),
        Just("0a000001.addr.consul."),
        Just("consul."),
        Just("example.com."),
    ];
    let kinds = prop_oneof![
        Just(RecordType::A),
        Just(RecordType::SRV),
        Just(RecordType::ANY),
        Just(RecordType::SOA),
        any::<u16>().prop_map(RecordType::from),
    ];
    let sizes = prop_oneof![Just(None), any::<u16>().prop_map(Some)];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (
        names,
        kinds,
        sizes,
        changes,
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(name, kind, size, changes, end, cut)| {
            let how = How {
                tcp: false,
                edns: size,
            };
            let mut bytes = query(name, kind, how);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        })
}

/// Whatever comes in, what goes out is a whole answer to it that is no longer than it may be.
fn check(scene: &Scene, bytes: &[u8], tcp: bool) {
    let Some(answer) = scene.exchange(&mut scene.service.desk(), bytes, tcp) else {
        return;
    };
    assert_eq!(answer[..2], bytes[..2]);
    assert_eq!(answer[2] & 0x80, 0x80);
    assert!(answer.len() <= if tcp { 65_535 } else { 4096 });
    let read = Message::from_vec(&answer).unwrap();
    if let Ok(asked) = Message::from_vec(bytes)
        && !tcp
    {
        let most = asked
            .edns
            .as_ref()
            .map_or(512, |edns| edns.max_payload().max(512));
        assert!(
            answer.len() <= usize::from(most),
            "{} bytes of {most}",
            answer.len()
        );
        assert!(read.edns.is_none() || asked.edns.is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_comes_in_gets_out_of_hand(
        mangled in proptest::collection::vec((mangled(), any::<bool>()), 32),
        noise in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let scene = scene();
        for (bytes, tcp) in &mangled {
            check(&scene, bytes, *tcp);
        }
        check(&scene, &noise, false);
    }
}
