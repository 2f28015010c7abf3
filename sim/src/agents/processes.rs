//! What runs on machines, and how well it is: the truth that checks are after.

use std::collections::BTreeMap;

use lictor_catalog::{Status, Text};
use lictor_local::{CheckMethod, LocalCheck, LocalView, Probe};
use lictor_machine::Instant;

/// One process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    /// How well it is.
    pub(super) status: Status,
    /// It neither answers nor tells.
    pub(super) hangs: bool,
    /// Since when.
    pub(super) since: Instant,
}

impl Process {
    /// How it looks from outside.
    pub(super) const fn seen(self) -> Status {
        if self.hangs { Status::Critical } else { self.status }
    }
}

/// All processes, by the addresses at which they are probed. Whoever was never heard of is well.
#[derive(Debug, Default)]
pub(super) struct Processes {
    known: BTreeMap<Text, Process>,
}

impl Processes {
    /// The process at an address.
    pub(super) fn at(&self, address: &str) -> Process {
        self.known.get(address).copied().unwrap_or(Process {
            status: Status::Passing,
            hangs: false,
            since: Instant::ZERO,
        })
    }

    /// Something happens to a process.
    pub(super) fn set(&mut self, address: Text, process: Process) {
        self.known.insert(address, process);
    }

    /// How a check must be in the end, if everything stays as it is; `None` for what stands for something on another node.
    fn truth(&self, view: &LocalView, check: &LocalCheck) -> Option<Status> {
        match &check.spec.method {
            CheckMethod::Ttl(_) => Some(self.at(&teller(check)).seen()),
            CheckMethod::Probe { probe, .. } => match &**probe {
                Probe::Tcp { address, .. } => Some(self.at(address).seen()),
                Probe::Script { .. }
                | Probe::Docker { .. }
                | Probe::Http { .. }
                | Probe::Udp { .. }
                | Probe::Grpc { .. }
                | Probe::H2Ping { .. } => None,
            },
            CheckMethod::Maintenance => Some(Status::Critical),
            CheckMethod::Alias { node, .. } if !node.is_empty() => None,
            CheckMethod::Alias { service, .. } => {
                if view.service(service).is_none() {
                    return Some(Status::Critical);
                }
                let others = view.checks.iter().map(|(_, other)| other);
                let meant = others.filter(|other| {
                    let of = &other.def.service_id;
                    let alias = matches!(other.spec.method, CheckMethod::Alias { .. });
                    !alias && (of.is_empty() || of == service)
                });
                let worst = meant.filter_map(|other| self.truth(view, other)).max();
                Some(worst.unwrap_or(Status::Passing))
            }
        }
    }

    /// Whether a check says what it is going to say as long as nothing happens, not what it began with.
    fn has_settled(&self, check: &LocalCheck, truth: Status) -> bool {
        let output = &check.def.output;
        match &check.spec.method {
            CheckMethod::Ttl(_) if self.at(&teller(check)).hangs => output.starts_with("TTL expired"),
            CheckMethod::Ttl(_) | CheckMethod::Probe { .. } => **output == said_of(&teller(check), truth),
            CheckMethod::Alias { .. } | CheckMethod::Maintenance => true,
        }
    }

    /// The first check on an agent that is not as what it checks, or has not looked yet.
    pub(super) fn difference(&self, view: &LocalView) -> Option<String> {
        view.checks.iter().find_map(|(_, check)| {
            let truth = self.truth(view, check)?;
            let right = check.def.status == truth && self.has_settled(check, truth);
            let id = &check.def.id;
            (!right).then(|| format!("{id} is {truth}, and its check says {:?}", check.def))
        })
    }
}

/// What a probe, or the process itself, says of a process.
pub(super) fn said_of(address: &str, status: Status) -> String {
    format!("{address} is {status}")
}

/// The process that tells a check how it is.
pub(super) fn teller(check: &LocalCheck) -> Text {
    check.spec.notes.clone()
}
