//! What an agent needs before it can run: its data directory, who it is, what it remembers, and whom it trusts.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use lictor_catalog::{Builder, State};
use lictor_machine::NodeId;
use lictor_node::store::{LogBoot, LogStore, MemoryDisk, StateMark, StateStore, StoreError, check_pair};
use lictor_transport_quic::{Trust, TrustError, TrustFiles};

use crate::config::{self, Config};
use crate::durable;
use crate::recovery::PeersError;

/// How much of the log's end is kept in memory at once after a start.
pub(crate) const TAIL_BYTES: usize = 8 << 20;

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{}: {source}; check that the directory exists and that this user may write to it", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {text:?} is not a node id; it should hold a UUID of 36 characters. Remove the file to get a new identity", path.display())]
    NodeId { text: String, path: PathBuf },
    #[error("{}: {text:?} is not the id of a cluster; it should hold a UUID of 36 characters. Remove the file, and this agent belongs to the first cluster that it meets", path.display())]
    ClusterId { text: String, path: PathBuf },
    #[error("the node id {configured} was configured, but {} says {kept}: a data directory belongs to one node for ever", path.display())]
    OtherNodeId {
        configured: NodeId,
        kept: NodeId,
        path: PathBuf,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the state cannot be read: {0}; restore this server from a backup, or remove its data directory and let it join again"
    )]
    State(lictor_catalog::RowError),
    #[error(transparent)]
    Node(#[from] lictor_node::StartError),
    #[error("{0}")]
    Trust(#[from] TrustError),
    #[error(
        "{0}; there this user's authority is kept, which agents trust that are told of no other: give this user a home that can be written, or say \
         whom to trust, with -encrypt (encrypt) or with certificates (tls.defaults)"
    )]
    Authority(TrustError),
    #[error(transparent)]
    Bind(#[from] lictor_transport_quic::BindError),
    #[error(transparent)]
    Peers(#[from] PeersError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("this agent cannot get randomness from the system: {0}")]
    Randomness(getrandom::Error),
    #[error("the pools' settings make no sense: {0}")]
    Gossip(#[from] lictor_gossip::ConfigError),
    #[error("what the configuration files define makes no sense: {0}")]
    Definitions(#[from] lictor_local::Error),
    #[error("nobody was found to join: {0}")]
    Join(String),
}

/// The stores and what they held.
pub(crate) struct Opened {
    pub(crate) log: Box<dyn LogStore>,
    pub(crate) state: Box<dyn StateStore>,
    pub(crate) boot: LogBoot,
    pub(crate) stored: (State, StateMark),
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StartError::Randomness)?;
    Ok(bytes)
}

/// A seed for something that is not secret.
pub(crate) fn seed() -> Result<u64, StartError> {
    random().map(u64::from_le_bytes)
}

/// Makes the data directory, if there is to be one.
pub(crate) fn data_dir(config: &Config) -> Result<Option<&Path>, StartError> {
    let Some(path) = config.data_dir.as_deref() else {
        return Ok(None);
    };
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StartError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(path))
}

/// Who this node is: what its data directory says, else what the configuration says, else somebody new. If the file with
/// the id is lost, it is who its stores belong to: `owner`.
pub(crate) fn node_id(
    config: &Config,
    data_dir: Option<&Path>,
    owner: Option<NodeId>,
) -> Result<NodeId, StartError> {
    let fresh = || random::<16>().map(|bytes| NodeId(u128::from_le_bytes(bytes)));
    let Some(path) = data_dir.map(|dir| dir.join("node-id")) else {
        return config.node_id.map_or_else(fresh, Ok);
    };
    let failed = |source| StartError::File {
        path: path.clone(),
        source,
    };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let text = text.trim();
            let kept: NodeId = text.parse().map_err(|_| StartError::NodeId {
                text: text.chars().take(80).collect(),
                path: path.clone(),
            })?;
            match config.node_id.filter(|configured| *configured != kept) {
                Some(configured) => Err(StartError::OtherNodeId {
                    configured,
                    kept,
                    path,
                }),
                None => Ok(kept),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = match (owner, config.node_id) {
                (Some(kept), Some(configured)) if configured != kept => {
                    return Err(StartError::OtherNodeId {
                        configured,
                        kept,
                        path: path.with_file_name("raft"),
                    });
                }
                (Some(kept), _) => {
                    tracing::warn!(id = %kept, path = %path.display(), "the file with the node's id was lost; it is restored from the stores");
                    kept
                }
                (None, configured) => configured.map_or_else(fresh, Ok)?,
            };
            // What the stores hold belongs to this id, so it must not vanish before them.
            durable::replace(&path, format!("{id}\n").as_bytes()).map_err(failed)?;
            Ok(id)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Opens the stores and reads what they hold.
pub(crate) fn open_stores(data_dir: Option<&Path>) -> Result<Opened, StartError> {
    let (mut log, mut state): (Box<dyn LogStore>, Box<dyn StateStore>) = if let Some(dir) = data_dir {
        let stores = lictor_storage_lmdb::open(dir, &lictor_storage_lmdb::Options::default())?;
        (Box::new(stores.log), Box::new(stores.state))
    } else {
        let (log, state) = MemoryDisk::new().open()?;
        (Box::new(log), Box::new(state))
    };
    let boot = log.load(TAIL_BYTES)?;
    let mut builder = Builder::new();
    let mut damaged = None;
    let mark = state.load(&mut |row| {
        if damaged.is_none() {
            damaged = builder.add(row).err();
        }
        Ok(())
    })?;
    if let Some(error) = damaged {
        return Err(StartError::State(error));
    }
    check_pair(&boot.raft, &mark)?;
    let rows = builder.finish(mark.applied.index).map_err(StartError::State)?;
    Ok(Opened {
        log,
        state,
        boot,
        stored: (rows, mark),
    })
}

/// Whom this agent trusts, and why others trust it.
pub(crate) fn trust(config: &Config, data_dir: Option<&Path>) -> Result<Trust, StartError> {
    Ok(match &config.trust {
        config::Trust::Shared(key) => Trust::shared_key(key.bytes())?,
        config::Trust::Files {
            ca_file,
            cert_file,
            key_file,
            domain,
        } => Trust::files(TrustFiles {
            ca_file: ca_file.clone(),
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
            domain: domain
                .clone()
                .unwrap_or_else(|| lictor_transport_quic::DEFAULT_DOMAIN.to_owned()),
        }),
        config::Trust::User => {
            let state = dirs::state_dir().or_else(dirs::data_local_dir);
            let kept = state.map(|state| state.join("lictor").join("authority"));
            user_authority(
                config.dev,
                kept.or_else(|| data_dir.map(|dir| dir.join("authority"))),
            )?
        }
    })
}

/// The authority that is kept in `directory`. An agent for development goes on without, if it cannot be kept there.
fn user_authority(dev: bool, directory: Option<PathBuf>) -> Result<Trust, StartError> {
    // Of one that is kept nowhere nobody else can have a share.
    let alone = || Ok(Trust::shared_key(&random::<32>()?)?);
    let Some(directory) = directory else {
        return alone();
    };
    match Trust::user_authority(&directory) {
        Ok(trust) => Ok(trust),
        Err(error @ TrustError::Store { .. }) if dev => {
            tracing::info!(%error, "this user's authority cannot be kept: this agent makes one in memory, and other agents cannot join it");
            alone()
        }
        Err(error @ TrustError::Store { .. }) => Err(StartError::Authority(error)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
