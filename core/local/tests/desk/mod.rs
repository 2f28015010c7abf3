//! What runs on one agent, in virtual time: with a catalog that answers at once, a disk, and probes at the test's command.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test harness")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lictor_catalog::{
    Action, CatalogChange, Changes, CheckDef, CheckRecord, Command, Found, NodeInfo, Outcome, Query,
    Registration, ServiceDef, ServiceRecord, State, Status, Text,
};
use lictor_local::{
    CheckMethod, CheckSpec, Config, Definitions, Effect, Error, Event, Input, Local, LocalView, Memory,
    Probe, Question, RecordKey, Reply, Request, RunId, SERF_HEALTH, SaveId, ServiceSpec, node_def,
};
use lictor_machine::{Index, Instant, Machine, NodeId, Now, Token, UnixMillis};

pub const NODE: &str = "here";

pub fn config(seed: u64) -> Config {
    named(NODE, seed)
}

pub fn named(name: &str, seed: u64) -> Config {
    let ip = "10.0.0.1".parse().unwrap();
    Config::new(node_def(NodeId(u128::from(seed)), name, ip, ip, []), seed)
}

pub struct Catalog {
    pub state: State,
    pub index: u64,
}

impl Catalog {
    pub fn new() -> Self {
        Self {
            state: State::new(),
            index: 0,
        }
    }

    pub fn apply(&mut self, action: Action) -> Outcome {
        self.index += 1;
        let command = Command {
            stamp: UnixMillis(0),
            action,
        };
        self.state
            .apply(Index(self.index), &command, &mut Changes::default())
            .unwrap()
    }

    pub fn node(&self, name: &str) -> Option<NodeInfo> {
        let (_, Found::NodeInfos(mut infos)) = self.state.query(&Query::NodeInfo(name.to_owned())) else {
            panic!("another answer")
        };
        infos.pop()
    }
}

pub struct Desk {
    pub now: Instant,
    pub local: Local,
    pub config: Config,
    pub catalog: Catalog,
    pub reachable: bool,
    /// Answers of the catalog get lost.
    pub deaf: bool,
    pub writes: usize,
    pub reads: usize,
    pub answers: BTreeMap<u64, Result<(), Error>>,
    pub view: Arc<LocalView>,
    /// Probes that run, with the names of their checks.
    pub runs: Vec<(RunId, Text)>,
    pub stopped: Vec<RunId>,
    /// What each probe finds at once; without it, it is for the test to say.
    pub finds: Option<Status>,
    pub disk: BTreeMap<RecordKey, Bytes>,
    /// While set, saves wait here.
    pub held: Option<Vec<SaveId>>,
    /// The disk takes nothing.
    pub full: bool,
    /// Checks that the catalog does not take.
    pub refuses: BTreeSet<Text>,
    pub events: Vec<Event>,
    /// Statuses that were written to the catalog.
    pub written: Vec<(Text, Status)>,
    next: u64,
}

impl Desk {
    pub fn new() -> Self {
        Self::start(
            config(7),
            Memory::default(),
            Definitions::default(),
            Instant::from_millis(1),
            Catalog::new(),
        )
    }

    pub fn start(
        config: Config,
        memory: Memory,
        definitions: Definitions,
        now: Instant,
        catalog: Catalog,
    ) -> Self {
        let local = Local::start(config.clone(), memory, definitions, time(now)).unwrap();
        let mut desk = Self {
            now,
            local,
            config,
            catalog,
            reachable: true,
            deaf: false,
            writes: 0,
            reads: 0,
            answers: BTreeMap::new(),
            view: Arc::default(),
            runs: Vec::new(),
            stopped: Vec::new(),
            finds: None,
            disk: BTreeMap::new(),
            held: None,
            full: false,
            refuses: BTreeSet::new(),
            events: Vec::new(),
            written: Vec::new(),
            next: 0,
        };
        desk.turn();
        desk
    }

    /// The agent is killed and started again, from its disk, after this time.
    pub fn restart(self, after: Duration, definitions: Definitions) -> Self {
        let mut memory = Memory::default();
        for record in self.disk.values() {
            memory.read(record).unwrap();
        }
        let now = self.now + after;
        let mut config = self.config;
        config.seed += 1_000_000;
        let local = Local::start(config.clone(), memory, definitions, time(now)).unwrap();
        let mut desk = Self {
            now,
            local,
            config,
            runs: Vec::new(),
            events: Vec::new(),
            written: Vec::new(),
            writes: 0,
            ..self
        };
        desk.turn();
        desk
    }

    pub fn input(&mut self, input: Input) {
        self.local.handle(time(self.now), input).unwrap();
        self.turn();
    }

    /// Asks, and returns the answer, if it has come.
    pub fn ask(&mut self, request: Request) -> Option<Result<(), Error>> {
        self.next += 1;
        let token = Token(self.next);
        self.input(Input::Request { token, request });
        self.answers.get(&self.next).cloned()
    }

    pub fn register(&mut self, spec: ServiceSpec) {
        let request = Request::RegisterService {
            spec: Box::new(spec),
            replace_checks: false,
        };
        assert_eq!(self.ask(request), Some(Ok(())));
    }

    pub fn register_check(&mut self, spec: CheckSpec) {
        assert_eq!(self.ask(Request::RegisterCheck(Box::new(spec))), Some(Ok(())));
    }

    pub fn tell(&mut self, check: &str, status: Status, output: &str) -> Result<(), Error> {
        let request = Request::UpdateTtl {
            check: check.into(),
            status,
            output: output.to_owned(),
        };
        self.ask(request).unwrap()
    }

    /// The probe of a check that runs ends with this.
    pub fn probed(&mut self, check: &str, status: Status) {
        let at = self.runs.iter().position(|(_, id)| **id == *check).unwrap();
        let (run, _) = self.runs.remove(at);
        let output = format!("it is {status}");
        self.input(Input::Probed { run, status, output });
    }

    fn turn(&mut self) {
        while let Some(effect) = self.local.poll_effect() {
            match effect {
                Effect::Answer { token, result } => {
                    assert!(self.answers.insert(token.0, result).is_none(), "answered twice");
                }
                Effect::Publish(view) => self.view = view,
                Effect::Probe { run, check, .. } => {
                    if let Some(status) = self.finds {
                        let output = format!("it is {status}");
                        let found = Input::Probed { run, status, output };
                        self.local.handle(time(self.now), found).unwrap();
                    } else {
                        self.runs.push((run, check));
                    }
                }
                Effect::StopProbe(run) => {
                    self.runs.retain(|(other, _)| *other != run);
                    self.stopped.push(run);
                }
                Effect::Ask { id, question } => {
                    let served = self.serve(question);
                    let lost = Err("connection lost".to_owned());
                    let result = if self.deaf { lost } else { served };
                    let answer = Input::Answered { id, result };
                    self.local.handle(time(self.now), answer).unwrap();
                }
                Effect::Save { id, .. } if self.full => {
                    let result = Err("no space".to_owned());
                    let saved = Input::Saved { id, result };
                    self.local.handle(time(self.now), saved).unwrap();
                }
                Effect::Save { id, changes } => {
                    for change in changes {
                        match change.content {
                            Some(content) => self.disk.insert(change.key, content),
                            None => self.disk.remove(&change.key),
                        };
                    }
                    if let Some(held) = &mut self.held {
                        held.push(id);
                    } else {
                        let saved = Input::Saved { id, result: Ok(()) };
                        self.local.handle(time(self.now), saved).unwrap();
                    }
                }
                Effect::Event(event) => self.events.push(event),
            }
        }
    }

    fn serve(&mut self, question: Question) -> Result<Reply, String> {
        if !self.reachable {
            return Err("No known servers".to_owned());
        }
        match question {
            Question::Node(name) => {
                self.reads += 1;
                Ok(Reply::Node(self.catalog.node(&name).map(Box::new)))
            }
            Question::Write(action) => {
                self.writes += 1;
                if let Some(check) = self.refused(&action) {
                    let why = format!("the check {check} is not to be here");
                    return Ok(Reply::Written(Outcome::Refused(why)));
                }
                let outcome = self.catalog.apply(action.clone());
                if outcome == Outcome::Done(true) {
                    self.note(&action);
                }
                Ok(Reply::Written(outcome))
            }
        }
    }

    fn refused(&self, action: &Action) -> Option<Text> {
        let mut ids = checks_in(action).map(|check| &check.id);
        ids.find(|id| self.refuses.contains(*id)).cloned()
    }

    fn note(&mut self, action: &Action) {
        let checks = checks_in(action).map(|check| (check.id.clone(), check.status));
        self.written.extend(checks);
    }

    pub fn run(&mut self, time_: Duration) {
        let end = self.now + time_;
        while let Some(deadline) = self.local.poll_timeout().filter(|deadline| deadline.at <= end) {
            self.now = self.now.max(deadline.at);
            self.local.handle_timeout(time(self.now));
            self.turn();
        }
        self.now = end;
    }

    pub fn status(&self, check: &str) -> Status {
        self.view.check(check).unwrap().def.status
    }

    pub fn output(&self, check: &str) -> String {
        self.view.check(check).unwrap().def.output.to_string()
    }

    pub fn service_in_catalog(&self, id: &str) -> Option<Arc<ServiceRecord>> {
        let node = self.catalog.node(&self.config.node.name)?;
        node.services.into_iter().find(|service| *service.def.id == *id)
    }

    pub fn check_in_catalog(&self, id: &str) -> Option<Arc<CheckRecord>> {
        let node = self.catalog.node(&self.config.node.name)?;
        node.checks.into_iter().find(|check| *check.def.id == *id)
    }

    /// The catalog has exactly what is here.
    pub fn assert_in_sync(&self) {
        let node = self.catalog.node(&self.config.node.name).unwrap();
        assert_eq!(node.node.def, self.config.node);
        let services: Vec<_> = node.services.iter().map(|record| &record.def).collect();
        let here: Vec<_> = self
            .view
            .services
            .iter()
            .map(|(_, service)| &service.def)
            .collect();
        assert_eq!(services, here);
        let checks = node.checks.iter().map(|record| &record.def);
        let (mine, of_member): (Vec<_>, Vec<_>) = checks.partition(|def| *def.id != *SERF_HEALTH);
        let here: Vec<_> = self.view.checks.iter().map(|(_, check)| &check.def).collect();
        assert_eq!(mine, here);
        assert_eq!(
            of_member.len(),
            1,
            "whoever depends on the node needs to know how well it is"
        );
    }

    /// Somebody else writes on this node.
    pub fn interfere(&mut self, service: Option<ServiceDef>, checks: Vec<CheckDef>) {
        let registration = Registration {
            node: self.config.node.clone(),
            skip_node_update: true,
            service,
            checks,
        };
        let outcome = self.catalog.apply(Action::Register(Box::new(registration)));
        assert_eq!(outcome, Outcome::Done(true));
    }
}

/// The checks that a write registers.
fn checks_in(action: &Action) -> impl Iterator<Item = &CheckDef> {
    let Action::RegisterMany(changes) = action else {
        panic!("{action:?}")
    };
    changes.iter().flat_map(|change| match change {
        CatalogChange::Register(registration) => registration.checks.as_slice(),
        CatalogChange::Deregister(_) => &[],
    })
}

pub fn time(now: Instant) -> Now {
    Now {
        mono: now,
        wall: UnixMillis(1_700_000_000_000 + now.as_nanos() / 1_000_000),
    }
}

pub fn service(name: &str, checks: Vec<CheckSpec>) -> ServiceSpec {
    ServiceSpec {
        def: ServiceDef {
            name: name.into(),
            port: 80,
            ..ServiceDef::default()
        },
        token: Text::default(),
        checks,
    }
}

pub fn ttl(name: &str, seconds: u64) -> CheckSpec {
    CheckSpec {
        name: name.into(),
        method: CheckMethod::Ttl(Duration::from_secs(seconds)),
        ..CheckSpec::default()
    }
}

pub fn tcp(name: &str, seconds: u64) -> CheckSpec {
    let probe = Probe::Tcp {
        address: "127.0.0.1:80".to_owned(),
        tls: None,
    };
    CheckSpec {
        name: name.into(),
        method: CheckMethod::Probe {
            probe: Arc::new(probe),
            interval: Duration::from_secs(seconds),
            timeout: None,
        },
        ..CheckSpec::default()
    }
}

pub fn alias(name: &str, service: &str) -> CheckSpec {
    CheckSpec {
        name: name.into(),
        method: CheckMethod::Alias {
            node: Text::default(),
            service: service.into(),
        },
        ..CheckSpec::default()
    }
}
