//! A whole server, alone: what runs on it comes into the catalog that it keeps itself, beside what the leader writes of it.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lictor_catalog::{Found, NodeInfo, Query, ServiceDef, State, Status};
use lictor_gossip::{self as gossip, Tags};
use lictor_machine::{Instant, Machine, NodeId, Now, Token, UnixMillis};
use lictor_node::agent::{Agent, Config, Effect, Input, Memories, ROLE, Reject, SERVER};
use lictor_node::local::{
    self, AskId, CheckMethod, CheckSpec, Definitions, Local, Memory, Question, Reply, SERF_HEALTH,
    ServiceSpec,
};
use lictor_node::store::{LogStore, MemoryDisk, MemoryLog, MemoryState, StateMark, StateStore};
use lictor_node::{self as node, Answer, Node, Request};

const ME: NodeId = NodeId(1);

struct Alone {
    agent: Agent,
    log: MemoryLog,
    rows: MemoryState,
    now: Instant,
    state: State,
    /// Writes of what runs here that wait for the server.
    writes: BTreeMap<Token, AskId>,
    answers: Vec<Result<(), local::Error>>,
    left: bool,
}

impl Alone {
    fn new() -> Self {
        let address = SocketAddr::from(([10, 0, 0, 1], 8300));
        let now = Instant::from_millis(1);
        let (mut log, rows) = MemoryDisk::new().open().unwrap();
        let mut settings = node::Config::new(ME, "one", address, 1);
        settings.expect = 1;
        let boot = log.load(1 << 20).unwrap();
        let stored = (State::new(), StateMark::default());
        let server = Node::start(settings, boot, stored, at(now)).unwrap();
        let mut lan = gossip::Config::local(ME, "one".to_owned(), address, 1);
        lan.tags = Tags::from([(ROLE.to_owned(), SERVER.to_owned())]);
        lan.server = true;
        let config = Config {
            lan,
            wan: None,
            datacenter: "dc1".into(),
            duty_interval: Duration::from_secs(5),
            leave_timeout: Duration::from_secs(5),
            coordinates: false,
        };
        let mut settings = local::Config::new(local::node_def(ME, "one", address.ip(), address.ip(), []), 1);
        settings.server = true;
        let here = Local::start(settings, Memory::default(), Definitions::default(), at(now));
        let agent = Agent::start(config, Some(server), Memories::default(), at(now)).unwrap();
        Self {
            agent: agent.with_local(here.unwrap()),
            log,
            rows,
            now,
            state: State::new(),
            writes: BTreeMap::new(),
            answers: Vec::new(),
            left: false,
        }
    }

    fn handle(&mut self, input: Input) {
        self.agent.handle(at(self.now), input).unwrap();
    }

    fn turn(&mut self) {
        while let Some(effect) = self.agent.poll_effect() {
            match effect {
                Effect::Server(effect) => self.server(effect),
                Effect::Local(effect) => self.local(effect),
                Effect::Left => self.left = true,
                _ => {}
            }
        }
    }

    fn server(&mut self, effect: node::Effect) {
        match effect {
            node::Effect::Persist(batch) => {
                self.log.write(std::slice::from_ref(&batch)).unwrap();
                self.handle(Input::Server(node::Input::Persisted { through: batch.id }));
            }
            node::Effect::SaveNotes(notes) => {
                self.log.write_notes(&notes).unwrap();
                self.handle(Input::Server(node::Input::NotesSaved));
            }
            node::Effect::Store(batch) => {
                self.rows.write(&batch).unwrap();
                let applied = batch.applied.index;
                self.handle(Input::Server(node::Input::StateStored { applied }));
            }
            node::Effect::Publish(published) => {
                self.state = published.state;
                // Whatever writes it first: what depends on a node is refused as long as nothing says how well that is.
                let node = self.node("one");
                assert!(
                    node.is_none_or(|node| ids(&node).contains(&SERF_HEALTH)),
                    "a node without a check of its own"
                );
            }
            node::Effect::Answer { token, answer } => {
                let id = self.writes.remove(&token).unwrap();
                let result = match answer {
                    Answer::Written { outcome, .. } => Ok(Reply::Written(outcome)),
                    other => Err(format!("{other:?}")),
                };
                self.handle(Input::Local(local::Input::Answered { id, result }));
            }
            _ => {}
        }
    }

    fn local(&mut self, effect: local::Effect) {
        match effect {
            local::Effect::Answer { result, .. } => self.answers.push(result),
            local::Effect::Save { id, .. } => {
                self.handle(Input::Local(local::Input::Saved { id, result: Ok(()) }));
            }
            local::Effect::Ask {
                id,
                question: Question::Node(name),
            } => {
                let reply = Reply::Node(self.node(&name).map(Box::new));
                self.handle(Input::Local(local::Input::Answered {
                    id,
                    result: Ok(reply),
                }));
            }
            local::Effect::Ask {
                id,
                question: Question::Write(action),
            } => {
                let token = Token(id.0);
                self.writes.insert(token, id);
                let request = Request::Write(action);
                self.handle(Input::Server(node::Input::Request { token, request }));
            }
            _ => {}
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.turn();
        while let Some(deadline) = self.agent.poll_timeout().filter(|deadline| deadline.at <= end) {
            self.now = self.now.max(deadline.at);
            self.agent.handle_timeout(at(self.now));
            self.turn();
        }
        self.now = end;
    }

    fn node(&self, name: &str) -> Option<NodeInfo> {
        let (_, Found::NodeInfos(mut infos)) = self.state.query(&Query::NodeInfo(name.to_owned())) else {
            panic!("another answer")
        };
        infos.pop()
    }

    fn register(&mut self, name: &str) {
        let request = local::Request::RegisterService {
            spec: Box::new(service(name)),
            replace_checks: false,
        };
        let token = Token(1);
        self.handle(Input::Local(local::Input::Request { token, request }));
        self.turn();
    }
}

/// The ids of the services and checks of a node.
fn ids(node: &NodeInfo) -> Vec<&str> {
    let services = node.services.iter().map(|service| &*service.def.id);
    let checks = node.checks.iter().map(|check| &*check.def.id);
    services.chain(checks).collect()
}

#[test]
fn a_lone_server_has_all_about_itself_in_the_catalog() {
    let mut alone = Alone::new();
    alone.run(Duration::from_secs(10));
    let node = alone.node("one").unwrap();
    assert_eq!(node.node.def.id, Some(ME));
    assert_eq!(ids(&node), ["consul", "serfHealth"]);
    assert_eq!(
        node.checks.iter().map(|check| check.def.status).max(),
        Some(Status::Passing)
    );
    alone.register("web");
    alone.run(Duration::from_millis(500));
    assert_eq!(alone.answers, [Ok(())]);
    let all = ["consul", "web", "serfHealth", "service:web"];
    assert_eq!(ids(&alone.node("one").unwrap()), all);
    assert_eq!(alone.agent.local().unwrap().view().services.len(), 1);
    // Neither takes away what is the other's, and in calm nobody writes.
    alone.run(Duration::from_mins(10));
    let index = alone.state.index();
    alone.run(Duration::from_mins(10));
    assert_eq!(ids(&alone.node("one").unwrap()), all);
    assert_eq!(alone.state.index(), index);
}

#[test]
fn who_leaves_registers_nothing_more() {
    let mut alone = Alone::new();
    alone.run(Duration::from_secs(10));
    alone.handle(Input::Leave);
    alone.register("web");
    alone.run(Duration::from_secs(10));
    assert!(alone.left);
    assert_eq!(ids(&alone.node("one").unwrap()), ["consul", "serfHealth"]);
}

#[test]
fn where_nothing_runs_nothing_is_taken() {
    let mut config = gossip::Config::local(ME, "one".to_owned(), SocketAddr::from(([10, 0, 0, 1], 8300)), 1);
    config.tags = Tags::new();
    let config = Config {
        lan: config,
        wan: None,
        datacenter: "dc1".into(),
        duty_interval: Duration::from_secs(5),
        leave_timeout: Duration::from_secs(5),
        coordinates: false,
    };
    let now = at(Instant::ZERO);
    let mut agent = Agent::start(config, None, Memories::default(), now).unwrap();
    let refused = agent.handle(now, Input::Local(local::Input::ServersFound));
    assert_eq!(refused, Err(Reject::NoLocal));
}

/// A service with a check that must be told once an hour.
fn service(name: &str) -> ServiceSpec {
    ServiceSpec {
        def: ServiceDef {
            name: name.into(),
            ..ServiceDef::default()
        },
        checks: vec![CheckSpec {
            method: CheckMethod::Ttl(Duration::from_hours(1)),
            ..CheckSpec::default()
        }],
        ..ServiceSpec::default()
    }
}

fn at(mono: Instant) -> Now {
    Now {
        mono,
        wall: UnixMillis(1_700_000_000_000 + mono.as_nanos() / 1_000_000),
    }
}
