//! Programs that end with what they have started.
//!
//! A program is the leader of a process group of its own, which is killed when the program has ended, or nobody wants to know any more. So
//! nothing that it starts outlives it, unless it takes pains to, or is meant to.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::config::system_error;

/// A program and all that it starts.
#[derive(Debug, Default)]
pub(crate) struct Group(Mutex<Life>);

#[derive(Clone, Copy, Debug, Default)]
enum Life {
    /// Not started yet.
    #[default]
    Planned,
    /// The group's id is that of the program. It belongs to nobody else as long as the program was not waited for.
    Running(Pid),
    Over,
}

impl Group {
    /// Runs the program that `start` starts to its end, then ends what it has left behind. The program must be the leader of a new group.
    /// Blocks. Fails with what `start` says, or with `Interrupted`, without having started it, if the group was killed before.
    pub(crate) fn run(&self, start: impl FnOnce() -> io::Result<Child>) -> io::Result<ExitStatus> {
        self.run_and(start, |group| {
            // Fails if there is nobody left.
            let _ = kill_process_group(group, Signal::KILL);
        })
    }

    /// The same, but what the program has left behind when it has ended goes on.
    pub(crate) fn run_and_leave(&self, start: impl FnOnce() -> io::Result<Child>) -> io::Result<ExitStatus> {
        self.run_and(start, |_| {})
    }

    fn run_and(
        &self,
        start: impl FnOnce() -> io::Result<Child>,
        end_rest: impl FnOnce(Pid),
    ) -> io::Result<ExitStatus> {
        let mut child = {
            let mut life = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*life, Life::Over) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let child = start()?;
            *life = Life::Running(Pid::from_child(&child));
            child
        };
        let pid = Pid::from_child(&child);
        while let Err(rustix::io::Errno::INTR) =
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {}
        let mut life = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        end_rest(pid);
        *life = Life::Over;
        child.wait()
    }

    /// Ends it, or sees to it that it does not begin.
    pub(crate) fn kill(&self) {
        let mut life = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *life {
            Life::Planned => *life = Life::Over,
            Life::Running(pid) => {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            Life::Over => {}
        }
    }
}

/// Kills a group when nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct KillOnDrop(pub(crate) Arc<Group>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Why a program could not be started, for people.
pub(crate) fn not_started(program: &str, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound && !program.contains('/') {
        return format!("exec: {program:?}: executable file not found in $PATH");
    }
    format!("fork/exec {program}: {}", system_error(error))
}

#[cfg(test)]
pub(crate) mod testing {
    use std::path::Path;
    use std::time::{Duration, Instant};

    /// Far longer than anything takes that goes well.
    pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

    /// Waits until a process is no more, or is a zombie that nobody has waited for.
    pub(crate) fn gone(pid: &str) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            if stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    /// Waits until a file ends with a whole line.
    pub(crate) fn wait_for(file: &Path) -> String {
        let begun = Instant::now();
        loop {
            match std::fs::read_to_string(file) {
                Ok(text) if text.ends_with('\n') => return text,
                Ok(_) | Err(_) => assert!(begun.elapsed() < PATIENCE, "{} was never written", file.display()),
            }
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_that_was_not_started_yet_is_never_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("started");
        let group = Group::default();
        group.kill();
        let run = group.run(|| Command::new("touch").arg(&file).spawn());
        assert_eq!(run.unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert!(!file.exists());
    }
}
