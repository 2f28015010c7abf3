//! The data directory: made durably, and held by one process at a time.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lictor_node::store::StoreError;

use crate::error::io_error;

/// How long to wait for a directory that is about to be let go: by an agent that is just ending; or by a program that its checks are just
/// starting, which shares the lock between fork and exec.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// Holds a data directory for as long as it lives.
pub(crate) type Lock = Arc<File>;

/// Makes the directory if need be, and takes it.
pub(crate) fn claim(dir: &Path) -> Result<Lock, StoreError> {
    create(dir)?;
    let path = dir.join("lictor.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| io_error(&path.display(), error))?;
    let give_up = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Arc::new(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Io {
                    path: dir.display().to_string(),
                    detail: "in use by another process; stop it, or choose another data directory".into(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(io_error(&path.display(), error)),
        }
    }
}

/// Makes the directory and those above it, so that they survive a power cut. New ones are their owner's alone.
pub(crate) fn create(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error(&dir.display(), error)),
    }
    sync(parent.unwrap_or(Path::new(".")))
}

/// Makes the names in a directory durable.
pub(crate) fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| io_error(&dir.display(), error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_made_is_its_owners_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("deep/down");
        let _lock = claim(&dir).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root.path().join("deep")), 0o700);
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join("lictor.lock")), 0o600);
    }

    #[test]
    fn one_claim_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("deep/down");
        let lock = claim(&dir).unwrap();
        let Err(StoreError::Io { path, detail }) = claim(&dir) else {
            panic!("claimed twice")
        };
        assert_eq!(path, dir.display().to_string());
        assert!(detail.contains("in use by another process"), "{detail}");
        drop(lock);
        claim(&dir).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("data");
        fs::write(&file, "mine").unwrap();
        let error = claim(&file.join("inner")).unwrap_err().to_string();
        assert!(error.contains("data"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }
}
