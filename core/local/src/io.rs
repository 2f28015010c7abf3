//! What goes into the local part of an agent and what comes out of it.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use lictor_catalog::{Action, CheckDef, Labels, NodeDef, NodeInfo, Outcome, ServiceDef, Status, Tags, Text};
use lictor_machine::Token;
use serde::{Deserialize, Serialize};

use super::spec::{CheckSpec, Probe, ServiceSpec};

/// Settings of the local part.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node, as it is to be in the catalog.
    pub node: NodeDef,
    /// Seeds everything random. Must differ between agents and between starts.
    pub seed: u64,
    /// Whether this agent is a server: the leader writes the service `consul` for it, which is not this agent's to remove.
    pub server: bool,
    /// Whether there is a disk. Without one nothing is kept, and [`Effect::Save`] never comes.
    pub keeps: bool,
    /// How often everything is compared with the catalog, in a small cluster.
    pub sync_interval: Duration,
    /// How long a check's output alone may lag behind in the catalog; zero: not at all.
    pub check_update_interval: Duration,
    /// The most bytes of a check's output.
    pub output_max: usize,
    /// Whether no output is kept at all.
    pub discard_output: bool,
    /// The most probes that run at once.
    pub probes_max: usize,
    /// Whether checks that run programs are taken over from the disk, where requests have left them. Whether new ones are taken is for
    /// whoever passes on the requests to say.
    pub programs_from_requests: bool,
    /// The most services.
    pub services_max: usize,
    /// The most checks.
    pub checks_max: usize,
    /// The mistake to make.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<crate::Sabotage>,
}

impl Config {
    /// The usual settings.
    pub fn new(node: NodeDef, seed: u64) -> Self {
        Self {
            node,
            seed,
            server: false,
            keeps: true,
            sync_interval: Duration::from_mins(1),
            check_update_interval: Duration::from_mins(5),
            output_max: 4096,
            discard_output: false,
            probes_max: 256,
            programs_from_requests: true,
            services_max: 16_384,
            checks_max: 65_536,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }
}

/// What may happen to the local part.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody wants something of it.
    Request {
        /// Comes back in [`Effect::Answer`], exactly once.
        token: Token,
        /// What is wanted.
        request: Request,
    },
    /// The answer to an [`Effect::Probe`]; needed exactly once for each, unless [`Effect::StopProbe`] came.
    Probed {
        /// Which run.
        run: RunId,
        /// What was found.
        status: Status,
        /// What it said.
        output: String,
    },
    /// The answer to an [`Effect::Ask`]; needed exactly once for each.
    Answered {
        /// Which question.
        id: AskId,
        /// The answer, or why there is none. After a failure nobody knows whether a write happened.
        result: Result<Reply, String>,
    },
    /// The answer to an [`Effect::Save`]; needed exactly once for each, in order.
    Saved {
        /// Which.
        id: SaveId,
        /// Whether it is durable, or what the disk said.
        result: Result<(), String>,
    },
    /// Servers can be reached that could not be before: whatever waits may be tried.
    ServersFound,
}

/// What somebody may want of the local part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Register a service, or replace what is registered under its id.
    RegisterService {
        /// The service.
        spec: Box<ServiceSpec>,
        /// Whether checks of it that are not named are removed; otherwise they stay.
        replace_checks: bool,
    },
    /// Remove a service and its checks. One that is not there is no error.
    DeregisterService(Text),
    /// Register a check, or replace the one of its id. Its status stays.
    RegisterCheck(Box<CheckSpec>),
    /// Remove a check. One that is not there is no error.
    DeregisterCheck(Text),
    /// Tell a check of the kind that is told.
    UpdateTtl {
        /// Its id.
        check: Text,
        /// How it is.
        status: Status,
        /// What there is to say.
        output: String,
    },
    /// Begin or end maintenance mode.
    Maintain {
        /// Of this service; `None`: of the node.
        service: Option<Text>,
        /// Whether it begins.
        enable: bool,
        /// Why; empty: nobody said.
        reason: Text,
    },
    /// This is what the configuration files say now: it replaces what they said before. What came by other ways stays, unless it has
    /// the same id.
    SetDefinitions(Definitions),
    /// This is what the node is now.
    SetNode(NodeDef),
    /// Compare everything with the catalog now.
    Sync,
}

impl Request {
    /// Whether it changes what is registered, which is kept over a restart.
    pub(super) const fn registers(&self) -> bool {
        match self {
            Self::RegisterService { .. }
            | Self::DeregisterService(_)
            | Self::RegisterCheck(_)
            | Self::DeregisterCheck(_)
            | Self::Maintain { .. }
            | Self::SetDefinitions(_) => true,
            Self::UpdateTtl { .. } | Self::SetNode(_) | Self::Sync => false,
        }
    }

    /// Whether it would have this agent run programs that whoever asks has chosen.
    pub fn runs_programs(&self) -> bool {
        match self {
            Self::RegisterService { spec, .. } => spec.checks.iter().any(|check| check.method.runs_program()),
            Self::RegisterCheck(check) => check.method.runs_program(),
            // What files define was looked at when they were read.
            Self::SetDefinitions(_)
            | Self::DeregisterService(_)
            | Self::DeregisterCheck(_)
            | Self::UpdateTtl { .. }
            | Self::Maintain { .. }
            | Self::SetNode(_)
            | Self::Sync => false,
        }
    }
}

/// What configuration files define.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Definitions {
    /// Services, with their checks.
    pub services: Vec<ServiceSpec>,
    /// Checks of the node, or of services defined here or registered.
    pub checks: Vec<CheckSpec>,
}

/// What the local part wants done, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The answer to a [`Request`]. Whatever it changed is published and durable.
    Answer {
        /// Of the request.
        token: Token,
        /// Whether it was done.
        result: Result<(), Error>,
    },
    /// This is what runs here now, for readers.
    Publish(Arc<LocalView>),
    /// Look once how well something is, and say so in [`Input::Probed`].
    Probe {
        /// Names this run.
        run: RunId,
        /// The check that it is for.
        check: Text,
        /// How to look.
        probe: Arc<Probe>,
        /// How long that may take; after that it has failed.
        timeout: Duration,
        /// The most bytes of output to bring back.
        output_max: usize,
    },
    /// Nobody waits for this run any more: end it. There is no answer.
    StopProbe(RunId),
    /// Ask a server of this data center, by the same way as requests of the API.
    Ask {
        /// Names the question in [`Input::Answered`].
        id: AskId,
        /// What to ask.
        question: Question,
    },
    /// Make this durable: all of it or nothing, in the order of the effects. Answered by [`Input::Saved`].
    Save {
        /// Names it.
        id: SaveId,
        /// What to write and to remove.
        changes: Vec<Change>,
    },
    /// Something that operators may want to know.
    Event(Event),
}

/// What is asked of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// All that the catalog has on a node, as the leader sees it: [`Reply::Node`].
    Node(Text),
    /// Change the catalog: [`Reply::Written`].
    Write(Action),
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `Node`; `None`: there is no such node.
    Node(Option<Box<NodeInfo>>),
    /// To `Write`.
    Written(Outcome),
}

/// Names one run of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// Names one question to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// Names one write to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaveId(pub u64);

/// A change of one record on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which record.
    pub key: RecordKey,
    /// What it is now; `None`: it is removed. at the next start it is read as it is.
    pub content: Option<Bytes>,
}

/// Names a record on the disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// A service, by its id in lower case.
    Service(Text),
    /// A check, by its id in lower case.
    Check(Text),
    /// The status of a check, by its id in lower case.
    Status(Text),
    /// When this agent was seen to be up.
    Seen,
}

/// Why a request was not done. Unless it says otherwise, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// It makes no sense, as the text says.
    #[error("{0}")]
    Invalid(String),
    /// A check is for a service that is not there.
    #[error("ServiceID {0:?} does not exist")]
    NoServiceOfCheck(String),
    /// Maintenance of a service that is not there.
    #[error("No service registered with ID {0:?}")]
    UnknownService(String),
    /// There is no check of this id that is told its status.
    #[error("CheckID {0:?} does not have associated TTL")]
    NotTtl(String),
    /// There are as many services or checks as there may be.
    #[error("this agent has {limit} {what}, which is as many as it may have")]
    Full {
        /// Of what.
        what: String,
        /// How many.
        limit: u64,
    },
    /// It was done, but a restart may undo it.
    #[error("it was done, but could not be written to the data directory: {0}")]
    NotSaved(String),
}

/// Why an input was refused. The state is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// It answers something that was never asked, or was answered already.
    #[error("an answer to nothing")]
    Unasked,
}

/// Something that operators may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A check has another status.
    StatusChanged {
        /// Its id.
        check: Text,
        /// How it was.
        from: Status,
        /// How it is.
        to: Status,
        /// What was found.
        output: Text,
    },
    /// The first result of a check is what it began with, and not passing.
    Confirmed {
        /// Its id.
        check: Text,
        /// How it is.
        status: Status,
        /// What was found.
        output: Text,
    },
    /// A check failed, or passed, but not yet often enough for its status to change.
    BelowThreshold {
        /// Its id.
        check: Text,
        /// How often in a row.
        count: u32,
        /// How often it takes.
        threshold: u32,
    },
    /// A duration of a check was too short, and was raised.
    Raised {
        /// Its id.
        check: Text,
        /// To this.
        to: Duration,
    },
    /// A service was critical for too long and was removed.
    Reaped {
        /// Its id.
        service: Text,
        /// By this check.
        check: Text,
    },
    /// What others wrote on this node was taken out of the catalog.
    Removed {
        /// Services and checks.
        ids: Vec<Text>,
    },
    /// Everything in the catalog is as it is here.
    InSync,
    /// It could not be brought into the catalog for some time, at the end for this reason; it is tried again. Said once, until it has worked.
    SyncFailed(String),
    /// The catalog does not take it, for the reason in the text. It is tried again when it changes, or much later.
    Refused {
        /// The service or check.
        id: Text,
        /// Why.
        reason: String,
    },
    /// Something on the disk is not as it should be; the text says what was done.
    Trouble(String),
}

/// What runs on this agent, and how well it is. Never changes: there is a new one after each change.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LocalView {
    /// This node.
    pub node: NodeDef,
    /// The services, by their ids in lower case.
    pub services: Labels<Arc<LocalService>>,
    /// The checks, by their ids in lower case.
    pub checks: Labels<Arc<LocalCheck>>,
}

/// A service of this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalService {
    /// What it is.
    pub def: ServiceDef,
    /// Changes whenever `def` does; equal for equal ones, also after a restart.
    pub hash: u64,
}

/// A check of this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCheck {
    /// What it is, and what was found last.
    pub def: CheckDef,
    /// The name of the service that it looks after; empty: the node.
    pub service_name: Text,
    /// The tags of that service.
    pub service_tags: Tags,
    /// How it is checked.
    pub spec: Arc<CheckSpec>,
}

/// Why the local part wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// A check is due, or was not told in time.
    Check,
    /// Something is to be written to the catalog, or compared with it.
    Sync,
    /// Something is to be written to the disk.
    Save,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::CheckMethod;

    #[test]
    fn programs_are_recognised_wherever_they_are() {
        let check = |probe: Probe| CheckSpec {
            method: CheckMethod::Probe {
                probe: Arc::new(probe),
                interval: Duration::from_secs(1),
                timeout: None,
            },
            ..CheckSpec::default()
        };
        let script = check(Probe::Script {
            args: vec!["true".to_owned()],
        });
        let docker = check(Probe::Docker {
            container: "c".to_owned(),
            shell: String::new(),
            args: vec!["true".to_owned()],
        });
        let tcp = check(Probe::Tcp {
            address: "127.0.0.1:1".to_owned(),
            tls: None,
        });
        let service = |check: &CheckSpec| Request::RegisterService {
            spec: Box::new(ServiceSpec {
                checks: vec![CheckSpec::default(), check.clone()],
                ..ServiceSpec::default()
            }),
            replace_checks: false,
        };
        for (check, expected) in [(script, true), (docker, true), (tcp, false)] {
            assert_eq!(service(&check).runs_programs(), expected);
            assert_eq!(Request::RegisterCheck(Box::new(check)).runs_programs(), expected);
        }
    }
}
