//! Names that others know.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::{A, AAAA, CNAME};

use super::*;
use crate::config::RecursorStrategy;

/// What a recursor does with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Answers it.
    Answers,
    /// Says that it failed.
    Fails,
    /// Says nothing.
    Silent,
    /// Says that there is too much for UDP.
    Truncates,
    /// First says something to another question, with another id, and from a stranger's point of view.
    Confused,
}

/// A recursor on a socket of its own, which tells what it was asked.
struct Recursor {
    address: SocketAddr,
    asked: mpsc::Receiver<(String, RecordType)>,
}

impl Recursor {
    fn start(manner: Manner) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).unwrap();
        let (sender, asked) = mpsc::channel();
        let tell = sender.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut bytes) {
                let query = Message::from_vec(&bytes[..length]).unwrap();
                // The test may be over.
                let _ = tell.send(question(&query));
                let answer = answer(&query, manner);
                match manner {
                    Manner::Silent => continue,
                    Manner::Confused => {
                        let mut other_id = answer.clone();
                        other_id.metadata.id ^= 1;
                        udp.send_to(&other_id.to_vec().unwrap(), from).unwrap();
                        let mut other_name = answer.clone();
                        other_name.queries.clear();
                        other_name.add_query(Asked::query(Name::from_ascii("evil.").unwrap(), RecordType::A));
                        udp.send_to(&other_name.to_vec().unwrap(), from).unwrap();
                        udp.send_to(b"short", from).unwrap();
                    }
                    Manner::Answers | Manner::Fails | Manner::Truncates => {}
                }
                udp.send_to(&answer.to_vec().unwrap(), from).unwrap();
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    continue;
                }
                let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut bytes).unwrap();
                let query = Message::from_vec(&bytes).unwrap();
                let _ = sender.send(question(&query));
                let whole = answer(&query, Manner::Answers).to_vec().unwrap();
                stream.write_all(&(whole.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&whole).unwrap();
            }
        });
        Self { address, asked }
    }

    fn was_asked(&self) -> Vec<(String, RecordType)> {
        self.asked.try_iter().collect()
    }
}

fn question(query: &Message) -> (String, RecordType) {
    let asked = &query.queries[0];
    (asked.name().to_string(), asked.query_type())
}

fn answer(query: &Message, manner: Manner) -> Message {
    let mut answer = query.clone().into_response();
    answer.edns = None;
    let (name, kind) = question(query);
    let owner = query.queries[0].name().clone();
    let canonical = Name::from_ascii("real.example.com.").unwrap();
    match (manner, name.as_str()) {
        (Manner::Fails, _) => answer.metadata.response_code = ResponseCode::ServFail,
        (Manner::Truncates, _) => answer.metadata.truncation = true,
        (_, "nope.example.com.") => answer.metadata.response_code = ResponseCode::NXDomain,
        (_, "six.example.com.") if kind != RecordType::AAAA => {}
        (_, "alias.example.com.") => {
            let data = RData::CNAME(CNAME(canonical.clone()));
            answer.add_answer(Record::from_rdata(owner, 60, data));
            answer.add_answer(Record::from_rdata(canonical, 30, RData::A(A::new(192, 0, 2, 2))));
        }
        (_, _) if kind == RecordType::AAAA => {
            let address = RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
            answer.add_answer(Record::from_rdata(owner, 60, address));
        }
        (_, _) => {
            answer.add_answer(Record::from_rdata(owner, 60, RData::A(A::new(192, 0, 2, 1))));
        }
    }
    answer
}

fn scene(recursors: &[&Recursor]) -> Scene {
    Scene::configured(|config| {
        config.recursors = recursors.iter().map(|recursor| recursor.address).collect();
        config.service_ttl = [("*", Duration::from_secs(40))].into_iter().collect();
        config.recursor_timeout = Duration::from_secs(20);
    })
}

#[test]
fn other_domains_are_asked_for_elsewhere() {
    let recursor = Recursor::start(Manner::Answers);
    let scene = scene(&[&recursor]);
    for how in [UDP, TCP, edns(1232)] {
        let answer = scene.ask_in("Example.com.", RecordType::A, how);
        assert_eq!(said(&answer)[..2], ["NoError", "= Example.com. 60 A 192.0.2.1"]);
        assert!(answer.metadata.recursion_available);
        assert!(!answer.metadata.authoritative);
        assert_eq!(recursor.was_asked(), [("Example.com.".to_owned(), RecordType::A)]);
    }
    assert_eq!(said(&scene.ask("nope.example.com.", RecordType::A)), ["NXDomain"]);
    let reverse = scene.ask("9.9.9.9.in-addr.arpa.", RecordType::PTR);
    assert_eq!(reverse.metadata.response_code, ResponseCode::NoError);
    assert_eq!(recursor.was_asked().len(), 2);
    let own = scene.ask("nope.service.consul.", RecordType::A);
    assert_eq!(own.metadata.response_code, ResponseCode::NXDomain);
    assert!(own.metadata.recursion_available && own.metadata.authoritative);
    assert_eq!(recursor.was_asked(), []);
    assert_eq!(scene.service.stats().forwarded, 5);
}

#[test]
fn when_one_fails_the_next_is_asked() {
    let (failing, good) = (Recursor::start(Manner::Fails), Recursor::start(Manner::Answers));
    let scene = scene(&[&failing, &good]);
    for _ in 0..4 {
        assert_eq!(scene.ask("example.com.", RecordType::A).answers.len(), 1);
    }
    assert_eq!(
        (failing.was_asked().len(), good.was_asked().len()),
        (4, 4),
        "in their order"
    );
    let all_fail = self::scene(&[&failing, &failing]);
    let answer = all_fail.ask("example.com.", RecordType::A);
    assert_eq!(said(&answer), ["ServFail"]);
    assert!(answer.metadata.recursion_available);
    assert_eq!(failing.was_asked().len(), 2);
    assert_eq!(all_fail.service.stats().unforwarded, 1);
}

#[test]
fn who_says_nothing_is_not_waited_for_for_ever() {
    let (silent, good) = (Recursor::start(Manner::Silent), Recursor::start(Manner::Answers));
    let scene = Scene::configured(|config| {
        config.recursors = vec![silent.address, good.address];
        config.recursor_timeout = Duration::from_millis(50);
    });
    assert!(
        scene
            .ask("example.com.", RecordType::A)
            .metadata
            .recursion_available
    );
    assert_eq!(silent.was_asked().len(), 1);
}

#[test]
fn the_order_may_be_random() {
    let (failing, good) = (Recursor::start(Manner::Fails), Recursor::start(Manner::Answers));
    let scene = Scene::configured(|config| {
        config.recursors = vec![failing.address, good.address];
        config.recursor_strategy = RecursorStrategy::Random;
        config.recursor_timeout = Duration::from_secs(20);
    });
    for _ in 0..200 {
        assert_eq!(scene.ask("example.com.", RecordType::A).answers.len(), 1);
    }
    let failed = failing.was_asked().len();
    // The mean is 100; this is more than six standard deviations away.
    assert!((50..=150).contains(&failed), "{failed}");
    assert_eq!(good.was_asked().len(), 200);
}

#[test]
fn only_the_answer_to_the_question_counts() {
    let confused = Recursor::start(Manner::Confused);
    let scene = scene(&[&confused]);
    let answer = scene.ask("example.com.", RecordType::A);
    assert_eq!(said(&answer)[1], "= example.com. 60 A 192.0.2.1");
}

#[test]
fn names_in_place_of_addresses_are_followed() {
    let recursor = Recursor::start(Manner::Answers);
    let scene = scene(&[&recursor]);
    scene.world.node("host", "alias.example.com", &[]);
    scene.world.service("n1", "example.com", service("ext", 80));
    scene.world.service("n2", "six.example.com", service("six", 80));
    let alias = "= ext.service.consul. 40 CNAME example.com.";
    scene.says(
        "ext.service.consul.",
        RecordType::A,
        &["NoError", "= example.com. 40 A 192.0.2.1", alias],
    );
    scene.says(
        "ext.service.consul.",
        RecordType::AAAA,
        &["NoError", "= example.com. 40 AAAA 2001:db8::1", alias],
    );
    scene.says("ext.service.consul.", RecordType::CNAME, &["NoError", alias]);
    scene.says(
        "ext.service.consul.",
        RecordType::SRV,
        &[
            "NoError",
            "= ext.service.consul. 40 SRV 1 1 80 example.com.",
            "+ example.com. 40 A 192.0.2.1",
        ],
    );
    scene.says(
        "six.service.consul.",
        RecordType::SRV,
        &[
            "NoError",
            "= six.service.consul. 40 SRV 1 1 80 six.example.com.",
            "+ six.example.com. 40 AAAA 2001:db8::1",
        ],
    );
    let node = scene.ask("host.node.consul.", RecordType::A);
    let order: Vec<RecordType> = node.answers.iter().map(Record::record_type).collect();
    assert_eq!(order, [RecordType::CNAME, RecordType::CNAME, RecordType::A]);
    assert_eq!(node.answers[2].data.to_string(), "192.0.2.2");
}

#[test]
fn a_host_that_nobody_knows_is_named_all_the_same() {
    let failing = Recursor::start(Manner::Fails);
    for scene in [scene(&[&failing]), scene(&[])] {
        scene.world.service("n1", "example.com", service("ext", 80));
        scene.says(
            "ext.service.consul.",
            RecordType::A,
            &["NoError", "= ext.service.consul. 40 CNAME example.com."],
        );
        scene.world.service("n1", "not an address", service("odd", 80));
        let odd = scene.ask("odd.service.consul.", RecordType::A);
        assert_eq!(odd.answers.len(), 1);
    }
}

#[test]
fn what_does_not_fit_into_a_datagram_is_fetched_by_tcp() {
    let recursor = Recursor::start(Manner::Truncates);
    let scene = scene(&[&recursor]);
    scene.world.service("n1", "example.com", service("ext", 80));
    let answer = scene.ask("ext.service.consul.", RecordType::A);
    assert_eq!(said(&answer)[1], "= example.com. 40 A 192.0.2.1");
    // The client's own query is the client's to repeat.
    assert!(scene.ask("example.com.", RecordType::A).metadata.truncation);
}

#[test]
fn names_in_the_own_domain_lead_to_each_other() {
    let scene = Scene::new();
    scene.world.node("foo", "10.9.0.1", &[("k", "v")]);
    scene.world.node("alias", "foo.node.consul", &[]);
    scene
        .world
        .service("far", "alias.node.consul", service("web", 80));
    scene.says(
        "web.service.consul.",
        RecordType::A,
        &[
            "NoError",
            "= alias.node.consul. 0 CNAME foo.node.consul.",
            "= foo.node.consul. 0 A 10.9.0.1",
            "= web.service.consul. 0 CNAME alias.node.consul.",
        ],
    );
    scene.says(
        "web.service.consul.",
        RecordType::SRV,
        &[
            "NoError",
            "= web.service.consul. 0 SRV 1 1 80 alias.node.consul.",
            "+ alias.node.consul. 0 CNAME foo.node.consul.",
            "+ foo.node.consul. 0 A 10.9.0.1",
        ],
    );
    // An address counts more than a name that leads to one.
    scene.world.service("near", "10.9.0.2", service("web", 80));
    scene.says(
        "web.service.consul.",
        RecordType::A,
        &["NoError", "= web.service.consul. 0 A 10.9.0.2"],
    );
}

#[test]
fn names_that_lead_in_circles_end() {
    let scene = Scene::new();
    scene.world.node("a", "b.node.consul", &[]);
    scene.world.node("b", "a.node.consul", &[]);
    let answer = scene.ask_in("a.node.consul.", RecordType::A, TCP);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!((2..=20).contains(&answer.answers.len()), "{answer:?}");
}

#[test]
fn only_so_many_wait_for_others() {
    let silent = Recursor::start(Manner::Silent);
    let scene = Scene::configured(|config| {
        config.recursors = vec![silent.address];
        config.recursor_timeout = Duration::from_hours(1);
        config.limits.waiting = 2;
    });
    let wait = |name: &str| {
        let query = query(name, RecordType::A, UDP);
        let mut desk = scene.service.desk();
        match scene.service.at_once(&mut desk, &query, CLIENT, Transport::Udp) {
            AtOnce::Later(request, place) => Ok(Box::pin(
                scene.service.later(request, place, query, CLIENT, false),
            )),
            AtOnce::Written => Err(said(&Message::from_vec(&desk.message).unwrap())),
            AtOnce::Silence => panic!("{name} gets no answer"),
        }
    };
    // Their places are taken before anybody has looked at them again.
    let mut waiting: Vec<_> = ["a.test.", "b.test."].map(wait).into_iter().flatten().collect();
    assert_eq!(waiting.len(), 2);
    for _ in 0..2 {
        assert_eq!(wait("c.test.").err().unwrap(), ["ServFail"]);
        for future in &mut waiting {
            assert!(block_on(futures_lite::future::poll_once(future)).is_none());
        }
    }
    assert_eq!(scene.service.stats().crowded, 2);
    waiting.pop();
    assert!(wait("d.test.").is_ok(), "there is a place again");
}
