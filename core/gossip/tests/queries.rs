//! Queries, between members in a network of virtual time.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Net, id};
use lictor_gossip::wire::{PacketBuilder, Part, PoolTag};
use lictor_gossip::{Answer, Input, QueryParams, Refusal, Reject, Tags};
use lictor_machine::{Machine, Now, Token};

const SECOND: Duration = Duration::from_secs(1);

fn query(name: &str) -> QueryParams {
    QueryParams {
        name: name.to_owned(),
        payload: Bytes::from_static(b"?"),
        nodes: Vec::new(),
        tags: Vec::new(),
        relay: 0,
        acks: false,
        timeout: None,
    }
}

fn ask(net: &mut Net, at: usize, token: u64, params: QueryParams) {
    let token = Token(token);
    net.input(at, Input::Query { token, params });
}

/// Every member answers each query that reaches it with its name.
fn answer_all(net: &mut Net) {
    for at in 0..net.hosts.len() {
        for query in std::mem::take(&mut net.hosts[at].queries) {
            let payload = Bytes::from(net.hosts[at].config.name.clone());
            let query = query.id;
            net.input(at, Input::Respond { query, payload });
        }
    }
}

/// Who has answered, by the names in the answers.
fn answers(net: &Net, at: usize, token: u64) -> Vec<String> {
    let of = net.hosts[at].responses.iter();
    let mut names: Vec<String> = of
        .filter(|(asked, _)| *asked == Token(token))
        .map(|(_, response)| String::from_utf8_lossy(&response.payload).into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn everybody_is_asked_and_each_answer_comes_once() {
    let mut net = Net::pool(10, 12);
    ask(&mut net, 4, 7, query("who"));
    for _ in 0..20 {
        net.run(Duration::from_millis(100));
        answer_all(&mut net);
    }
    let mut all: Vec<String> = net.hosts.iter().map(|host| host.config.name.clone()).collect();
    all.sort();
    assert_eq!(answers(&net, 4, 7), all, "who asks is asked as well");
    assert_eq!(net.hosts[4].acks, []);
    assert_eq!(net.hosts[4].answers.get(&Token(7)), None);
    net.until(10, "its time is over", |net| {
        net.hosts[4].answers.contains_key(&Token(7))
    });
    assert_eq!(net.hosts[4].answers[&Token(7)], Answer::QueryDone);
}

#[test]
fn only_those_that_are_meant_are_asked() {
    let mut net = Net::pool_with(6, 13, |config| {
        let even = config.id.0 % 2 == 0;
        config.tags = Tags::from([
            ("side".to_owned(), if even { "even" } else { "odd" }.to_owned()),
            ("kind".to_owned(), "web".to_owned()),
        ]);
    });
    let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let cases = [
        (vec![], vec![tag("side", "odd")], vec!["n0", "n2", "n4"]),
        (vec!["n1", "n2", "n9"], vec![], vec!["n1", "n2"]),
        (
            vec!["n1", "n2"],
            vec![tag("side", "odd"), tag("kind", "web")],
            vec!["n2"],
        ),
        (vec![], vec![tag("side", "od")], vec![]),
    ];
    for ((nodes, tags, expected), token) in cases.into_iter().zip(1..) {
        let params = QueryParams {
            nodes: nodes.into_iter().map(str::to_owned).collect(),
            tags,
            ..query("who")
        };
        ask(&mut net, 0, token, params);
        for _ in 0..20 {
            net.run(Duration::from_millis(100));
            answer_all(&mut net);
        }
        assert_eq!(answers(&net, 0, token), expected);
    }
}

#[test]
fn acknowledgements_say_whom_a_query_has_reached() {
    let mut net = Net::pool(5, 14);
    let params = QueryParams {
        acks: true,
        nodes: vec!["n1".to_owned(), "n3".to_owned()],
        ..query("who")
    };
    ask(&mut net, 0, 7, params);
    net.run(SECOND * 2);
    let mut acks = net.hosts[0].acks.clone();
    acks.sort();
    assert_eq!(acks, [(Token(7), id(1)), (Token(7), id(3))]);
    assert_eq!(net.hosts[0].responses, []);
}

/// The direct way back is blocked; others relay.
#[test]
fn relays_bring_answers_that_the_direct_way_loses() {
    for relay in [0, 3] {
        let mut net = Net::pool(6, 15);
        net.no_datagrams.insert((5, 0));
        let params = QueryParams {
            relay,
            nodes: vec!["n5".to_owned()],
            acks: true,
            ..query("who")
        };
        ask(&mut net, 0, 7, params);
        for _ in 0..20 {
            net.run(Duration::from_millis(100));
            answer_all(&mut net);
        }
        let expected = usize::from(relay > 0);
        assert_eq!(net.hosts[0].responses.len(), expected, "and only once");
        assert_eq!(net.hosts[0].acks.len(), expected);
    }
}

/// Somebody answers in the name of others.
#[test]
fn a_forged_answer_is_refused() {
    let mut net = Net::pool(4, 16);
    let params = QueryParams {
        timeout: Some(SECOND * 60),
        ..query("who")
    };
    ask(&mut net, 0, 7, params);
    net.run(SECOND);
    let query = net.hosts[3].queries[0].id;
    let answer = |from| lictor_gossip::event::QueryAnswer {
        query,
        from,
        payload: Some(Bytes::from_static(b"forged")),
    };
    for part in [Part::QueryAnswer(answer(id(2))), Part::Relay(answer(id(2)))] {
        let mut packet = PacketBuilder::packet(PoolTag::new("dc1"), 1150);
        assert!(packet.push_part(&part));
        let sender = net.sender(1);
        net.forge(sender, 0, packet.finish());
    }
    assert_eq!(net.hosts[0].responses, []);
    assert_eq!(net.hosts[0].gossip().stats().refused[&Refusal::Forged], 2);
}

#[test]
fn a_query_can_be_answered_once_and_in_time() {
    let mut net = Net::pool(2, 17);
    ask(&mut net, 0, 7, query("who"));
    net.run(SECOND);
    let query = net.hosts[1].queries[0].id;
    let now = Now::at(net.now);
    let machine = net.hosts[1].machine.as_mut().unwrap();
    let respond = |bytes| Input::Respond {
        query,
        payload: Bytes::from(vec![0; bytes]),
    };
    let refused = machine.handle(now, respond(2000)).unwrap_err();
    assert!(refused.to_string().contains("1024 bytes"), "{refused}");
    machine.handle(now, respond(1024)).unwrap();
    assert!(matches!(machine.handle(now, respond(1)), Err(Reject::Respond(_))));
    // The other one is too late.
    let query = net.hosts[0].queries[0].id;
    net.run(SECOND * 30);
    let now = Now::at(net.now);
    let payload = Bytes::new();
    let refused = net.hosts[0]
        .machine
        .as_mut()
        .unwrap()
        .handle(now, Input::Respond { query, payload });
    assert!(matches!(refused, Err(Reject::Respond(_))));
}

#[test]
fn a_query_that_cannot_be_asked_is_refused_with_its_reason() {
    let mut net = Net::pool(2, 18);
    let cases = [
        (query(""), "must have a name"),
        (
            QueryParams {
                relay: 6,
                ..query("q")
            },
            "at most 5 members",
        ),
        (
            QueryParams {
                timeout: Some(Duration::ZERO),
                ..query("q")
            },
            "more than 0 s",
        ),
        (
            QueryParams {
                timeout: Some(SECOND * 3600),
                ..query("q")
            },
            "at most 600 s",
        ),
        (
            QueryParams {
                payload: Bytes::from(vec![0; 1024]),
                ..query("q")
            },
            "1024 bytes",
        ),
    ];
    for ((params, why), token) in cases.into_iter().zip(1..) {
        ask(&mut net, 0, token, params);
        let Answer::Failed(said) = &net.hosts[0].answers[&Token(token)] else {
            panic!("{why}")
        };
        assert!(said.contains(why), "{said}");
    }
    // Many at once are as bounded as large ones.
    for token in 100..100 + 257 {
        ask(
            &mut net,
            0,
            token,
            QueryParams {
                timeout: Some(SECOND * 60),
                ..query("q")
            },
        );
    }
    let Answer::Failed(said) = &net.hosts[0].answers[&Token(356)] else {
        panic!("one too many")
    };
    assert!(said.contains("256 queries"), "{said}");
    net.input(0, Input::Leave);
    net.until(20, "it has left", |net| net.hosts[0].left);
    assert_eq!(
        net.hosts[0].answers[&Token(100)],
        Answer::QueryDone,
        "nobody waits for ever"
    );
}

/// The longest query, and the longest answer, that are allowed.
#[test]
fn what_is_allowed_fits_into_a_packet() {
    let mut net = Net::pool(3, 19);
    let params = QueryParams {
        payload: Bytes::from(vec![7; 1023]),
        relay: 1,
        ..query("q")
    };
    ask(&mut net, 0, 1, params);
    net.until(5, "it is asked", |net| !net.hosts[2].queries.is_empty());
    let query = net.hosts[2].queries[0].id;
    let payload = Bytes::from(vec![7; 1024]);
    net.input(2, Input::Respond { query, payload });
    net.until(5, "it is answered", |net| !net.hosts[0].responses.is_empty());
}
