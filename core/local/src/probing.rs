//! When to look, and how many looks at once.
//!
//! The first look comes soon, at a random moment, so that many checks that begin together do not look together. From then on the next
//! begins one interval after the last has ended. A check of which nothing is known is looked at almost at once, since it counts as
//! critical until then.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use lictor_catalog::{Status, Text};

use super::io::{Effect, Reject, RunId};
use super::spec::CheckMethod;
use super::{Due, Local};

/// Over how long first looks are spread, if something is known, or nothing.
const SPREAD_KNOWN: Duration = Duration::from_secs(10);
const SPREAD_UNKNOWN: Duration = Duration::from_millis(250);

/// How much longer than it may take a probe is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Probing {
    running: BTreeMap<RunId, Text>,
    /// Checks that are due and find no place. Those that are gone or not due any more are skipped.
    waiting: VecDeque<Text>,
}

impl Local {
    /// A check is new, or was replaced.
    pub(super) fn begin_checking(&mut self, id: &Text, same_method: bool, known: bool) {
        self.watch_critical(id);
        let Some(check) = self.checks.get(id) else { return };
        let goes_on = same_method && (check.run.is_some() || check.due[Due::Probe as usize].is_some());
        let (probe, told) = match &check.shown.spec.method {
            CheckMethod::Ttl(ttl) => (None, Some(self.now() + *ttl)),
            CheckMethod::Probe { .. } if goes_on => (check.due[Due::Probe as usize], None),
            CheckMethod::Probe { interval, .. } => {
                let spread = if known { SPREAD_KNOWN } else { SPREAD_UNKNOWN };
                let wait = self.rng.between(Duration::ZERO, spread.min(*interval));
                (Some(self.now() + wait), None)
            }
            CheckMethod::Alias { .. } => (self.is_remote_alias(id).then(|| self.now()), None),
            CheckMethod::Maintenance => (None, None),
        };
        self.set_due(id, Due::Probe, probe);
        self.set_due(id, Due::Told, told);
    }

    pub(super) fn probe_due(&mut self, id: &Text) {
        let Some(check) = self.checks.get(id) else { return };
        match &check.shown.spec.method {
            CheckMethod::Probe { timeout, probe, .. } if check.run.is_some() => {
                let timeout = timeout.unwrap_or_else(|| probe.usual_timeout());
                self.stop_probe(id);
                self.found(
                    id,
                    Status::Critical,
                    &format!("Timed out ({timeout:?}) running check"),
                );
                self.probe_later(id);
            }
            CheckMethod::Probe { .. } => self.probing.waiting.push_back(id.clone()),
            CheckMethod::Alias { .. } => self.look_up_alias(id),
            CheckMethod::Ttl(_) | CheckMethod::Maintenance => {}
        }
    }

    /// Starts what is due, as far as there is room.
    pub(super) fn start_probes(&mut self) {
        while self.probing.running.len() < self.config.probes_max {
            let Some(id) = self.probing.waiting.pop_front() else {
                return;
            };
            let Some(check) = self.checks.get(&id) else {
                continue;
            };
            let spec = check.shown.spec.clone();
            let CheckMethod::Probe { probe, timeout, .. } = &spec.method else {
                continue;
            };
            if check.run.is_some() || check.due[Due::Probe as usize].is_some() {
                continue;
            }
            let timeout = timeout.unwrap_or_else(|| probe.usual_timeout());
            let run = RunId(self.id());
            self.probing.running.insert(run, id.clone());
            if let Some(check) = self.checks.get_mut(&id) {
                check.run = Some(run);
            }
            self.set_due(&id, Due::Probe, Some(self.now() + timeout + PATIENCE));
            self.out.push_back(Effect::Probe {
                run,
                check: id,
                probe: probe.clone(),
                timeout,
                output_max: self.output_limit(spec.output_max),
            });
        }
    }

    pub(super) fn probed(&mut self, run: RunId, status: Status, output: &str) -> Result<(), Reject> {
        let id = self.probing.running.remove(&run).ok_or(Reject::Unasked)?;
        if let Some(check) = self.checks.get_mut(&id) {
            check.run = None;
        }
        self.found(&id, status, output);
        self.probe_later(&id);
        Ok(())
    }

    /// Nobody waits for the run of a check any more.
    pub(super) fn stop_probe(&mut self, id: &Text) {
        let run = self.checks.get_mut(id).and_then(|check| check.run.take());
        if let Some(run) = run {
            self.probing.running.remove(&run);
            self.out.push_back(Effect::StopProbe(run));
        }
    }

    fn probe_later(&mut self, id: &Text) {
        let Some(check) = self.checks.get(id) else { return };
        if let CheckMethod::Probe { interval, .. } = check.shown.spec.method {
            self.set_due(id, Due::Probe, Some(self.now() + interval));
        }
    }
}
