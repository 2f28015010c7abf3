//! How much there is.

use crate::state::State;

/// How much there is in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Keys.
    pub keys: usize,
    /// Sessions that live.
    pub sessions: usize,
    /// Prepared queries.
    pub prepared_queries: usize,
    /// Nodes.
    pub nodes: usize,
    /// Names of services.
    pub services: usize,
    /// Instances of services.
    pub instances: usize,
    /// Checks.
    pub checks: usize,
}

impl State {
    /// How much there is. Looks at every node.
    pub fn counts(&self) -> Counts {
        let (instances, checks) = self.discovery.instances_and_checks();
        Counts {
            keys: self.kv.entries.len(),
            sessions: self.sessions.len(),
            prepared_queries: self.prepared.len(),
            nodes: self.discovery.len(),
            services: self.discovery.service_names(),
            instances,
            checks,
        }
    }
}
