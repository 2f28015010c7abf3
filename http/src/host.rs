//! `/v1/agent/host`: the machine that the agent runs on.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::reply::{Fault, Reply};
use crate::request::Request;

/// The machine that an agent runs on, as far as it can tell. Sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Host {
    /// Its memory.
    pub memory: Memory,
    /// Its processors.
    #[serde(rename = "CPU")]
    pub cpus: Vec<Cpu>,
    /// The system on it.
    #[serde(rename = "Host")]
    pub system: System,
    /// The disk with the agent's data.
    pub disk: Disk,
    /// What could not be found out, and why.
    #[serde(skip)]
    pub errors: Vec<String>,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub struct Memory {
    /// All there is.
    pub total: u64,
    /// What programs could still get.
    pub available: u64,
    /// What programs have.
    pub used: u64,
    /// That as a part of all, in percent.
    #[serde(rename = "usedPercent")]
    pub used_percent: f64,
    /// What nobody has.
    pub free: u64,
    /// What was used lately.
    pub active: u64,
    /// What was not.
    pub inactive: u64,
    /// Blocks of disks.
    pub buffers: u64,
    /// Contents of files.
    pub cached: u64,
    /// What is to be written to disks.
    pub dirty: u64,
    /// What programs share.
    pub shared: u64,
    /// What the system itself has.
    pub slab: u64,
    /// Tables of pages.
    pub pagetables: u64,
    /// What programs were promised.
    pub committedas: u64,
    /// Room for what was moved to disk.
    pub swaptotal: u64,
    /// What is left of that.
    pub swapfree: u64,
}

/// A processor.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Its number.
    pub cpu: u32,
    /// Who makes it.
    pub vendor_id: String,
    /// Its family.
    pub family: String,
    /// Its model.
    pub model: String,
    /// Which version of that.
    pub stepping: i32,
    /// The socket it is in.
    pub physical_id: String,
    /// Its number in there.
    pub core_id: String,
    /// How many it is: one.
    pub cores: u32,
    /// What it is called.
    pub model_name: String,
    /// How fast, in millions a second.
    pub mhz: f64,
    /// Its cache, in KiB.
    pub cache_size: u32,
    /// What it can do.
    pub flags: Vec<String>,
    /// Its microcode.
    pub microcode: String,
}

/// A system.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    /// Its name.
    pub hostname: String,
    /// How long it has been running, in seconds.
    pub uptime: u64,
    /// Since when, in seconds since 1970.
    pub boot_time: u64,
    /// How many processes there are.
    pub procs: u64,
    /// Which kind, such as `linux`.
    pub os: String,
    /// Which distribution.
    pub platform: String,
    /// What that is made from.
    pub platform_family: String,
    /// Its version.
    pub platform_version: String,
    /// The version of its kernel.
    pub kernel_version: String,
    /// What the kernel was made for.
    pub kernel_arch: String,
    /// What tells the machine from others.
    pub hostid: String,
}

/// A file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// A place on it.
    pub path: String,
    /// What it is called.
    pub fstype: String,
    /// All there is.
    pub total: u64,
    /// What programs could still get.
    pub free: u64,
    /// What is taken.
    pub used: u64,
    /// That as a part of what programs can have, in percent.
    pub used_percent: f64,
    /// How many files there may be.
    pub inodes_total: u64,
    /// How many there are.
    pub inodes_used: u64,
    /// How many more there may be.
    pub inodes_free: u64,
    /// Those there are as a part of those there may be, in percent.
    pub inodes_used_percent: f64,
}

/// Tells of the machine.
pub(crate) async fn host(request: &Request<'_>) -> Result<Reply, Fault> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct View<'a> {
        #[serde(flatten)]
        host: &'a Host,
        /// In nanoseconds since 1970.
        collection_time: u64,
        errors: Option<&'a [String]>,
    }
    let host = request.api.agent.host().await;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let view = View {
        host: &host,
        collection_time: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        errors: (!host.errors.is_empty()).then_some(&host.errors),
    };
    Ok(request.json(&view, 4096 + 2048 * host.cpus.len()))
}
