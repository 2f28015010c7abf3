//! Queries as they come from anybody, to a DNS server with a small catalog: whatever comes in, what goes out is a message to whoever asked, no
//! longer than that may be.

#![no_main]

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use libfuzzer_sys::fuzz_target;
use lictor_catalog::{Action, Changes, Command, NodeDef, Registration, ServiceDef, State};
use lictor_dns::{Answerer, Ask, Config, Failure, Reading, Snapshot, Source};
use lictor_machine::{Index, UnixMillis};

#[derive(Debug)]
struct Fixed(Snapshot);

#[async_trait]
impl Source for Fixed {
    fn snapshot(&self) -> Option<Snapshot> {
        Some(self.0.clone())
    }

    fn has_datacenter(&self, name: &str) -> bool {
        name == "dc2"
    }

    async fn find(&self, ask: Ask) -> Result<Reading, Failure> {
        match ask.datacenter {
            Some(name) => Err(Failure::NoSuchDatacenter(name)),
            None => Err(Failure::Unavailable("all there is is here".to_owned())),
        }
    }
}

fn answerer() -> Answerer {
    let mut state = State::new();
    for number in 1..=40_u64 {
        let registration = Registration {
            node: NodeDef {
                name: format!("n{number}").as_str().into(),
                address: format!("10.0.0.{number}").as_str().into(),
                meta: [("key", "value".into())].into_iter().collect(),
                ..NodeDef::default()
            },
            service: Some(ServiceDef {
                name: "web".into(),
                port: 80,
                tags: ["v1".into()].into(),
                ..ServiceDef::default()
            }),
            ..Registration::default()
        };
        let command = Command {
            stamp: UnixMillis(0),
            action: Action::Register(registration.into()),
        };
        let applied = state.apply(Index(number), &command, &mut Changes::default());
        assert!(applied.is_ok());
    }
    let mut config = Config::new("dc1");
    config.alt_domain = "alt.test".parse().ok();
    let source = Fixed(Snapshot {
        state: Arc::new(state),
        generation: 0,
        age: Duration::ZERO,
    });
    Answerer::new(Arc::new(source), config, &lictor_runtime_smol::runtime(), 1)
}

thread_local! {
    static ANSWERER: RefCell<Answerer> = RefCell::new(answerer());
}

fuzz_target!(|bytes: &[u8]| {
    ANSWERER.with_borrow_mut(|answerer| {
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        if let Some(answer) = answerer.answer(bytes, client) {
            check(bytes, answer, 4096);
        }
        if let Some(answer) = answerer.answer_tcp(bytes, client) {
            check(bytes, answer, 65_535);
        }
    });
});

fn check(query: &[u8], answer: &[u8], most: usize) {
    assert!((12..=most).contains(&answer.len()));
    assert_eq!(answer[..2], query[..2]);
    assert_eq!(answer[2] & 0x80, 0x80);
    // A refusal has nothing in it; an answer has the question.
    assert!(answer.len() == 12 || answer[4..6] == [0, 1]);
}
