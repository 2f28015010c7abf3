//! A program that runs for others: what it says, piece by piece, and how it ends.

use std::future::pending;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use blocking::Task;
use futures_lite::{AsyncReadExt as _, FutureExt as _};
use rustix::io::Errno;
use tempfile::TempPath;

use crate::config::system_error;
use crate::process_group::{Group, KillOnDrop, not_started};

/// The most bytes of a piece of output.
pub(super) const PIECE: usize = 4096;

/// How long the beginning of a piece waits for more.
const LINGER: Duration = Duration::from_millis(500);

/// How much is read after the program has ended: more than a pipe holds. Somebody may still be writing.
const REST: usize = 1 << 20;

/// What reads a line of commands if `SHELL` does not say.
const SHELL: &str = "/bin/sh";

/// The exit code of a program that was ended by a signal.
const BY_SIGNAL: i32 = -1;

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// A line that a shell reads.
    Line(String),
    /// A program and its arguments; not empty.
    Words(Vec<String>),
    /// The content of a file that is a program.
    Script(Vec<u8>),
}

/// What happens to a program.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It said this: at least a byte, and at most [`PIECE`] bytes.
    Said(Vec<u8>),
    /// It has said nothing for as long as one was willing to wait.
    Quiet,
    /// It has ended with this exit code, or could not be started, for this reason. There is no other news after this.
    Ended(Result<i32, String>),
}

/// A program that runs. Dropping it kills the program with all that it has started.
#[derive(Debug)]
pub(super) struct Run {
    exit: Task<Result<i32, String>>,
    ended: Option<Result<i32, String>>,
    pipe: Async<PipeReader>,
    /// Whether somebody may write into the pipe.
    open: bool,
    /// How much is read at most after the end.
    rest: usize,
    /// What was read and not given away.
    output: Vec<u8>,
    scratch: Box<[u8; PIECE]>,
    _group: KillOnDrop,
}

impl Run {
    /// Starts a program, with nothing on its standard input. That it cannot be started is news of it.
    pub(super) fn start(program: Program) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let group = Arc::new(Group::default());
        let kill = KillOnDrop(Arc::clone(&group));
        Ok(Self {
            exit: blocking::unblock(move || run_to_end(&program, writer, &group)),
            ended: None,
            pipe: Async::new(reader)?,
            open: true,
            rest: REST,
            output: Vec::new(),
            scratch: Box::new([0; PIECE]),
            _group: kill,
        })
    }

    /// Waits for news, but no longer than `patience`. Nothing is lost if this future is dropped.
    pub(super) async fn next(&mut self, patience: Duration) -> News {
        let quiet = self.output.is_empty();
        let mut until = Instant::now() + if quiet { patience } else { LINGER };
        loop {
            if let Some(ended) = &self.ended {
                let ended = ended.clone();
                self.read_rest();
                return self.piece().map_or(News::Ended(ended), News::Said);
            }
            if self.output.len() == PIECE {
                return self.piece().map_or(News::Quiet, News::Said);
            }
            match self.wait(until).await {
                Woken::Read(0) => self.open = false,
                Woken::Read(read) => {
                    if self.output.is_empty() {
                        until = Instant::now() + LINGER;
                    }
                    self.output.extend_from_slice(&self.scratch[..read]);
                }
                Woken::Ended(ended) => self.ended = Some(ended),
                Woken::TimeOver => return self.piece().map_or(News::Quiet, News::Said),
            }
        }
    }

    async fn wait(&mut self, until: Instant) -> Woken {
        let Self {
            exit,
            pipe,
            open,
            output,
            scratch,
            ..
        } = self;
        let ended = async { Woken::Ended(exit.await) };
        let read = async {
            if !*open {
                return pending().await;
            }
            // What cannot be read any more has come to its end.
            let read = pipe.read(&mut scratch[..PIECE - output.len()]).await;
            Woken::Read(read.unwrap_or(0))
        };
        let over = async {
            Timer::at(until).await;
            Woken::TimeOver
        };
        // In this order: somebody may go on writing after the end.
        ended.or(read).or(over).await
    }

    /// Reads what is there, and waits for nothing.
    fn read_rest(&mut self) {
        while self.rest > 0 && self.output.len() < PIECE {
            let room = self.rest.min(PIECE - self.output.len());
            match self.pipe.get_ref().read(&mut self.scratch[..room]) {
                Ok(read) if read > 0 => {
                    self.rest -= read;
                    self.output.extend_from_slice(&self.scratch[..read]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => self.rest = 0,
            }
        }
    }

    /// What is to be given away next: whole lines, if there is too much for one piece.
    fn piece(&mut self) -> Option<Vec<u8>> {
        if self.output.is_empty() {
            return None;
        }
        let line_end = self.output.iter().rposition(|byte| *byte == b'\n');
        let end = match line_end {
            Some(at) if self.output.len() == PIECE => at + 1,
            Some(_) | None => self.output.len(),
        };
        let rest = self.output.split_off(end);
        Some(std::mem::replace(&mut self.output, rest))
    }
}

/// Why a wait is over.
enum Woken {
    Read(usize),
    Ended(Result<i32, String>),
    TimeOver,
}

/// Runs a program to its end, and says with which code it has ended, or why it could not be started.
fn run_to_end(program: &Program, output: PipeWriter, group: &Group) -> Result<i32, String> {
    let shell = || {
        let named = std::env::var("SHELL").ok().filter(|shell| !shell.is_empty());
        named.unwrap_or_else(|| SHELL.to_owned())
    };
    // A script's file is there until the script has ended.
    let (name, mut command, script) = match program {
        Program::Line(line) => {
            let shell = shell();
            let mut command = Command::new(&shell);
            command.args(["-c", line]);
            (shell, command, None)
        }
        Program::Words(words) => {
            let name = words.first().cloned().unwrap_or_default();
            let mut command = Command::new(&name);
            command.args(words.iter().skip(1));
            (name, command, None)
        }
        Program::Script(content) => {
            let path = write_script(content)
                .map_err(|error| format!("cannot write the script to a file: {}", system_error(&error)))?;
            (path.display().to_string(), Command::new(&path), Some(path))
        }
    };
    let script = script.as_deref();
    // It holds the pipe open, and is dropped when the program runs.
    let start = move || {
        let started = attach(&mut command, &output).and_then(|()| command.spawn());
        match (started, script) {
            (Err(error), Some(path)) if Errno::from_io_error(&error) == Some(Errno::NOEXEC) => {
                // It does not say what reads it.
                let mut command = Command::new(SHELL);
                command.arg(path);
                attach(&mut command, &output)?;
                command.spawn()
            }
            (started, _) => started,
        }
    };
    match group.run(start) {
        Ok(status) => Ok(code(status)),
        Err(error) => Err(not_started(&name, &error)),
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(BY_SIGNAL)
}

/// Lets a program write all it says into one pipe, in the order in which it is said, and lead a group.
fn attach(command: &mut Command, output: &PipeWriter) -> io::Result<()> {
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0);
    Ok(())
}

/// Writes a script into a file that only this user can read, and run. It is removed when the path is dropped.
fn write_script(content: &[u8]) -> io::Result<TempPath> {
    let mut file = tempfile::Builder::new().prefix("lictor-exec-").tempfile()?;
    file.write_all(content)?;
    let permissions = std::fs::Permissions::from_mode(0o700);
    file.as_file().set_permissions(permissions)?;
    Ok(file.into_temp_path())
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::process_group::testing::{PATIENCE, gone, wait_for};

    fn line(text: &str) -> Program {
        Program::Line(text.to_owned())
    }

    fn words(words: &[&str]) -> Program {
        Program::Words(words.iter().map(|word| (*word).to_owned()).collect())
    }

    /// All that a program says, and how it ends.
    fn run(program: Program) -> (String, Result<i32, String>) {
        let mut run = Run::start(program).unwrap();
        let mut said = Vec::new();
        loop {
            match block_on(run.next(PATIENCE)) {
                News::Said(piece) => {
                    assert!((1..=PIECE).contains(&piece.len()));
                    said.extend(piece);
                }
                News::Quiet => panic!("it hangs after {said:?}"),
                News::Ended(how) => return (String::from_utf8(said).unwrap(), how),
            }
        }
    }

    #[test]
    fn all_kinds_of_programs_are_run() {
        for (program, said, code) in [
            (
                line("echo a; echo b >&2; read x || echo none; exit 3"),
                "a\nb\nnone\n",
                3,
            ),
            (line("true"), "", 0),
            (line("kill -9 $$"), "", -1),
            (words(&["printf", "%s|", "a b", "$HOME;"]), "a b|$HOME;|", 0),
            (Program::Script(b"echo $1-; exit 4".to_vec()), "-\n", 4),
            (
                Program::Script(b"#!/bin/cat\nas it is\n".to_vec()),
                "#!/bin/cat\nas it is\n",
                0,
            ),
        ] {
            assert_eq!(run(program.clone()), (said.to_owned(), Ok(code)), "{program:?}");
        }
    }

    #[test]
    fn a_script_is_gone_when_it_has_ended() {
        let (path, how) = run(Program::Script(b"#!/bin/sh\necho $0".to_vec()));
        assert_eq!(how, Ok(0));
        assert!(path.contains("/lictor-exec-"), "{path}");
        assert!(!std::path::Path::new(path.trim()).exists());
    }

    #[test]
    fn why_a_program_cannot_be_started_is_said() {
        for (program, why) in [
            (
                words(&["no-such-program"]),
                "exec: \"no-such-program\": executable file not found in $PATH",
            ),
            (
                words(&["/no/such", "x"]),
                "fork/exec /no/such: no such file or directory",
            ),
            (words(&["/"]), "fork/exec /: permission denied"),
        ] {
            assert_eq!(run(program), (String::new(), Err(why.to_owned())));
        }
        let (said, how) = run(Program::Script(b"#!/no/such\n".to_vec()));
        assert_eq!(said, "");
        assert!(how.unwrap_err().ends_with(": no such file or directory"));
    }

    #[test]
    fn much_output_comes_in_pieces_of_whole_lines() {
        let mut run = Run::start(line(
            "i=0; while test $i -lt 2000; do echo line $i; i=$((i+1)); done",
        ))
        .unwrap();
        let mut said = Vec::new();
        loop {
            match block_on(run.next(PATIENCE)) {
                News::Said(piece) => {
                    assert!(piece.len() <= PIECE);
                    assert_eq!(piece.last(), Some(&b'\n'));
                    said.extend(piece);
                }
                News::Quiet => panic!("it hangs"),
                News::Ended(how) => break assert_eq!(how, Ok(0)),
            }
        }
        let wanted: Vec<String> = (0..2000).map(|number| format!("line {number}\n")).collect();
        assert_eq!(String::from_utf8(said).unwrap(), wanted.concat());
    }

    #[test]
    fn lines_that_are_longer_than_a_piece_are_cut() {
        let (said, how) = run(line("head -c 10000 /dev/zero | tr '\\0' x"));
        assert_eq!((said, how), ("x".repeat(10_000), Ok(0)));
    }

    #[test]
    fn what_is_said_is_passed_on_while_the_program_runs_and_silence_is_news() {
        let dir = tempfile::tempdir().unwrap();
        let go = dir.path().join("go");
        let script = format!("echo said; until test -e '{}'; do sleep 0.05; done", go.display());
        let mut run = Run::start(line(&script)).unwrap();
        assert_eq!(block_on(run.next(PATIENCE)), News::Said(b"said\n".to_vec()));
        assert_eq!(block_on(run.next(Duration::from_millis(1))), News::Quiet);
        assert_eq!(block_on(run.next(Duration::from_millis(1))), News::Quiet);
        std::fs::write(&go, "").unwrap();
        for _ in 0..2 {
            assert_eq!(block_on(run.next(PATIENCE)), News::Ended(Ok(0)));
        }
    }

    #[test]
    fn a_program_that_closes_its_output_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let go = dir.path().join("go");
        let script = format!(
            "exec >&- 2>&-; until test -e '{}'; do sleep 0.05; done; exit 5",
            go.display()
        );
        let mut run = Run::start(line(&script)).unwrap();
        assert_eq!(block_on(run.next(Duration::from_millis(100))), News::Quiet);
        std::fs::write(&go, "").unwrap();
        assert_eq!(block_on(run.next(PATIENCE)), News::Ended(Ok(5)));
    }

    #[test]
    fn what_a_program_leaves_behind_is_killed_and_not_waited_for() {
        let (child, how) = run(line("sleep 1000 & echo $!"));
        assert_eq!(how, Ok(0));
        assert!(gone(&child));
    }

    #[test]
    fn a_program_that_is_dropped_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        let script = format!("sleep 1000 & echo $$ $! > '{}'; wait", file.display());
        let mut run = Run::start(line(&script)).unwrap();
        assert_eq!(block_on(poll_once(run.next(PATIENCE))), None);
        let pids = wait_for(&file);
        drop(run);
        assert_eq!(pids.split_whitespace().count(), 2);
        assert!(pids.split_whitespace().all(gone));
    }
}
