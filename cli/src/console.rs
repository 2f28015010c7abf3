//! What a command may touch: its streams and its environment, so that tests can hand in their own.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::Sender;

/// A command's surroundings.
pub(crate) struct Console<'a> {
    /// Standard input.
    pub(crate) input: &'a mut dyn Read,
    /// Standard output: what the command was asked for.
    pub(crate) out: &'a mut dyn Write,
    /// Standard error: what went wrong, and remarks.
    pub(crate) err: &'a mut dyn Write,
    /// The environment variables.
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
    /// Where files are made that have no path.
    pub(crate) directory: &'a Path,
    /// Makes an interruption from now on the way in which the command ends with success.
    pub(crate) succeed_on_interrupt: &'a dyn Fn(),
    /// Makes SIGINT and SIGTERM from now on be said to the command, by their numbers, and end nothing.
    pub(crate) hear_interrupts: &'a dyn Fn(Sender<i32>),
}

/// Why a command did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What to tell the user, without a line end. Empty: nothing more.
    pub(crate) message: String,
    /// Whether the command's help should follow the message.
    pub(crate) show_help: bool,
    /// The exit code.
    pub(crate) code: u8,
}

impl Failure {
    /// A failure that is explained by `message`.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            show_help: false,
            code: 1,
        }
    }

    /// A failure of which all is said, or which scripts tell by its exit code.
    pub(crate) fn silent(code: u8) -> Self {
        Self {
            message: String::new(),
            show_help: false,
            code,
        }
    }

    /// The command was called in a wrong way: its help follows.
    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            show_help: true,
            code: 1,
        }
    }
}

impl From<io::Error> for Failure {
    /// Writing the output failed. A closed pipe is the reader's wish and needs no words.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(1);
        }
        Self::new(format!(
            "Error! Failed to write the output: {}",
            lictor_agent::config::system_error(&error)
        ))
    }
}

impl Console<'_> {
    /// Writes one line of output.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Writes one line to standard error. That nobody reads it is no reason to fail.
    pub(crate) fn remark(&mut self, text: impl Display) {
        let _ = writeln!(self.err, "{text}");
    }

    /// An environment variable by its name without product prefix: `LICTOR_x`, else `CONSUL_x`. Empty counts as unset.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        ["LICTOR_", "CONSUL_"]
            .into_iter()
            .find_map(|prefix| (self.env)(&format!("{prefix}{name}")).filter(|value| !value.is_empty()))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::path::Path;

    use super::Console;

    /// What a command line did.
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) struct Ran {
        pub(crate) code: u8,
        pub(crate) out: String,
        pub(crate) err: String,
    }

    impl Ran {
        /// A success that printed `out`.
        pub(crate) fn ok(out: impl Into<String>) -> Self {
            Self {
                code: 0,
                out: out.into(),
                err: String::new(),
            }
        }

        /// A failure that was explained by the line `err`.
        pub(crate) fn error(err: &str) -> Self {
            Self {
                code: 1,
                out: String::new(),
                err: format!("{err}\n"),
            }
        }
    }

    /// Runs a whole command line, given without the program's name.
    pub(crate) fn run(line: &[&str]) -> Ran {
        run_with(line, b"", &[])
    }

    /// The same with standard input and environment variables.
    pub(crate) fn run_with(line: &[&str], input: &[u8], variables: &[(&str, &str)]) -> Ran {
        start(line, input, variables, Path::new("."))
    }

    /// The same in another directory.
    pub(crate) fn run_in(directory: &Path, line: &[&str]) -> Ran {
        start(line, b"", &[], directory)
    }

    fn start(line: &[&str], mut input: &[u8], variables: &[(&str, &str)], directory: &Path) -> Ran {
        let argv: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let env = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let mut console = Console {
            input: &mut input,
            out: &mut out,
            err: &mut err,
            env: &env,
            directory,
            succeed_on_interrupt: &|| {},
            hear_interrupts: &|_| {},
        };
        let code = crate::command::run(&argv, &mut console);
        Ran {
            code,
            out: String::from_utf8(out).unwrap(),
            err: String::from_utf8(err).unwrap(),
        }
    }
}
