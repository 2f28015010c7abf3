//! Programs that say by their exit code how well something is.
//!
//! Each runs in a process group of its own, which is killed when the program has ended, or its time is over, or nobody wants to know
//! any more: nothing that a check starts outlives it, unless it takes pains to.

use std::future::pending;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt as _, FutureExt as _};
use lictor_catalog::Status;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::Outcome;
use super::tail::Tail;
use super::text::{duration, reason};

/// How much is read at once.
const PIECE: usize = 16 * 1024;

/// How many pieces are read after the program has ended: more than a pipe holds. Somebody may still be writing.
const LAST_PIECES: usize = 64;

/// Runs a program, and kills it with all that it has started when the time is over, or when this future is dropped.
pub(super) async fn probe(args: &[String], timeout: Duration, output_max: usize) -> Outcome {
    let Some((program, args)) = args.split_first() else {
        return Outcome::critical("a script check needs the name of a program in Args");
    };
    let (command, pipe) = match prepare(program, args) {
        Ok(prepared) => prepared,
        Err(error) => return Outcome::critical(format!("fork/exec {program}: {}", reason(&error))),
    };
    let group = Arc::new(Group::default());
    let kill = KillOnDrop(Arc::clone(&group));
    let mut exit = blocking::unblock(move || group.run(command));
    let mut output = Tail::new(output_max);
    let ended = async { Some((&mut exit).await) };
    let over = async {
        Timer::after(timeout).await;
        None
    };
    let read = async {
        read_all(&pipe, &mut output).await;
        pending().await
    };
    let ended = ended.or(over).or(read).await;
    let timed_out = ended.is_none();
    let ended = if let Some(ended) = ended {
        ended
    } else {
        kill.0.kill();
        exit.await
    };
    match ended {
        Err(error) => Outcome::critical(not_run(program, &error)),
        Ok(status) => {
            read_rest(&pipe, &mut output);
            let output = output.into_text();
            if timed_out {
                let timeout = duration(timeout);
                return Outcome::critical(format!("Timed out ({timeout}) running check\n\n{output}"));
            }
            Outcome {
                status: meaning(status),
                output,
            }
        }
    }
}

/// What an exit code says.
pub(super) fn meaning_of_code(code: Option<i64>) -> Status {
    match code {
        Some(0) => Status::Passing,
        Some(1) => Status::Warning,
        Some(_) | None => Status::Critical,
    }
}

fn meaning(status: ExitStatus) -> Status {
    meaning_of_code(status.code().map(i64::from))
}

/// A command that writes all it says into one pipe, in the order in which it is said.
fn prepare(program: &str, args: &[String]) -> io::Result<(Command, Async<io::PipeReader>)> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    Ok((command, Async::new(reader)?))
}

fn not_run(program: &str, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound && !program.contains('/') {
        return format!("exec: {program:?}: executable file not found in $PATH");
    }
    format!("fork/exec {program}: {}", reason(error))
}

/// Reads until nobody can write any more.
async fn read_all(mut pipe: &Async<io::PipeReader>, output: &mut Tail) {
    let mut piece = vec![0; PIECE];
    while let Ok(read) = pipe.read(&mut piece).await {
        if read == 0 {
            return;
        }
        output.push(&piece[..read]);
    }
}

/// Reads what is there, and waits for nothing.
fn read_rest(pipe: &Async<io::PipeReader>, output: &mut Tail) {
    let mut piece = vec![0; PIECE];
    for _ in 0..LAST_PIECES {
        match pipe.get_ref().read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(read) => output.push(&piece[..read]),
        }
    }
}

/// A program and all that it starts.
#[derive(Debug, Default)]
struct Group(Mutex<Life>);

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
    /// Runs the program to its end, then ends what it has left behind.
    fn run(&self, mut command: Command) -> io::Result<ExitStatus> {
        let mut child = {
            let mut life = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*life, Life::Over) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let child = command.spawn()?;
            *life = Life::Running(Pid::from_child(&child));
            child
        };
        // It holds the pipe open.
        drop(command);
        let pid = Pid::from_child(&child);
        while let Err(rustix::io::Errno::INTR) =
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {}
        let mut life = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Fails if there is nobody left.
        let _ = kill_process_group(pid, Signal::KILL);
        *life = Life::Over;
        child.wait()
    }

    /// Ends it, or sees to it that it does not begin.
    fn kill(&self) {
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
struct KillOnDrop(Arc<Group>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    /// Far longer than anything takes that goes well.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn run(script: &str, timeout: Duration, output_max: usize) -> Outcome {
        let args = ["sh", "-c", script].map(str::to_owned);
        block_on(probe(&args, timeout, output_max))
    }

    fn outcome(status: Status, output: &str) -> Outcome {
        Outcome {
            status,
            output: output.to_owned(),
        }
    }

    /// Waits until a process is no more, or is a zombie that nobody has waited for.
    fn gone(pid: &str) -> bool {
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

    fn wait_for(file: &Path) -> String {
        let begun = Instant::now();
        loop {
            match std::fs::read_to_string(file) {
                Ok(text) if text.ends_with('\n') => return text,
                Ok(_) | Err(_) => assert!(begun.elapsed() < PATIENCE, "{} was never written", file.display()),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_exit_code_says_how_it_is() {
        let cases = [
            ("echo fine", Status::Passing, "fine\n"),
            ("echo so so; exit 1", Status::Warning, "so so\n"),
            ("echo bad; exit 2", Status::Critical, "bad\n"),
            ("echo killed; kill -9 $$", Status::Critical, "killed\n"),
        ];
        for (script, status, output) in cases {
            assert_eq!(run(script, PATIENCE, 4096), outcome(status, output));
        }
    }

    #[test]
    fn both_outputs_are_read_in_the_order_in_which_they_are_written() {
        let found = run(
            "echo 1; echo 2 >&2; echo 3; read line || echo no input",
            PATIENCE,
            4096,
        );
        assert_eq!(found, outcome(Status::Passing, "1\n2\n3\nno input\n"));
    }

    #[test]
    fn arguments_are_not_read_by_a_shell() {
        let args = ["printf", "%s|", "a b", "$HOME;"].map(str::to_owned);
        let found = block_on(probe(&args, PATIENCE, 4096));
        assert_eq!(found, outcome(Status::Passing, "a b|$HOME;|"));
    }

    #[test]
    fn of_a_flood_only_the_end_is_kept() {
        let found = run(
            "head -c 10000000 /dev/zero | tr '\\0' x; printf end",
            PATIENCE,
            10,
        );
        let output = "Captured 10 of 10000003 bytes\n...\n\nxxxxxxxend";
        assert_eq!(found, outcome(Status::Passing, output));
    }

    #[test]
    fn a_program_that_cannot_be_run_is_critical() {
        let cases: [(&[&str], &str); 4] = [
            (
                &["no-such-program"],
                "exec: \"no-such-program\": executable file not found in $PATH",
            ),
            (
                &["/no/such", "x"],
                "fork/exec /no/such: no such file or directory",
            ),
            (&["/"], "fork/exec /: permission denied"),
            (&[], "a script check needs the name of a program in Args"),
        ];
        for (args, output) in cases {
            let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
            assert_eq!(
                block_on(probe(&args, PATIENCE, 4096)),
                outcome(Status::Critical, output)
            );
        }
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        let script = format!("sleep 1000 & echo $$ $! > {}; echo said; wait", file.display());
        let found = run(&script, Duration::from_secs(8), 4096);
        assert_eq!(
            found,
            outcome(Status::Critical, "Timed out (8s) running check\n\nsaid\n")
        );
        let pids = wait_for(&file);
        assert_eq!(pids.split_whitespace().count(), 2);
        assert!(pids.split_whitespace().all(gone));
    }

    #[test]
    fn what_a_program_leaves_behind_is_killed_and_not_waited_for() {
        let found = run("sleep 1000 & echo $!", PATIENCE, 4096);
        assert_eq!(found.status, Status::Passing);
        assert!(gone(&found.output));
    }

    #[test]
    fn a_program_that_nobody_waits_for_any_more_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        let args = [
            "sh",
            "-c",
            &format!("sleep 1000 & echo $$ $! > {}; wait", file.display()),
        ]
        .map(str::to_owned);
        let mut running = Box::pin(probe(&args, PATIENCE, 4096));
        assert_eq!(block_on(poll_once(&mut running)), None);
        let pids = wait_for(&file);
        drop(running);
        assert!(pids.split_whitespace().all(gone));
    }

    #[test]
    fn a_program_that_was_not_started_yet_is_never_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("started");
        let group = Group::default();
        group.kill();
        let mut command = Command::new("touch");
        command.arg(&file);
        assert_eq!(group.run(command).unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert!(!file.exists());
    }
}
