//! To which cluster a client agent belongs.
//!
//! Whoever has the key of a pool may start servers that form a cluster of their own, by a slip of the configuration above all. Clients that
//! took any server for theirs would read from such a cluster and write into it as soon as their own is out of reach, and nobody would notice. So
//! a client agent remembers the first cluster that it meets, and asks servers of others nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use lictor_machine::NodeId;
use lictor_node::ClusterId;
use lictor_node::agent::ServerFacts;

use crate::boot::StartError;
use crate::durable;

/// The file with the cluster's id, in the data directory.
const FILE: &str = "cluster-id";

/// How many clusters that are not this agent's the log warns of. A slip of the configuration makes one or two.
const WARNED_MAX: usize = 16;

/// The cluster of a client agent.
#[derive(Debug)]
pub(crate) struct Home {
    cluster: OnceLock<ClusterId>,
    /// Where it is kept; `None`: it is forgotten with this process.
    path: Option<PathBuf>,
    /// Other clusters that the log has warned of.
    warned: Mutex<BTreeSet<ClusterId>>,
}

impl Home {
    /// What a data directory remembers.
    pub(crate) fn load(data_dir: Option<&Path>) -> Result<Self, StartError> {
        let path = data_dir.map(|dir| dir.join(FILE));
        let cluster = OnceLock::new();
        if let Some(path) = &path {
            match fs::read_to_string(path) {
                Ok(text) => {
                    let id: NodeId = text.trim().parse().map_err(|_| StartError::ClusterId {
                        text: text.chars().take(80).collect(),
                        path: path.clone(),
                    })?;
                    cluster.get_or_init(|| ClusterId(id.0));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let path = path.clone();
                    return Err(StartError::File { path, source });
                }
            }
        }
        Ok(Self {
            cluster,
            path,
            warned: Mutex::default(),
        })
    }

    /// Whether servers that are in this cluster, or in none, may be asked.
    pub(crate) fn admits(&self, cluster: Option<ClusterId>) -> bool {
        self.cluster.get().is_none_or(|home| cluster == Some(*home))
    }

    /// Takes note of a server of this data center. True if from now on this agent belongs to the cluster of that one, which is to be
    /// [kept](Home::keep).
    pub(crate) fn meet(&self, server: &ServerFacts) -> bool {
        let Some(cluster) = server.cluster.filter(|_| server.state.is_well()) else {
            return false;
        };
        let mut first = false;
        let home = *self.cluster.get_or_init(|| {
            first = true;
            cluster
        });
        if first {
            tracing::info!(%cluster, server = server.name, "this agent belongs to a cluster from now on");
        } else if home != cluster && self.warns_of(cluster) {
            let moving = self.moving();
            tracing::warn!(
                server = server.name, address = %server.address, cluster = %cluster, mine = %home,
                "a server is in another cluster than this agent, and is asked nothing, as all others there; {moving}"
            );
        }
        first
    }

    /// Why a server of this cluster is asked nothing, and how that can be mended; `None`: it [may be](Home::admits) asked.
    pub(crate) fn refusal(&self, server: &str, cluster: Option<ClusterId>) -> Option<String> {
        let (home, cluster) = (self.cluster.get()?, cluster?);
        (cluster != *home).then(|| {
            let moving = self.moving();
            format!("this agent belongs to cluster {home}, while {server} is in cluster {cluster}; {moving}")
        })
    }

    /// How this agent comes to belong to another cluster.
    fn moving(&self) -> String {
        let how = match &self.path {
            Some(path) => format!("stop it, remove {}, and start it again", path.display()),
            None => "start it again".to_owned(),
        };
        format!("if this agent is to belong there, {how}")
    }

    /// Whether this cluster is one that the log has not warned of yet, and is to now. Gossip tells of a server again and again.
    fn warns_of(&self, cluster: ClusterId) -> bool {
        // Sound after any step.
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.len() < WARNED_MAX && warned.insert(cluster)
    }

    /// Writes down where this agent belongs, if it has a data directory and belongs anywhere. Blocks.
    pub(crate) fn keep(&self) {
        if let (Some(path), Some(cluster)) = (&self.path, self.cluster.get())
            && let Err(error) = durable::replace(path, format!("{cluster}\n").as_bytes())
        {
            tracing::warn!(path = %path.display(), %error, "which cluster this agent belongs to cannot be written down; it is forgotten at the end");
        }
    }
}

#[cfg(test)]
mod tests {
    use lictor_gossip::MemberState;

    use super::*;

    fn server(cluster: Option<u128>, state: MemberState) -> ServerFacts {
        ServerFacts {
            id: NodeId(1),
            name: "s1".into(),
            address: "10.0.0.1:8300".parse().unwrap(),
            datacenter: "dc1".into(),
            build: String::new(),
            cluster: cluster.map(ClusterId),
            state,
        }
    }

    #[test]
    fn the_first_cluster_is_home_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::load(Some(dir.path())).unwrap();
        assert!(!home.meet(&server(None, MemberState::Alive)));
        assert!(
            !home.meet(&server(Some(9), MemberState::Failed)),
            "it may be long gone"
        );
        assert!(home.admits(None) && home.admits(Some(ClusterId(9))));
        assert!(home.meet(&server(Some(7), MemberState::Alive)));
        home.keep();
        assert!(!home.meet(&server(Some(7), MemberState::Alive)));
        let again = Home::load(Some(dir.path())).unwrap();
        for home in [home, again] {
            assert!(!home.meet(&server(Some(9), MemberState::Alive)));
            assert!(home.admits(Some(ClusterId(7))));
            assert!(!home.admits(Some(ClusterId(9))) && !home.admits(None));
        }
        fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(Home::load(Some(dir.path())).unwrap().admits(Some(ClusterId(9))));
    }

    #[test]
    fn a_refusal_says_how_the_agent_can_follow_and_the_log_says_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Home::load(Some(dir.path())).unwrap();
        let forgotten = Home::load(None).unwrap();
        assert_eq!(
            kept.refusal("s1", Some(ClusterId(9))),
            None,
            "it belongs nowhere yet"
        );
        for home in [&kept, &forgotten] {
            assert!(home.meet(&server(Some(7), MemberState::Alive)));
            assert_eq!(home.refusal("s1", Some(ClusterId(7))), None);
            assert_eq!(home.refusal("s1", None), None, "it may come to this cluster yet");
            let said = home.refusal("s1", Some(ClusterId(9))).unwrap();
            for part in ["s1", &ClusterId(7).to_string(), &ClusterId(9).to_string()] {
                assert!(said.contains(part), "{said}");
            }
            let file = dir.path().join(FILE).display().to_string();
            assert_eq!(said.contains(&file), home.path.is_some(), "{said}");
            assert!(home.warns_of(ClusterId(8)) && !home.warns_of(ClusterId(8)));
            let warned = (100..200).filter(|id| home.warns_of(ClusterId(*id))).count();
            assert_eq!(warned, WARNED_MAX - 1);
        }
    }

    #[test]
    fn a_file_that_names_no_cluster_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "seven\n").unwrap();
        let error = Home::load(Some(dir.path())).unwrap_err().to_string();
        assert!(
            error.contains(&path.display().to_string()) && error.contains("seven"),
            "{error}"
        );
    }

    #[test]
    fn without_a_directory_it_lasts_as_long_as_the_agent() {
        let home = Home::load(None).unwrap();
        assert!(home.meet(&server(Some(7), MemberState::Alive)));
        home.keep();
        assert!(!home.admits(Some(ClusterId(9))));
        assert!(Home::load(None).unwrap().admits(Some(ClusterId(9))));
    }
}
