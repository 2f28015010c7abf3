//! What the agent counts and shows of itself. `docs/metrics.md` lists the names.
//!
//! What happens is counted where it happens, by handles that are made once. What is so at one moment is looked at when somebody asks.

mod pools;
mod process;
mod reads;
mod server;

use std::sync::{Arc, Weak};

use lictor_metrics::{Counter, Labels, Registry};

pub(crate) use self::pools::{MemberCounts, PoolCounts};
pub(crate) use self::reads::ReadCounts;
pub(crate) use self::server::{Autopilot, DiskTimes, LeaderCounts, RequestCounts, RoleCounts};
use crate::local::Local;
use crate::view::View;

/// Requests to servers, by a client agent or for another data center.
#[derive(Clone, Debug)]
pub(crate) struct CallCounts {
    pub(crate) made: Counter,
    pub(crate) failed: Counter,
}

impl CallCounts {
    pub(crate) fn new(metrics: &Registry) -> Self {
        Self {
            made: metrics.counter("consul.client.rpc"),
            failed: metrics.counter("consul.client.rpc.failed"),
        }
    }
}

/// Shows how an agent is.
pub(crate) fn show(local: &Arc<Local>) {
    let weak = Arc::downgrade(local);
    local.metrics.collect(move |gauges| {
        process::show(gauges);
        if let Some(local) = Weak::upgrade(&weak) {
            pools::show(&local, gauges);
            server::show_raft(&local, gauges);
        }
    });
}

/// Shows what a server has.
pub(crate) fn show_server(metrics: &Registry, view: &Arc<View>, autopilot: &Arc<Autopilot>) {
    let (view, autopilot) = (Arc::downgrade(view), Arc::clone(autopilot));
    metrics.collect(move |gauges| {
        if let Some(view) = Weak::upgrade(&view) {
            server::show_state(&view, gauges);
        }
        autopilot.show(gauges);
    });
}

/// One label.
fn label(name: &'static str, value: &'static str) -> Labels {
    vec![(name.into(), value.into())]
}
