//! Checks that are as well as something else: as the worst check of another service, or of a node.
//!
//! What an alias says is always computed from checks that are no aliases, however long the chain in between. So aliases of each other
//! cannot keep each other critical.

use core::time::Duration;
use std::collections::BTreeSet;

use lictor_catalog::{CheckDef, NodeInfo, Status, Text};

use super::io::{AskId, Effect, Question};
use super::spec::CheckMethod;
use super::{Due, Local, folded};

/// How often another node is looked at.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(10);

type Seen = (Status, Text);

impl Local {
    /// Whether a check is an alias of something on another node.
    pub(super) fn is_remote_alias(&self, id: &Text) -> bool {
        let method = self.checks.get(id).map(|check| &check.shown.spec.method);
        match method {
            Some(CheckMethod::Alias { node, .. }) => {
                !node.is_empty() && !node.eq_ignore_ascii_case(&self.config.node.name)
            }
            Some(CheckMethod::Ttl(_) | CheckMethod::Probe { .. } | CheckMethod::Maintenance) | None => false,
        }
    }

    /// The service on this node that a check is an alias of; empty: the node.
    pub(super) fn alias_target(&self, id: &Text) -> Option<Text> {
        if self.is_remote_alias(id) {
            return None;
        }
        match &self.checks.get(id)?.shown.spec.method {
            CheckMethod::Alias { service, .. } => Some(folded(service)),
            CheckMethod::Ttl(_) | CheckMethod::Probe { .. } | CheckMethod::Maintenance => None,
        }
    }

    /// Brings aliases to where what they stand for is now.
    pub(super) fn settle_aliases(&mut self) {
        // One alias may stand for another, so a change may need as many rounds as there are aliases.
        for _ in 0..=self.aliases.len() {
            let touched = std::mem::take(&mut self.touched);
            if touched.is_empty() {
                return;
            }
            let node = touched.contains("");
            let concerned = self.aliases.iter().filter(|id| {
                let target = self.alias_target(id);
                target.is_some_and(|target| node || touched.contains(&target))
            });
            let concerned: Vec<Text> = concerned.cloned().collect();
            for id in concerned {
                let (status, output) = self.local_alias(&id, &mut BTreeSet::new());
                self.set_status(&id, status, output);
            }
        }
        self.touched.clear();
    }

    fn local_alias(&self, id: &Text, seen: &mut BTreeSet<Text>) -> Seen {
        seen.insert(id.clone());
        let target = self.alias_target(id).unwrap_or_default();
        if !target.is_empty() && !self.services.contains_key(&target) {
            return not_found(&target, &self.config.node.name);
        }
        let node = Text::default();
        let mut targets = vec![&node];
        if !target.is_empty() {
            targets.push(&target);
        }
        let checks = targets
            .into_iter()
            .filter_map(|target| self.checks_of.get(target));
        let mut worst = Worst::default();
        for other in checks.flatten() {
            if seen.contains(other) {
                continue;
            }
            let Some(check) = self.checks.get(other) else {
                continue;
            };
            let def = &check.shown.def;
            if self.alias_target(other).is_some() {
                let (status, output) = self.local_alias(other, seen);
                worst.take(status, &def.name, &output);
            } else {
                worst.take(def.status, &def.name, &def.output);
            }
        }
        worst.result()
    }

    /// Asks how another node is.
    pub(super) fn look_up_alias(&mut self, id: &Text) {
        self.set_due(id, Due::Probe, Some(self.now() + LOOK_UP_INTERVAL));
        let method = self.checks.get(id).map(|check| check.shown.spec.method.clone());
        let Some(CheckMethod::Alias { node, .. }) = method else {
            return;
        };
        // Nothing may wait twice: a question that is still open is as good as another.
        if !self.sync.ceased && !self.sync.lookups.values().any(|waiting| waiting == id) {
            let ask = AskId(self.id());
            self.sync.lookups.insert(ask, id.clone());
            let question = Question::Node(node);
            self.out.push_back(Effect::Ask { id: ask, question });
        }
    }

    /// The catalog has this on the node that an alias stands for. If it could not be asked, all stays as it was.
    pub(super) fn alias_looked_up(&mut self, id: &Text, info: Option<&NodeInfo>) {
        let method = self.checks.get(id).map(|check| check.shown.spec.method.clone());
        let Some(CheckMethod::Alias { node, service }) = method else {
            return;
        };
        let (status, output) = match info {
            Some(info) => remote_alias(info, &service),
            None => not_found(&service, &node),
        };
        self.set_status(id, status, output);
    }
}

fn remote_alias(info: &NodeInfo, service: &Text) -> Seen {
    let there = |id: &Text| id.eq_ignore_ascii_case(service);
    if !service.is_empty() && !info.services.iter().any(|found| there(&found.def.id)) {
        return not_found(service, &info.node.def.name);
    }
    let mut worst = Worst::default();
    for check in &info.checks {
        let CheckDef {
            service_id,
            status,
            name,
            output,
            ..
        } = &check.def;
        if service_id.is_empty() || (!service.is_empty() && there(service_id)) {
            worst.take(*status, name, output);
        }
    }
    worst.result()
}

fn not_found(service: &Text, node: &Text) -> Seen {
    let output = if service.is_empty() {
        format!("Node {node} could not be found")
    } else {
        format!("Service {service} could not be found on node {node}")
    };
    (Status::Critical, output.into())
}

/// The worst of some checks; of equal ones the first.
#[derive(Default)]
struct Worst(Option<(Status, String)>);

impl Worst {
    fn take(&mut self, status: Status, name: &Text, output: &Text) {
        if self.0.as_ref().is_none_or(|(worst, _)| status > *worst) {
            let text = match status {
                Status::Passing => "All checks passing.".to_owned(),
                Status::Warning | Status::Critical => {
                    format!("Aliased check {:?} failing: {output}", &**name)
                }
            };
            self.0 = Some((status, text));
        }
    }

    fn result(self) -> Seen {
        let (status, output) = self
            .0
            .unwrap_or_else(|| (Status::Passing, "No checks found.".to_owned()));
        (status, output.into())
    }
}
