//! How much is said, and in which order.

use std::collections::BTreeMap;

use hickory_proto::rr::RecordType;

use super::*;
use lictor_catalog::Weights;

/// A scene with so many instances of `many`, each on a node of its own.
fn scene(count: usize, configure: impl FnOnce(&mut Config)) -> Scene {
    let scene = Scene::configured(configure);
    for number in 0..count {
        let address = format!(
            "10.{}.{}.{}",
            1 + (number >> 16),
            (number >> 8) & 255,
            number & 255
        );
        let port = 8000 + (number % 1000) as u16;
        scene
            .world
            .service(&format!("n{number}"), &address, service("many", port));
    }
    scene
}

fn counts(answer: &Message) -> (usize, usize) {
    (answer.answers.len(), answer.additionals.len())
}

const NAME: &str = "many.service.consul.";

#[test]
fn small_answers_have_few_records() {
    let scene = scene(60, |_| {});
    for how in [UDP, edns(512)] {
        assert_eq!(counts(&scene.ask_in(NAME, RecordType::A, how)), (3, 0));
        assert_eq!(counts(&scene.ask_in(NAME, RecordType::SRV, how)), (3, 3));
        assert_eq!(counts(&scene.ask_in(NAME, RecordType::ANY, how)), (3, 0));
    }
    let answer = scene.ask(NAME, RecordType::A);
    assert!(
        !answer.metadata.truncation,
        "clients take what they get, unless they are told"
    );
    assert_eq!(counts(&scene.ask_in(NAME, RecordType::A, TCP)), (60, 0));
    assert_eq!(counts(&scene.ask_in(NAME, RecordType::SRV, TCP)), (60, 60));
}

#[test]
fn larger_answers_have_as_many_as_there_is_room_for() {
    let scene = scene(60, |_| {});
    assert_eq!(counts(&scene.ask_in(NAME, RecordType::A, edns(513))), (29, 0));
    assert_eq!(counts(&scene.ask_in(NAME, RecordType::A, edns(1232))), (60, 0));
    assert_eq!(counts(&scene.ask_in(NAME, RecordType::SRV, edns(4096))), (60, 60));
    let mut last = 0;
    for size in (513..4096).step_by(97) {
        let query = query(NAME, RecordType::SRV, edns(size));
        let bytes = scene.exchange(&mut scene.service.desk(), &query, false).unwrap();
        assert!(bytes.len() <= usize::from(size));
        let answer = Message::from_vec(&bytes).unwrap();
        let (services, glue) = counts(&answer);
        assert_eq!(services, glue, "each comes with its address");
        assert!(
            services + 1 >= last,
            "{services} with {size} bytes, {last} with fewer"
        );
        last = services;
        if services < 60 {
            assert!(bytes.len() + 60 > usize::from(size), "there was room for more");
        }
    }
    assert_eq!(scene.ask_in(NAME, RecordType::A, edns(1232)).max_payload(), 1232);
}

#[test]
fn no_client_gets_more_by_udp_than_the_server_sends() {
    let scene = scene(400, |_| {});
    for kind in [RecordType::A, RecordType::SRV, RecordType::ANY] {
        let query = query(NAME, kind, edns(65_535));
        let bytes = scene.exchange(&mut scene.service.desk(), &query, false).unwrap();
        assert!(bytes.len() <= 4096, "{kind}: {}", bytes.len());
    }
}

#[test]
fn limits_can_be_set() {
    let told = scene(60, |config| {
        config.udp_answer_limit = 5;
        config.enable_truncate = true;
    });
    let answer = told.ask(NAME, RecordType::SRV);
    assert_eq!(counts(&answer), (5, 5));
    assert!(answer.metadata.truncation);
    assert!(!told.ask_in(NAME, RecordType::SRV, TCP).metadata.truncation);
    assert!(told.ask_in(NAME, RecordType::SRV, edns(1232)).metadata.truncation);
    assert!(!told.ask_in(NAME, RecordType::A, edns(1232)).metadata.truncation);

    let all = scene(60, |config| config.udp_answer_limit = 0);
    assert_eq!(counts(&all.ask(NAME, RecordType::A)), (29, 0));

    let few = scene(60, |config| {
        config.a_record_limit = 2;
        config.enable_truncate = true;
    });
    for how in [UDP, TCP, edns(4096)] {
        let answer = few.ask_in(NAME, RecordType::A, how);
        assert_eq!(counts(&answer), (2, 0));
        assert!(
            !answer.metadata.truncation,
            "nobody gets more by asking in another way"
        );
    }
    assert_eq!(counts(&few.ask_in(NAME, RecordType::SRV, TCP)), (60, 60));

    let plain = scene(60, |config| config.disable_compression = true);
    let with = scene(60, |_| {}).ask_in(NAME, RecordType::SRV, edns(1232));
    let without = plain.ask_in(NAME, RecordType::SRV, edns(1232));
    assert!(counts(&without).0 < counts(&with).0);
}

#[test]
fn a_stream_takes_what_fits_into_one_message() {
    let scene = scene(3000, |_| {});
    let query = query(NAME, RecordType::SRV, TCP);
    let bytes = scene.exchange(&mut scene.service.desk(), &query, true).unwrap();
    assert!((65_000..=65_535).contains(&bytes.len()), "{}", bytes.len());
    let answer = Message::from_vec(&bytes).unwrap();
    let (services, glue) = counts(&answer);
    assert_eq!(services, glue);
    assert!(services > 700, "{services}");
    // Names that no pointer reaches are right too: each target has its own address.
    let addresses: BTreeMap<String, String> = answer
        .additionals
        .iter()
        .map(|record| (record.name.to_string(), record.data.to_string()))
        .collect();
    for record in &answer.answers {
        let RData::SRV(srv) = &record.data else {
            panic!("{record:?}")
        };
        let node = srv.target.to_string();
        let number: usize = node
            .strip_prefix('n')
            .unwrap()
            .split('.')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let address = format!("10.1.{}.{}", (number >> 8) & 255, number & 255);
        assert_eq!(addresses.get(&node), Some(&address));
    }
    let addresses = scene.ask_in(NAME, RecordType::A, TCP);
    assert_eq!(addresses.answers.len(), 3000);
}

#[test]
fn everybody_comes_first_as_often_as_anybody() {
    let scene = scene(50, |_| {});
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..5000 {
        let answer = scene.ask(NAME, RecordType::A);
        *first.entry(answer.answers[0].data.to_string()).or_default() += 1;
        for record in answer.answers {
            *named.entry(record.data.to_string()).or_default() += 1;
        }
    }
    assert_eq!((first.len(), named.len()), (50, 50));
    // Means are 100 and 300; these are more than six standard deviations away.
    assert!(
        first.values().all(|count| (35..=170).contains(count)),
        "{first:?}"
    );
    assert!(
        named.values().all(|count| (190..=410).contains(count)),
        "{named:?}"
    );
}

#[test]
fn who_has_more_weight_comes_first_more_often() {
    let scene = Scene::new();
    for (name, address, passing) in [
        ("light", "10.0.0.1", 1),
        ("heavy", "10.0.0.2", 9),
        ("none", "10.0.0.3", 0),
    ] {
        let def = ServiceDef {
            weights: Weights { passing, warning: 1 },
            ..service("web", 80)
        };
        scene.world.service(name, address, def);
    }
    let mut heavy = 0;
    for _ in 0..2000 {
        let answer = scene.ask("web.service.consul.", RecordType::A);
        let order: Vec<String> = answer
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        assert_eq!(order.len(), 3);
        assert_eq!(order[2], "10.0.0.3", "without weight only after all others");
        heavy += usize::from(order[0] == "10.0.0.2");
    }
    // The mean is 1800; this is more than six standard deviations away.
    assert!((1700..=1900).contains(&heavy), "{heavy}");
}

#[test]
fn much_metadata_does_not_get_into_the_way_of_addresses() {
    let scene = Scene::new();
    let meta: Vec<(String, String)> = (0..40)
        .map(|number| (format!("key{number:02}"), "x".repeat(300)))
        .collect();
    let meta: Vec<(&str, &str)> = meta
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    scene.world.register(Registration {
        node: node("big", "10.0.0.1", &meta),
        service: Some(service("big", 1)),
        ..Registration::default()
    });
    let fits = |name: &str, kind: RecordType, how: How| {
        let query = query(name, kind, how);
        let bytes = scene
            .exchange(&mut scene.service.desk(), &query, how.tcp)
            .unwrap();
        assert!(
            bytes.len()
                <= if how.tcp {
                    65_535
                } else {
                    usize::from(how.edns.unwrap_or(512))
                }
        );
        Message::from_vec(&bytes).unwrap()
    };
    let address = fits("big.node.consul.", RecordType::A, UDP);
    assert_eq!(counts(&address), (1, 1));
    assert!(
        !address.metadata.truncation,
        "what was left out was not asked for"
    );
    let text = fits("big.node.consul.", RecordType::TXT, edns(1232));
    assert_eq!(counts(&text), (3, 0));
    assert!(text.metadata.truncation, "what was left out was asked for");
    let all = fits("big.node.consul.", RecordType::ANY, TCP);
    assert_eq!(counts(&all), (41, 0));
    assert!(!all.metadata.truncation);
    let RData::TXT(text) = &all.answers[1].data else {
        panic!("{all:?}");
    };
    let lengths: Vec<usize> = text.txt_data.iter().map(|string| string.len()).collect();
    assert_eq!(lengths, [255, 51], "a long text is several strings");
    let service = fits("big.service.consul.", RecordType::SRV, UDP);
    assert_eq!(counts(&service), (1, 0));
    assert_eq!(
        counts(&fits("big.service.consul.", RecordType::SRV, TCP)),
        (1, 41)
    );
}

#[test]
fn a_client_is_told_for_whom_the_answer_is() {
    let scene = scene(1, |_| {});
    let mut bytes = query(NAME, RecordType::A, edns(1232));
    let option = [0, 8, 0, 7, 0, 1, 24, 24, 1, 2, 3];
    let length_at = bytes.len() - 2;
    bytes[length_at..].copy_from_slice(&11_u16.to_be_bytes());
    bytes.extend_from_slice(&option);
    let answer = scene.exchange(&mut scene.service.desk(), &bytes, false).unwrap();
    assert!(
        answer.ends_with(&[0, 8, 0, 7, 0, 1, 24, 0, 1, 2, 3]),
        "{answer:?}"
    );
    Message::from_vec(&answer).unwrap();
}
