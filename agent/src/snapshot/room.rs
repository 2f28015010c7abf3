//! What this machine has room for: an archive that is small may hold a state that is not, and to find that out when memory is at its end
//! is too late.
//!
//! What is not known is not held against anybody: then the limits that operators set are all there is.

use std::fs;
use std::path::Path;

use super::archive::ArchiveError;

/// How many bytes of memory a byte of rows takes while it is brought in: as it came, as part of the state, and on its way to the disk.
const MEMORY_A_BYTE: u64 = 3;

/// And how many each row takes beside that.
const MEMORY_A_ROW: u64 = 320;

/// How many bytes of the disk a byte of rows takes: in the log, as part of an archive that is coming in, and as part of the state.
const DISK_A_BYTE: u64 = 3;

/// Bytes that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Room {
    /// Of memory, if that is known.
    pub(super) memory: Option<u64>,
    /// Where the agent's data is, if it keeps any and that is known.
    pub(super) disk: Option<u64>,
}

impl Room {
    /// What there is now. Reads files.
    pub(super) fn look(data: Option<&Path>) -> Self {
        let machine = fs::read_to_string("/proc/meminfo").ok();
        let group = fs::read_to_string("/proc/self/cgroup").ok();
        let known = [
            machine.as_deref().and_then(available),
            group.as_deref().and_then(left_in_group),
        ];
        Self {
            memory: known.into_iter().flatten().min(),
            disk: data.and_then(free_space),
        }
    }

    /// Refuses so many rows, with so many bytes together, if there is no room for them.
    pub(super) fn check(&self, rows: u64, bytes: u64) -> Result<(), ArchiveError> {
        let memory = bytes
            .saturating_mul(MEMORY_A_BYTE)
            .saturating_add(rows.saturating_mul(MEMORY_A_ROW));
        let disk = bytes.saturating_mul(DISK_A_BYTE);
        for (what, needed, there) in [
            ("memory", memory, self.memory),
            ("space in the data directory", disk, self.disk),
        ] {
            if let Some(there) = there.filter(|there| needed > *there) {
                return Err(ArchiveError::NoRoom { what, needed, there });
            }
        }
        Ok(())
    }
}

/// What the system says it could give.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// What is left of what the process's group may have, as containers do.
fn left_in_group(cgroup: &str) -> Option<u64> {
    let group = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let place = Path::new("/sys/fs/cgroup").join(group);
    let read = |name: &str| fs::read_to_string(place.join(name)).ok();
    left(
        &read("memory.max")?,
        &read("memory.current")?,
        &read("memory.stat")?,
    )
}

/// The same, from the files of the group. `None`: it may have all there is.
fn left(max: &str, current: &str, stat: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    // What is kept of files counts as used, and is given back when it is needed.
    let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let files = files.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
    Some(max.saturating_sub(current.saturating_sub(files)))
}

fn free_space(place: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(place).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_understood() {
        let meminfo =
            "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   23000001 kB\nBuffers: 7 kB\n";
        assert_eq!(available(meminfo), Some(23_000_001 * 1024));
        assert_eq!(available("MemTotal: 5 kB\n"), None);
        assert_eq!(available("MemAvailable: many kB\n"), None);
        let stat = "anon 100\nfile 50\ninactive_file 30\nactive_file 20\n";
        assert_eq!(left("1000\n", "400\n", stat), Some(630));
        assert_eq!(left("1000\n", "2000\n", ""), Some(0));
        assert_eq!(left("max\n", "400\n", stat), None, "it has no limit");
    }

    #[test]
    fn what_there_is_no_room_for_is_refused() {
        let room = Room {
            memory: Some(MEMORY_A_ROW + 10 * MEMORY_A_BYTE),
            disk: Some(20 * DISK_A_BYTE),
        };
        room.check(1, 10).unwrap();
        room.check(0, 20).unwrap();
        let text = |rows, bytes| room.check(rows, bytes).unwrap_err().to_string();
        assert_eq!(
            text(2, 10),
            "the snapshot is too large for this server: what has been read of it needs 670 bytes of memory, and 350 are free; nothing was changed"
        );
        let room = Room { memory: None, ..room };
        room.check(u64::MAX / MEMORY_A_ROW, 20).unwrap();
        let error = room.check(0, 21).unwrap_err().to_string();
        assert!(
            error.contains("needs 63 bytes of space in the data directory, and 60 are free"),
            "{error}"
        );
        Room::default().check(1 << 40, 1 << 50).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_machine_on_which_tests_run_has_room() {
        let room = Room::look(Some(Path::new("/")));
        assert!(room.memory.is_some_and(|bytes| bytes > 1 << 20), "{room:?}");
        assert!(room.disk.is_some(), "{room:?}");
    }
}
