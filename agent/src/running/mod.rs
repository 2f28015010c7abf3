//! What runs on this agent: everything around the machine that looks after it.
//!
//! - `outlet`: what the machine wants done: probes, questions to servers, answers;
//! - `shelf`: its records on the disk;
//! - `diary`: what the log has of what clients change;
//! - [`Running`]: what it shows, for readers.

mod diary;
mod outlet;
mod shelf;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use event_listener::Event as Signal;
use lictor_catalog::NodeDef;
use lictor_local::{self as local, LocalView, node_def};
use lictor_machine::NodeId;

use crate::boot::{self, StartError};
use crate::config::Config;

pub(crate) use diary::Entry;
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

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once, zip};

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
}
