//! What the tests need to run agents: a place for their files, addresses of their own, and patience.

mod agent;
mod cluster;
mod http;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) use agent::{Agent, STOPPED, Signal};
pub(crate) use cluster::Cluster;
pub(crate) use http::Modes;

/// Far longer than anything takes that goes well, on the slowest of machines.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How long to rest between two looks at something that has not happened yet.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What one test owns: a directory, and the addresses 127.77.N.1 to 127.77.N.254 for some N.
pub(crate) struct Scene {
    dir: TempDir,
    net: u8,
    /// Bound as long as this lives: no other scene, of any process, has the same N.
    _claim: TcpListener,
}

impl Scene {
    pub(crate) fn new() -> Self {
        const CLAIM_PORT: u16 = 7777;
        let first = std::process::id();
        let (net, claim) = (0..=255)
            .map(|step| first.wrapping_add(step) as u8)
            .find_map(|net| {
                let claim = TcpListener::bind((Ipv4Addr::new(127, 77, net, 255), CLAIM_PORT));
                Some((net, claim.ok()?))
            })
            .expect("one of 256 networks is free");
        Self {
            dir: tempfile::tempdir().unwrap(),
            net,
            _claim: claim,
        }
    }

    /// The address of host `host`.
    pub(crate) const fn ip(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 77, self.net, host)
    }

    /// A path in the scene's directory.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file; returns its path as text.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// The binary with these arguments, in the scene's directory, in an environment that knows nothing of the user.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lictor"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with_input(arguments, "")
    }

    /// Runs a command to its end, with this on its standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        use std::io::Write as _;
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One who does not read what is said to it closes its end.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ran::from(child.wait_with_output().unwrap())
    }
}

/// How a command went.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Standard output of a command that must have gone well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.err, "", "{self:?}");
        self.out
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Looks until there is something to see. Panics with the last reason why not when patience ends.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(reason) if Instant::now() > deadline => panic!("not within {PATIENCE:?}: {what}: {reason}"),
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

/// Whether something holds, as [`eventually`] wants to know it.
pub(crate) fn holds(condition: bool, otherwise: impl Into<String>) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise.into()) }
}
