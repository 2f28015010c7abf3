//! What runs on this agent: everything around the machine that looks after it.
//!
//! - `outlet`: what the machine wants done: probes, questions to servers, answers;
//! - `shelf`: its records on the disk;
//! - [`Running`]: what it shows, for readers.

mod outlet;
mod shelf;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use event_listener::Event as Signal;
use lictor_catalog::NodeDef;
use lictor_local::{self as local, LocalView, Request, node_def};
use lictor_machine::NodeId;

use crate::boot::{self, StartError};
use crate::config::Config;

pub(crate) use outlet::LocalOutlet;
pub(crate) use shelf::Shelf;

/// What runs on this agent, for readers.
#[derive(Debug, Default)]
pub(crate) struct Running {
    view: RwLock<Arc<LocalView>>,
    changed: Signal,
}

impl Running {
    /// What runs now.
    pub(crate) fn view(&self) -> Arc<LocalView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the view is not `seen` any more, and gives it.
    pub(crate) async fn after(&self, seen: &Arc<LocalView>) -> Arc<LocalView> {
        loop {
            // First listen, then look: a change in between is not missed.
            let changed = self.changed.listen();
            let view = self.view();
            if !Arc::ptr_eq(&view, seen) {
                return view;
            }
            changed.await;
        }
    }

    fn publish(&self, view: Arc<LocalView>) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        self.changed.notify(usize::MAX);
    }
}

/// The settings of the machine.
pub(crate) fn settings(config: &Config, id: NodeId) -> Result<local::Config, StartError> {
    let mut settings = local::Config::new(node(config, id), boot::seed()?);
    settings.server = config.server;
    settings.keeps = config.data_dir.is_some();
    settings.programs_from_requests = config.checks.scripts_from_api;
    settings.check_update_interval = config.checks.update_interval;
    settings.discard_output = config.checks.discard_output;
    settings.output_max = config.checks.output_max;
    Ok(settings)
}

/// This node, as it is to be in the catalog.
pub(crate) fn node(config: &Config, id: NodeId) -> NodeDef {
    let (lan, wan): (IpAddr, IpAddr) = (config.advertise.ip(), config.advertise_wan.ip());
    let meta = config.node_meta.iter();
    let meta = meta.map(|(key, value)| (key.as_str().into(), value.as_str().into()));
    node_def(id, &config.node_name, lan, wan, meta)
}

/// Whether a request would have this agent run programs.
pub(crate) fn runs_programs(request: &Request) -> bool {
    match request {
        Request::RegisterService { spec, .. } => spec.checks.iter().any(|check| check.method.runs_program()),
        Request::RegisterCheck(check) => check.method.runs_program(),
        // What files define was looked at when they were read.
        Request::SetDefinitions(_)
        | Request::DeregisterService(_)
        | Request::DeregisterCheck(_)
        | Request::UpdateTtl { .. }
        | Request::Maintain { .. }
        | Request::SetNode(_)
        | Request::Sync => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_lite::future::{block_on, poll_once, zip};
    use lictor_local::{CheckMethod, CheckSpec, Probe};

    use super::*;

    #[test]
    fn readers_wait_for_another_view() {
        let running = Running::default();
        let first = running.view();
        assert!(block_on(poll_once(running.after(&first))).is_none());
        let (seen, ()) = block_on(zip(running.after(&first), async {
            running.publish(Arc::new(LocalView::default()));
        }));
        assert!(!Arc::ptr_eq(&seen, &first));
        // One that comes late need not wait.
        assert!(block_on(poll_once(running.after(&first))).is_some());
    }

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
            spec: Box::new(local::ServiceSpec {
                checks: vec![CheckSpec::default(), check.clone()],
                ..local::ServiceSpec::default()
            }),
            replace_checks: false,
        };
        for (check, expected) in [(script, true), (docker, true), (tcp, false)] {
            assert_eq!(runs_programs(&service(&check)), expected);
            assert_eq!(runs_programs(&Request::RegisterCheck(Box::new(check))), expected);
        }
    }
}
