//! The machine that the agent runs on, as Linux tells of it under `/proc` and `/etc`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lictor_http::{Cpu, Disk, Host, Memory, System};

/// How large a file may be that is looked at, in bytes.
const FILE_BYTES_MAX: usize = 4 << 20;

/// Looks at the machine. `place`: where the agent's data is. Reads files, so it may take a while.
pub(crate) fn look(place: Option<&Path>) -> Host {
    let place = place.map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let mut host = Host::default();
    let mut errors = Vec::new();
    let mut note = |what: &str, error: std::io::Error| errors.push(format!("{what}: {error}"));
    match read("/proc/meminfo") {
        Ok(text) => host.memory = memory(&text),
        Err(error) => note("/proc/meminfo", error),
    }
    match read("/proc/cpuinfo") {
        Ok(text) => host.cpus = cpus(&text),
        Err(error) => note("/proc/cpuinfo", error),
    }
    match read("/proc/uptime") {
        Ok(text) => {
            let uptime = text
                .split(['.', ' '])
                .next()
                .and_then(|seconds| seconds.parse().ok());
            host.system.uptime = uptime.unwrap_or_default();
        }
        Err(error) => note("/proc/uptime", error),
    }
    match fs::read_dir("/proc") {
        Ok(entries) => host.system.procs = processes(entries),
        Err(error) => note("/proc", error),
    }
    match disk(&place) {
        Ok(disk) => host.disk = disk,
        Err(error) => note(&place.display().to_string(), error),
    }
    system(&mut host.system);
    host.errors = errors;
    host
}

fn read(path: &str) -> std::io::Result<String> {
    let mut text = fs::read_to_string(path)?;
    text.truncate(text.floor_char_boundary(FILE_BYTES_MAX));
    Ok(text)
}

/// Lines of a name, a colon and a value.
fn pairs(text: &str, colon: char) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .filter_map(move |line| line.split_once(colon))
        .map(|(name, value)| (name.trim(), value.trim()))
}

fn memory(text: &str) -> Memory {
    let kib: HashMap<&str, u64> = pairs(text, ':')
        .filter_map(|(name, value)| Some((name, value.split(' ').next()?.parse().ok()?)))
        .collect();
    let bytes = |name: &str| kib.get(name).copied().unwrap_or_default().saturating_mul(1024);
    let (total, free, buffers) = (bytes("MemTotal"), bytes("MemFree"), bytes("Buffers"));
    // What the system itself keeps of files, and would give back, is of the same kind.
    let cached = bytes("Cached") + bytes("SReclaimable");
    let used = total
        .saturating_sub(free)
        .saturating_sub(buffers)
        .saturating_sub(cached);
    Memory {
        total,
        available: bytes("MemAvailable"),
        used,
        used_percent: percent(used, total),
        free,
        active: bytes("Active"),
        inactive: bytes("Inactive"),
        buffers,
        cached,
        dirty: bytes("Dirty"),
        shared: bytes("Shmem"),
        slab: bytes("Slab"),
        pagetables: bytes("PageTables"),
        committedas: bytes("Committed_AS"),
        swaptotal: bytes("SwapTotal"),
        swapfree: bytes("SwapFree"),
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64 * 100.0
}

fn cpus(text: &str) -> Vec<Cpu> {
    text.split("\n\n")
        .filter_map(|section| {
            let values: HashMap<&str, &str> = pairs(section, ':').collect();
            let text = |name: &str| values.get(name).copied().unwrap_or_default().to_owned();
            let first = |name: &str| text(name).split(' ').next().unwrap_or_default().to_owned();
            Some(Cpu {
                cpu: values.get("processor")?.parse().ok()?,
                vendor_id: text("vendor_id"),
                family: text("cpu family"),
                model: text("model"),
                stepping: first("stepping").parse().unwrap_or_default(),
                physical_id: text("physical id"),
                core_id: text("core id"),
                cores: 1,
                model_name: text("model name"),
                mhz: first("cpu MHz").parse().unwrap_or_default(),
                cache_size: first("cache size").parse().unwrap_or_default(),
                flags: text("flags").split_whitespace().map(str::to_owned).collect(),
                microcode: text("microcode"),
            })
        })
        .collect()
}

/// Processes are the directories whose names are numbers.
fn processes(entries: fs::ReadDir) -> u64 {
    let is_number = |name: &[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_digit);
    entries
        .filter_map(Result::ok)
        .filter(|entry| is_number(entry.file_name().as_encoded_bytes()))
        .count() as u64
}

fn disk(place: &Path) -> std::io::Result<Disk> {
    let found = rustix::fs::statvfs(place)?;
    let kind = rustix::fs::statfs(place)?.f_type;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    let (total, free) = (bytes(found.f_blocks), bytes(found.f_bavail));
    let used = bytes(found.f_blocks.saturating_sub(found.f_bfree));
    let inodes_used = found.f_files.saturating_sub(found.f_ffree);
    Ok(Disk {
        path: place.display().to_string(),
        fstype: file_system(kind),
        total,
        free,
        used,
        // What only the system's administrator could still get counts for neither.
        used_percent: percent(used, used + free),
        inodes_total: found.f_files,
        inodes_used,
        inodes_free: found.f_ffree,
        inodes_used_percent: percent(inodes_used, found.f_files),
    })
}

/// The name of a kind of file system, by the number that the kernel has for it.
fn file_system(kind: i64) -> String {
    match kind {
        0xef53 => "ext2/ext3",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x6969 => "nfs",
        other => return format!("{other:#x}"),
    }
    .to_owned()
}

fn system(system: &mut System) {
    let kernel = rustix::system::uname();
    system.hostname = kernel.nodename().to_string_lossy().into_owned();
    system.kernel_version = kernel.release().to_string_lossy().into_owned();
    system.kernel_arch = kernel.machine().to_string_lossy().into_owned();
    std::env::consts::OS.clone_into(&mut system.os);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    system.boot_time = now.saturating_sub(Duration::from_secs(system.uptime)).as_secs();
    // What is in these files is for people. A system without them has no name for it.
    let release = read("/etc/os-release").unwrap_or_default();
    let release: HashMap<&str, &str> = pairs(&release, '=')
        .map(|(name, value)| (name, value.trim_matches('"')))
        .collect();
    let said = |name: &str| release.get(name).copied().unwrap_or_default();
    said("ID").clone_into(&mut system.platform);
    let family = said("ID_LIKE").split(' ').next().unwrap_or_default();
    if family.is_empty() { said("ID") } else { family }.clone_into(&mut system.platform_family);
    said("VERSION_ID").clone_into(&mut system.platform_version);
    let id = read("/etc/machine-id").unwrap_or_default();
    id.trim().clone_into(&mut system.hostid);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_everything() {
        let place = tempfile::tempdir().unwrap();
        let host = look(Some(place.path()));
        assert_eq!(host.errors, [""; 0]);
        assert!(host.memory.total > host.memory.free && host.memory.total > host.memory.used);
        assert!(host.memory.used_percent > 0.0 && host.memory.used_percent < 100.0);
        assert!(!host.cpus.is_empty());
        assert!(host.system.procs > 0 && host.system.boot_time > 0);
        assert!(!host.system.hostname.is_empty() && !host.system.kernel_version.is_empty());
        assert_eq!(host.disk.path, place.path().display().to_string());
        assert!(host.disk.total >= host.disk.free + host.disk.used);
        let nowhere = look(Some(Path::new("/no such place")));
        assert_eq!(nowhere.errors.len(), 1);
        assert!(
            nowhere.errors[0].starts_with("/no such place: "),
            "{:?}",
            nowhere.errors
        );
    }

    #[test]
    fn memory_adds_up() {
        let text = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    500 kB\nBuffers:          50 kB\n\
                    Cached:          200 kB\nSReclaimable:     50 kB\nHugePages_Total:       3\nodd\n";
        let memory = memory(text);
        assert_eq!((memory.used, memory.cached), (600 << 10, 250 << 10));
        assert!((memory.used_percent - 60.0).abs() < 1e-9);
    }

    #[test]
    fn processors_by_their_sections() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu MHz\t\t: 2100.5\ncache size\t: 260 KB\nflags\t\t: fpu vme\n\n\
                    processor\t: 1\nstepping\t: unknown\n\nHardware\t: board\n";
        let cpus = cpus(text);
        assert_eq!(cpus.len(), 2);
        assert_eq!(
            (cpus[0].cache_size, cpus[0].flags.len(), cpus[1].cpu),
            (260, 2, 1)
        );
        assert!((cpus[0].mhz - 2100.5).abs() < 1e-9);
    }
}
