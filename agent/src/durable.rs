//! Small files that are there whole, or not at all, whatever happens while they are written.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes a file that only this user may read, in the place of one that may be there.
///
/// It is written aside and moved, so that a crash leaves the old one or the new one; after a return it is the new one, over a power cut, too.
///
/// # Errors
///
/// Those of the file system. The old file is there still, or the new one that a power cut may yet take back.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    // What a crash left there may have another mode.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    // Until the directory is synced a power cut may bring the old one back.
    path.parent()
        .map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-id");
        replace(&path, b"one that is long").unwrap();
        // What a crash left behind is no obstacle.
        fs::write(
            dir.path().join("node-id.new"),
            "half of something that was longer than this",
        )
        .unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-id");
        replace(&path, b"one").unwrap();
        fs::create_dir(dir.path().join("node-id.new")).unwrap();
        replace(&path, b"two").unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }
}
