//! What runs on this agent: its services, their checks, and how all of that gets into the catalog.
//!
//! [`Local`] is a [`Machine`], which the agent's machine carries:
//!
//! - `registry`: registrations come and go; what configuration files say; maintenance mode;
//! - `health`: what results mean: thresholds, deadlines, removal of what is critical for too long;
//! - `probing`: when to look, and how many looks at once;
//! - `alias`: checks that are as well as something else;
//! - `sync`: anti-entropy, by which the catalog becomes what is here;
//! - `keep`: what a restart must not forget.
//!
//! Ids count in any letter case of ASCII, as they do in the catalog.

#![forbid(unsafe_code)]

mod alias;
mod health;
mod io;
mod keep;
mod probing;
mod registry;
#[cfg(feature = "sabotage")]
mod sabotage;
mod spec;
mod sync;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use lictor_catalog::{CheckDef, NodeDef, ServiceDef, Status, Tags, Text};
use lictor_machine::{Clamped, Deadline, Instant, Machine, NodeId, Now, Rng, UnixMillis};

use health::Streak;
use keep::Keeping;
use probing::Probing;
use sync::Sync;

pub use io::{
    AskId, Change, Config, Definitions, Effect, Error, Event, Input, LocalCheck, LocalService, LocalView,
    Question, RecordKey, Reject, Reply, Request, RunId, SaveId, Timer,
};
pub use keep::{Memory, RecordError};
#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;
pub use spec::{
    CheckMethod, CheckSpec, MAX_SERVICE_CHECKS, MIN_DEREGISTER_AFTER, MIN_INTERVAL, PROBE_TIMEOUT, Probe,
    ProbeTls, SCRIPT_TIMEOUT, ServiceSpec, Thresholds,
};

/// The check that the leader writes for every member of the pool.
pub const SERF_HEALTH: &str = "serfHealth";

/// The service that the leader writes for every server: its id and its name.
pub const SERVERS: &str = "consul";

/// What runs on this agent. See the module's documentation.
#[derive(Debug)]
pub struct Local {
    config: Config,
    clock: Clamped,
    wall: UnixMillis,
    rng: Rng,
    /// By id in lower case, as everything here.
    services: BTreeMap<Text, Service>,
    checks: BTreeMap<Text, Check>,
    /// The checks of each service; those of the node have the empty id.
    checks_of: BTreeMap<Text, BTreeSet<Text>>,
    /// Checks that are as well as something else.
    aliases: BTreeSet<Text>,
    /// Whose checks have changed since aliases were looked at.
    touched: BTreeSet<Text>,
    timers: BTreeSet<(Instant, Due, Text)>,
    probing: Probing,
    sync: Sync,
    keeping: Keeping,
    out: VecDeque<Effect>,
    /// Answers go last: whoever asked sees what was changed.
    answers: VecDeque<Effect>,
    /// The view is not as things are.
    stale: bool,
    next_id: u64,
}

#[derive(Debug)]
struct Service {
    shown: Arc<LocalService>,
    token: Text,
    origin: Origin,
}

#[derive(Debug)]
struct Check {
    shown: Arc<LocalCheck>,
    origin: Origin,
    streak: Streak,
    /// It has had a result; until then its status is what was assumed.
    has_result: bool,
    /// The run that is under way.
    run: Option<RunId>,
    due: [Option<Instant>; Due::COUNT],
}

/// Where a registration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The configuration's files, which say it again at each start.
    Files,
    /// A request; kept over a restart.
    Request,
}

/// Why a check wants to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// It is to be probed; or a probe has not come back.
    Probe,
    /// It was not told in time.
    Told,
    /// Its service has been critical for long enough.
    Reap,
    /// Its output is to be written to the catalog.
    Output,
}

impl Due {
    const COUNT: usize = 4;
}

impl Local {
    /// Starts with what is on the disk and what the files say, which counts more; `Err`: what is wrong with the latter.
    pub fn start(config: Config, memory: Memory, definitions: Definitions, now: Now) -> Result<Self, Error> {
        let mut rng = Rng::new(config.seed);
        let keeping = Keeping::new(memory.seen);
        let mut local = Self {
            clock: Clamped::new(now.mono),
            wall: now.wall,
            services: BTreeMap::new(),
            checks: BTreeMap::new(),
            checks_of: BTreeMap::new(),
            aliases: BTreeSet::new(),
            touched: BTreeSet::new(),
            timers: BTreeSet::new(),
            probing: Probing::default(),
            sync: Sync::new(now.mono),
            keeping,
            out: VecDeque::new(),
            answers: VecDeque::new(),
            stale: true,
            next_id: 0,
            rng: rng.fork(),
            config,
        };
        local.remember(memory, definitions)?;
        local.settle();
        Ok(local)
    }

    /// The agents in the cluster: the more there are, the rarer is everything compared with the catalog.
    pub const fn set_cluster_size(&mut self, size: usize) {
        self.sync.cluster_size = size;
    }

    /// Nothing more goes to the catalog: this agent leaves, and the leader removes what is there.
    pub fn cease(&mut self) {
        self.sync.ceased = true;
    }

    /// What runs here now.
    pub fn view(&self) -> LocalView {
        let services = self.services.iter();
        let checks = self.checks.iter();
        LocalView {
            node: self.config.node.clone(),
            services: services
                .map(|(id, service)| (id.clone(), service.shown.clone()))
                .collect(),
            checks: checks
                .map(|(id, check)| (id.clone(), check.shown.clone()))
                .collect(),
        }
    }

    fn now(&self) -> Instant {
        self.clock.latest()
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Effect::Event(event));
    }

    /// When a check is to be looked at for this reason; `None`: not.
    fn set_due(&mut self, id: &Text, due: Due, at: Option<Instant>) {
        let Some(check) = self.checks.get_mut(id) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut check.due[due as usize], at) {
            self.timers.remove(&(before, due, id.clone()));
        }
        if let Some(at) = at {
            self.timers.insert((at, due, id.clone()));
        }
    }

    fn request(&mut self, request: Request) -> Result<(), Error> {
        match request {
            Request::RegisterService { spec, replace_checks } => self.register_service(*spec, replace_checks),
            Request::DeregisterService(id) => {
                self.deregister_service(&folded(&id));
                Ok(())
            }
            Request::RegisterCheck(spec) => self.register_check(*spec),
            Request::DeregisterCheck(id) => {
                self.remove_check(&folded(&id));
                Ok(())
            }
            Request::UpdateTtl {
                check,
                status,
                output,
            } => self.update_ttl(&check, status, &output),
            Request::Maintain {
                service,
                enable,
                reason,
            } => self.maintain(service.as_ref(), enable, reason),
            Request::SetDefinitions(definitions) => self.set_definitions(definitions),
            Request::SetNode(node) => {
                if node != self.config.node {
                    self.config.node = node;
                    self.stale = true;
                    self.sync.node = true;
                }
                Ok(())
            }
            Request::Sync => {
                self.sync_all_at(self.now());
                Ok(())
            }
        }
    }

    /// At the end of each turn: what follows from what has changed.
    fn settle(&mut self) {
        self.settle_aliases();
        self.start_probes();
        // The disk knows first, so that it is not behind what the catalog was told.
        self.save();
        self.go_on_syncing();
    }

    fn check_due(&mut self, id: &Text, due: Due) {
        match due {
            Due::Probe => self.probe_due(id),
            Due::Told => self.not_told(id),
            Due::Reap => self.reap(id),
            Due::Output => self.sync.checks.extend([id.clone()]),
        }
    }
}

impl Machine for Local {
    type Input = Input;
    type Effect = Effect;
    type Reject = Reject;
    type Timer = Timer;
    type Fault = std::convert::Infallible;

    fn handle(&mut self, now: Now, input: Input) -> Result<(), Reject> {
        self.clock.advance(now.mono);
        self.wall = now.wall;
        match input {
            Input::Request { token, request } => {
                let registers = request.registers();
                let result = self.request(request);
                if registers {
                    self.answer_durably(token, result);
                } else {
                    self.answer(token, result);
                }
            }
            Input::Probed { run, status, output } => self.probed(run, status, &output)?,
            Input::Answered { id, result } => self.answered(id, result)?,
            Input::Saved { id, result } => self.saved(id, result)?,
            Input::ServersFound => self.servers_found(),
        }
        self.settle();
        Ok(())
    }

    fn handle_timeout(&mut self, now: Now) {
        let at = self.clock.advance(now.mono);
        self.wall = now.wall;
        while let Some((due_at, due, id)) = self.timers.first().filter(|(due_at, _, _)| *due_at <= at) {
            let (_, due, id) = (*due_at, *due, id.clone());
            self.set_due(&id, due, None);
            self.check_due(&id, due);
        }
        self.settle();
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.out.pop_front() {
            return Some(effect);
        }
        if std::mem::take(&mut self.stale) {
            return Some(Effect::Publish(Arc::new(self.view())));
        }
        self.answers.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline<Timer>> {
        let check = self.timers.first().map(|(at, _, _)| (*at, Timer::Check));
        let sync = self.sync_at().map(|at| (at, Timer::Sync));
        let save = self.save_at().map(|at| (at, Timer::Save));
        let first = [check, sync, save].into_iter().flatten();
        first
            .min_by_key(|(at, _)| *at)
            .map(|(at, reason)| Deadline { at, reason })
    }

    fn fault(&self) -> Option<&Self::Fault> {
        None
    }
}

impl LocalView {
    /// The service of this id, in any letter case.
    pub fn service(&self, id: &str) -> Option<&Arc<LocalService>> {
        self.services.get(&folded(id))
    }

    /// The check of this id, in any letter case.
    pub fn check(&self, id: &str) -> Option<&Arc<LocalCheck>> {
        self.checks.get(&folded(id))
    }
}

impl LocalService {
    fn new(def: ServiceDef) -> Self {
        let bytes = postcard::to_allocvec(&def).expect("plain data always encode, and a Vec always extends");
        Self {
            hash: fnv(&bytes),
            def,
        }
    }
}

impl Check {
    fn status(&self) -> Status {
        self.shown.def.status
    }

    fn service(&self) -> Text {
        folded(&self.shown.def.service_id)
    }
}

/// A node as agents and the leader describe it: its addresses under the names that clients look for.
pub fn node_def(
    id: NodeId,
    name: &str,
    lan: IpAddr,
    wan: IpAddr,
    meta: impl IntoIterator<Item = (Text, Text)>,
) -> NodeDef {
    let addresses = [("lan", lan), ("wan", wan)].into_iter().flat_map(|(tag, ip)| {
        let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
        let text = Text::from(ip.to_string());
        [
            (Text::from(tag), text.clone()),
            (format!("{tag}_{family}").into(), text),
        ]
    });
    let segment = (Text::from("consul-network-segment"), Text::default());
    NodeDef {
        id: Some(id),
        name: name.into(),
        address: lan.to_string().into(),
        tagged_addresses: addresses.collect(),
        meta: meta.into_iter().chain([segment]).collect(),
    }
}

/// The check that says how well a node is, as the leader writes it for members of the pool: whether it can be reached.
pub fn serf_health(status: Status) -> CheckDef {
    let output = match status {
        Status::Passing => "Agent alive and reachable",
        Status::Warning | Status::Critical => "Agent not live or unreachable",
    };
    CheckDef {
        id: SERF_HEALTH.into(),
        name: "Serf Health Status".into(),
        status,
        output: output.into(),
        ..CheckDef::default()
    }
}

/// As ids are compared.
fn folded(id: &str) -> Text {
    id.to_ascii_lowercase().into()
}

/// FNV-1a with 64 bits (Fowler, Noll and Vo).
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A check as it is shown, before anything is known of it.
fn shown(spec: CheckSpec, service: Option<&ServiceDef>) -> LocalCheck {
    LocalCheck {
        def: CheckDef {
            id: spec.id.clone(),
            name: spec.name.clone(),
            status: spec.status.unwrap_or(Status::Critical),
            notes: spec.notes.clone(),
            output: Text::default(),
            service_id: service.map(|service| service.id.clone()).unwrap_or_default(),
            kind: spec.method.kind().into(),
            definition: None,
        },
        service_name: service.map(|service| service.name.clone()).unwrap_or_default(),
        service_tags: service.map_or_else(|| Tags::from([]), |service| service.tags.clone()),
        spec: Arc::new(spec),
    }
}
