//! Founding: however many servers meet, and whatever happens to them, they found one cluster.

use lictor_node::ClusterId;

use super::{Check, ensure};

#[derive(Debug, Default)]
pub(super) struct Founding {
    cluster: Option<ClusterId>,
}

impl Founding {
    pub(super) fn member(&mut self, at: usize, cluster: ClusterId) -> Check {
        let first = *self.cluster.get_or_insert(cluster);
        ensure("one cluster is founded", first == cluster, || {
            format!(
                "server {} speaks for cluster {cluster}, others for {first}",
                at + 1
            )
        })
    }
}
