//! One agent: a process, its log, and the way to its API.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use super::{Ran, Scene, eventually, holds};

/// A signal to a process, by the name that `kill` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Cont,
    Hup,
    Int,
    Kill,
    Stop,
    Term,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Cont => "-CONT",
            Self::Hup => "-HUP",
            Self::Int => "-INT",
            Self::Kill => "-KILL",
            Self::Stop => "-STOP",
            Self::Term => "-TERM",
        }
    }
}

/// The exit code of a server that was told to stop, and did not leave its cluster: supervisors are to start it again.
pub(crate) const STOPPED: Option<i32> = Some(1);

/// An agent that can be started, stopped, and started again with the same arguments. Killed when dropped.
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) ip: Ipv4Addr,
    command: Command,
    log: PathBuf,
    child: Option<Child>,
}

impl Agent {
    /// `lictor agent` with these arguments, on the address of host `host`. Not started.
    pub(crate) fn new(scene: &Scene, host: u8, arguments: &[&str]) -> Self {
        let (name, ip) = (format!("n{host}"), scene.ip(host));
        let text = ip.to_string();
        let mut all = vec!["agent", "-node", &name, "-bind", &text, "-client", &text];
        all.extend(arguments);
        Self {
            command: scene.command(&all),
            log: scene.path(format!("{name}.log")),
            name,
            ip,
            child: None,
        }
    }

    /// A started `-dev` agent that answers.
    pub(crate) fn dev(scene: &Scene, host: u8, arguments: &[&str]) -> Self {
        let mut all = vec!["-dev"];
        all.extend(arguments);
        let mut agent = Self::new(scene, host, &all);
        agent.start_and_lead();
        agent
    }

    /// Starts the process.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        self.command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(self.command.spawn().unwrap());
    }

    /// Starts the process and waits until it knows a leader.
    pub(crate) fn start_and_lead(&mut self) {
        self.start();
        self.wait_leader();
    }

    /// Waits until the API answers and names a leader.
    pub(crate) fn wait_leader(&mut self) {
        eventually(&format!("{} knows a leader", self.name), || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("{} ended: {status}\n{}", self.name, self.log());
            }
            let answer = self.try_call("GET", "/v1/status/leader", b"")?;
            holds(
                answer.status == 200 && answer.text() != "\"\"",
                format!("{} {}", answer.status, answer.text()),
            )
        });
    }

    /// Runs the agent to its end, for those that are not meant to run.
    pub(crate) fn run_to_end(&mut self) -> Ran {
        self.start();
        let code = self.wait().code();
        Ran {
            code,
            out: String::new(),
            err: self.log(),
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.child.is_some()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([signal.name(), &pid]).status().unwrap();
        assert!(sent.success(), "{signal:?} to {}", self.name);
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = eventually(&format!("{} ends", self.name), || {
            child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
        });
        self.child = None;
        status
    }

    /// Sends a signal that ends the process, and waits until it has.
    pub(crate) fn stop(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }

    /// Everything that it has said since the first start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log holds all of `words` in one line; returns the line.
    pub(crate) fn wait_log(&self, words: &[&str]) -> String {
        eventually(&format!("{} logs {words:?}", self.name), || {
            let log = self.log();
            let line = log
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned).ok_or_else(|| "it has not".to_owned())
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            show(&self.name, &self.log);
        }
    }
}

#[expect(clippy::print_stderr, reason = "the harness shows it with the failure")]
fn show(name: &str, log: &Path) {
    const SHOWN: usize = 60;
    let log = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(SHOWN)..];
    eprintln!("---- the log of {name}, its end ----\n{}", last.join("\n"));
}
