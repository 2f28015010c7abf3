//! Programs that end with what they have started.
//!
//! A program is the leader of a process group of its own, which is killed when the program has ended, or nobody wants to know any more. So
//! nothing that it starts outlives it, unless it takes pains to, or is meant to.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::config::system_error;

/// How often a program is started that the system takes for one which is being written, and how long to wait in between. Programs that are
/// started by others at the same moment have the files that were just written open until they have begun.
const BUSY: (u32, Duration) = (20, Duration::from_millis(5));

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
    /// Blocks. `start` is asked again if the program's file is busy, and dropped once the program runs. Fails with what it says, or with
    /// `Interrupted`, without having started it, if the group was killed before.
    pub(crate) fn run(&self, start: impl FnMut() -> io::Result<Child>) -> io::Result<ExitStatus> {
        self.run_and(start, |group| {
            // Fails if there is nobody left.
            let _ = kill_process_group(group, Signal::KILL);
        })
    }

    /// The same, but what the program has left behind when it has ended goes on.
    pub(crate) fn run_and_leave(&self, start: impl FnMut() -> io::Result<Child>) -> io::Result<ExitStatus> {
        self.run_and(start, |_| {})
    }

    fn run_and(
        &self,
        start: impl FnMut() -> io::Result<Child>,
        end_rest: impl FnOnce(Pid),
    ) -> io::Result<ExitStatus> {
        let (tries, pause) = BUSY;
        let mut child = self.begin(start, tries, || thread::sleep(pause))?;
        let pid = Pid::from_child(&child);
        while let Err(rustix::io::Errno::INTR) =
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {}
        let mut life = self.lock();
        end_rest(pid);
        *life = Life::Over;
        child.wait()
    }

    /// Starts it, unless it was killed. Whoever wants to kill it waits for a try, and not for the pauses in between.
    fn begin(
        &self,
        mut start: impl FnMut() -> io::Result<Child>,
        tries: u32,
        pause: impl Fn(),
    ) -> io::Result<Child> {
        let mut left = tries;
        loop {
            let started = {
                let mut life = self.lock();
                if matches!(*life, Life::Over) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let started = start();
                if let Ok(child) = &started {
                    *life = Life::Running(Pid::from_child(child));
                }
                started
            };
            left = left.saturating_sub(1);
            match started {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && left > 0 => pause(),
                started => return started,
            }
        }
    }

    /// Ends it, or sees to it that it does not begin.
    pub(crate) fn kill(&self) {
        let mut life = self.lock();
        match *life {
            Life::Planned => *life = Life::Over,
            Life::Running(pid) => {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            Life::Over => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        // Sound after any step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    use std::cell::Cell;
    use std::process::Command;

    use super::*;

    fn busy() -> io::Result<Child> {
        Err(io::ErrorKind::ExecutableFileBusy.into())
    }

    #[test]
    fn a_program_that_is_busy_is_tried_again_and_may_be_killed_meanwhile() {
        let (tries, pauses) = (Cell::new(0), Cell::new(0));
        let start = |busy_for: u32| {
            tries.set(0);
            pauses.set(0);
            let tries = &tries;
            move || {
                tries.set(tries.get() + 1);
                if tries.get() <= busy_for {
                    return busy();
                }
                Command::new("true").spawn()
            }
        };
        let pause = || pauses.set(pauses.get() + 1);

        let group = Group::default();
        let mut child = group.begin(start(2), 5, pause).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!((tries.get(), pauses.get()), (3, 2));
        let error = Group::default().begin(start(9), 5, pause).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ExecutableFileBusy);
        assert_eq!((tries.get(), pauses.get()), (5, 4));

        let group = Group::default();
        let killed = group.begin(start(9), 5, || {
            assert!(group.0.try_lock().is_ok(), "nobody has to wait for the pause");
            group.kill();
        });
        assert_eq!(killed.unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert_eq!(tries.get(), 1);
    }

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
