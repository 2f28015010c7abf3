//! Programs that say by their exit code how well something is.
//!
//! Each runs in a process group of its own, which is killed when its time is over, too: see [`crate::process_group`].

use std::future::pending;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_io::{Async, Timer};
use futures_lite::FutureExt as _;
use lictor_catalog::Status;

use super::Outcome;
use super::tail::Tail;
use super::text::{duration, reason};
use crate::process_group::{Group, KillOnDrop, not_started};

/// Runs a program, and kills it with all that it has started when the time is over, or when this future is dropped.
pub(super) async fn probe(args: &[String], timeout: Duration, output_max: usize) -> Outcome {
    let Some((program, args)) = args.split_first() else {
        return Outcome::critical("a script check needs the name of a program in Args");
    };
    let (mut command, pipe) = match prepare(program, args) {
        Ok(prepared) => prepared,
        Err(error) => return Outcome::critical(format!("fork/exec {program}: {}", reason(&error))),
    };
    let group = Arc::new(Group::default());
    let kill = KillOnDrop(Arc::clone(&group));
    let mut exit = blocking::unblock(move || group.run(move || command.spawn()));
    let mut output = Tail::new(output_max);
    let ended = async { Some((&mut exit).await) };
    let over = async {
        Timer::after(timeout).await;
        None
    };
    let read = async {
        output.read_all(&pipe).await;
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
        Err(error) => Outcome::critical(not_started(program, &error)),
        Ok(status) => {
            output.read_rest(&pipe);
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

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::process_group::testing::{PATIENCE, gone, wait_for};

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
}
