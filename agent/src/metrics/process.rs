//! The process, as Linux tells of it.

use std::fs;

use lictor_metrics::Gauges;

/// Puts what can be found out; what cannot is not there.
pub(super) fn show(gauges: &mut Gauges) {
    // A size of this file is a number of KiB.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line
            .trim_start_matches(':')
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()?;
        Some(kib * 1024.0)
    };
    let number = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().parse().ok()
    };
    for (name, value) in [
        ("consul.runtime.alloc_bytes", bytes("RssAnon")),
        ("consul.runtime.sys_bytes", bytes("VmRSS")),
        ("process.virtual_memory_bytes", bytes("VmSize")),
        ("process.resident_memory_bytes", bytes("VmRSS")),
        ("process.threads", number("Threads")),
        ("process.cpu_seconds_total", cpu_seconds()),
        ("process.open_fds", open_files()),
        ("process.max_fds", open_files_max()),
    ] {
        if let Some(value) = value {
            gauges.put(name, value);
        }
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the process comes first, in parentheses, and may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some((user + system) / rustix::param::clock_ticks_per_second() as f64)
}

fn open_files() -> Option<f64> {
    // Looking takes one itself.
    let count = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    Some(count as f64)
}

fn open_files_max() -> Option<f64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map(|limit| limit as f64)
}

#[cfg(test)]
mod tests {
    use lictor_metrics::Registry;

    use super::*;

    #[test]
    fn the_process_has_everything() {
        let registry = Registry::new();
        registry.collect(show);
        let gauges = registry.report().gauges;
        assert_eq!(gauges.len(), 8);
        for gauge in &gauges {
            assert!(
                gauge.value > 0.0 || gauge.name == "process.cpu_seconds_total",
                "{gauge:?}"
            );
        }
        let value = |name: &str| gauges.iter().find(|gauge| gauge.name == name).unwrap().value;
        assert!(value("consul.runtime.alloc_bytes") <= value("consul.runtime.sys_bytes"));
        assert!(value("process.open_fds") < value("process.max_fds"));
    }
}
