//! Programs that commands start: how they are found, how they end, and how they are ended.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use lictor_agent::config::system_error;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::console::Console;

/// What reads a line of commands if `SHELL` does not say.
const SHELL: &str = "/bin/sh";

/// A program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    name: String,
    args: Vec<String>,
}

impl Program {
    /// What `words` mean: to a shell, whose line they are then, or by themselves. `None`: nothing.
    pub(crate) fn new(words: &[String], shell: bool, console: &Console<'_>) -> Option<Self> {
        let (first, rest) = words.split_first()?;
        Some(if shell {
            let name = (console.env)("SHELL").filter(|shell| !shell.is_empty());
            Self {
                name: name.unwrap_or_else(|| SHELL.to_owned()),
                args: vec!["-c".to_owned(), words.join(" ")],
            }
        } else {
            Self {
                name: first.clone(),
                args: rest.to_vec(),
            }
        })
    }

    /// The program, to be given an environment and streams.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.name);
        command.args(&self.args);
        command
    }

    /// Why it could not be started, for people.
    pub(crate) fn not_started(&self, error: &io::Error) -> String {
        let name = &self.name;
        if error.kind() == io::ErrorKind::NotFound && !name.contains('/') {
            return format!("exec: {name:?}: executable file not found in $PATH");
        }
        format!("fork/exec {name}: {}", system_error(error))
    }
}

/// A program that runs.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts `command`, and sends `ended` when it has ended.
    pub(crate) fn start<T: Send + 'static>(
        mut command: Command,
        pass_input: bool,
        tell: Sender<T>,
        ended: T,
    ) -> io::Result<Self> {
        command.stdin(if pass_input {
            Stdio::inherit()
        } else {
            Stdio::null()
        });
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        thread::spawn(move || {
            // It is not taken off the system's list: until somebody does, its number is nobody else's.
            while let Err(rustix::io::Errno::INTR) =
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            {}
            // Nobody may want to know any more.
            let _ = tell.send(ended);
        });
        Ok(Self { child })
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, which does nothing if it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits until it has ended, and says how; `Err`: not with success, in words.
    pub(crate) fn wait(mut self) -> Result<(), String> {
        describe(self.child.wait())
    }
}

/// How a program ended; `Err`: not with success, in words.
pub(crate) fn describe(ended: io::Result<ExitStatus>) -> Result<(), String> {
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(outcome(status)),
        Err(error) => Err(system_error(&error)),
    }
}

/// How a program ended that did not succeed.
fn outcome(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        return format!("exit status {code}");
    }
    let core = if status.core_dumped() {
        " (core dumped)"
    } else {
        ""
    };
    match status.signal() {
        Some(signal) => format!("signal: {}{core}", signal_name(signal)),
        None => status.to_string(),
    }
}

/// A signal in words, as Go has them.
fn signal_name(signal: i32) -> String {
    let name = match Signal::from_named_raw(signal) {
        Some(Signal::HUP) => "hangup",
        Some(Signal::INT) => "interrupt",
        Some(Signal::QUIT) => "quit",
        Some(Signal::ILL) => "illegal instruction",
        Some(Signal::TRAP) => "trace/breakpoint trap",
        Some(Signal::ABORT) => "aborted",
        Some(Signal::BUS) => "bus error",
        Some(Signal::FPE) => "floating point exception",
        Some(Signal::KILL) => "killed",
        Some(Signal::USR1) => "user defined signal 1",
        Some(Signal::SEGV) => "segmentation fault",
        Some(Signal::USR2) => "user defined signal 2",
        Some(Signal::PIPE) => "broken pipe",
        Some(Signal::ALARM) => "alarm clock",
        Some(Signal::TERM) => "terminated",
        Some(_) | None => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn program(words: &[&str]) -> Program {
        Program {
            name: words[0].to_owned(),
            args: words[1..].iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    #[test]
    fn how_programs_end() {
        for (script, wanted) in [
            ("exit 0", Ok(())),
            ("exit 7", Err("exit status 7")),
            ("kill -9 $$", Err("signal: killed")),
            ("kill -USR1 $$", Err("signal: user defined signal 1")),
        ] {
            let (tell, ended) = channel();
            let command = program(&["sh", "-c", script]).command();
            let running = Running::start(command, false, tell, 5).unwrap();
            assert_eq!(ended.recv_timeout(PATIENCE), Ok(5));
            assert_eq!(running.wait(), wanted.map_err(str::to_owned), "{script}");
        }
    }

    #[test]
    fn a_program_is_told_to_end() {
        let (tell, ended) = channel();
        let running = Running::start(program(&["sleep", "1000"]).command(), false, tell, ()).unwrap();
        running.signal(Signal::TERM);
        assert_eq!(ended.recv_timeout(PATIENCE), Ok(()));
        // It is not gone yet, so the number is still its own.
        running.signal(Signal::KILL);
        assert_eq!(running.wait(), Err("signal: terminated".to_owned()));
    }

    #[test]
    fn programs_that_cannot_be_started() {
        for (name, wanted) in [
            (
                "no-such-program",
                "exec: \"no-such-program\": executable file not found in $PATH",
            ),
            ("/no/such", "fork/exec /no/such: no such file or directory"),
            ("/", "fork/exec /: permission denied"),
        ] {
            let program = program(&[name]);
            let error = program.command().spawn().unwrap_err();
            assert_eq!(program.not_started(&error), wanted);
        }
    }
}
