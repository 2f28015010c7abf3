//! The tree of commands, and how a command line finds its way through it.

use crate::console::{Console, Failure};
use crate::flags::{Args, Flag};
use crate::help;
use crate::suggest;

/// A command, or a group of them.
pub(crate) struct Command {
    /// How it is called.
    pub(crate) name: &'static str,
    /// One line for the list of the group it is in.
    pub(crate) summary: &'static str,
    /// What follows the command's name in its usage line.
    pub(crate) usage: &'static str,
    /// The body of its help.
    pub(crate) about: &'static str,
    /// What it does.
    pub(crate) action: Action,
}

/// What a command does.
pub(crate) enum Action {
    /// It leads to others. The second list: names that are known but not built.
    Group(&'static [Command], &'static [&'static str]),
    /// It does something itself.
    Run {
        /// Its flags, by topic.
        flags: &'static [Topic],
        /// Flags that are known but not built.
        not_yet: &'static [&'static str],
        /// The deed.
        run: fn(&Args, &mut Console<'_>) -> Result<(), Failure>,
    },
}

/// Flags that belong together.
pub(crate) struct Topic {
    /// The heading.
    pub(crate) title: &'static str,
    /// The flags, in the order of the help.
    pub(crate) flags: &'static [Flag],
}

/// All of them.
pub(crate) static ROOT: Command = Command {
    name: "lictor",
    summary: "",
    usage: "[--version] [--help] <command> [<args>]",
    about: "",
    action: Action::Group(
        &[
            crate::agent::COMMAND,
            crate::catalog::COMMAND,
            crate::event::COMMAND,
            crate::exec::COMMAND,
            crate::force_leave::COMMAND,
            crate::info::COMMAND,
            crate::join::COMMAND,
            crate::keygen::COMMAND,
            crate::kv::COMMAND,
            crate::leave::COMMAND,
            crate::lock::COMMAND,
            crate::maint::COMMAND,
            crate::members::COMMAND,
            crate::monitor::COMMAND,
            crate::operator::COMMAND,
            crate::reload::COMMAND,
            crate::rtt::COMMAND,
            crate::services::COMMAND,
            crate::snapshot::COMMAND,
            crate::tls::COMMAND,
            crate::validate::COMMAND,
            crate::version::COMMAND,
            crate::watch::COMMAND,
        ],
        &[
            "acl",
            "config",
            "connect",
            "debug",
            "intention",
            "keyring",
            "login",
            "logout",
            "peering",
            "resource",
            "troubleshoot",
        ],
    ),
};

/// Runs the command line `argv`, given without the program's name, and returns the exit code.
pub(crate) fn run(argv: &[String], console: &mut Console<'_>) -> u8 {
    let words: Vec<String>;
    let (mut rest, wants_help) = match without_help(argv) {
        Some(remaining) => {
            words = remaining;
            (&words[..], true)
        }
        None => (argv, false),
    };
    if matches!(
        rest.first().map(String::as_str),
        Some("-v" | "-version" | "--version")
    ) {
        return finish(crate::version::print(console), "", console);
    }
    let mut path = String::from(ROOT.name);
    let mut command = &ROOT;
    while let Action::Group(children, not_yet) = &command.action {
        let Some(child) = rest
            .first()
            .and_then(|name| children.iter().find(|child| child.name == name))
        else {
            return misdirected(
                command,
                children,
                &path,
                not_yet,
                rest.first(),
                wants_help,
                console,
            );
        };
        path = format!("{path} {}", child.name);
        command = child;
        rest = &rest[1..];
    }
    let Action::Run { flags, not_yet, run } = &command.action else {
        unreachable!("the loop above ends at a command that is not a group")
    };
    let help = help::of(command, &path);
    if wants_help {
        return finish(console.line(help), "", console);
    }
    let known = flags.iter().flat_map(|topic| topic.flags);
    let result = match Args::parse(known, not_yet, rest) {
        Ok(args) => run(&args, console),
        Err(message) => Err(Failure::misuse(message)),
    };
    finish(result, &help, console)
}

/// If help is asked for, the words that remain without the request.
fn without_help(argv: &[String]) -> Option<Vec<String>> {
    let end = argv.iter().position(|word| word == "--").unwrap_or(argv.len());
    let is_help = |word: &&String| matches!(word.as_str(), "-h" | "-help" | "--help");
    argv[..end].iter().any(|word| is_help(&word)).then(|| {
        argv[..end]
            .iter()
            .filter(|word| !is_help(word))
            .chain(&argv[end..])
            .cloned()
            .collect()
    })
}

/// A group was reached and no command in it was named.
fn misdirected(
    group: &Command,
    children: &[Command],
    path: &str,
    not_yet: &[&str],
    name: Option<&String>,
    wants_help: bool,
    console: &mut Console<'_>,
) -> u8 {
    let help = help::of(group, path);
    if wants_help {
        return finish(console.line(help), "", console);
    }
    let known = name.filter(|name| not_yet.contains(&name.as_str()));
    if let Some(name) = known {
        console.remark(format_args!(
            "The command \"{path} {name}\" is not supported yet.\n"
        ));
    }
    console.remark(help);
    if let (Some(name), None) = (name, known) {
        // At the end, where it is still to be seen when the help has gone by.
        console.remark(
            match suggest::nearest(name, children.iter().map(|child| child.name)) {
                Some(meant) => {
                    format!("\nUnknown command \"{path} {name}\": did you mean \"{path} {meant}\"?")
                }
                None => format!("\nUnknown command \"{path} {name}\"."),
            },
        );
    }
    // The shell's code for a command that does not exist.
    if std::ptr::eq(group, &raw const ROOT) {
        127
    } else {
        1
    }
}

fn finish(result: Result<(), Failure>, help: &str, console: &mut Console<'_>) -> u8 {
    // Buffered output that cannot be written is a failure like any other.
    let result = result.and_then(|()| Ok(console.out.flush()?));
    let Err(failure) = result else { return 0 };
    if !failure.message.is_empty() {
        console.remark(&failure.message);
    }
    if failure.show_help {
        console.remark(format_args!("\n{help}"));
        // Once more, where it is still to be seen when the help has gone by.
        console.remark(format_args!("\n{}", failure.message));
    }
    failure.code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::testing::run;

    #[test]
    fn nothing_and_nonsense_show_the_usage() {
        for line in [&[][..], &["bogus"], &["-bogus"]] {
            let ran = run(line);
            assert_eq!((ran.code, ran.out.as_str()), (127, ""));
            assert!(
                ran.err
                    .starts_with("Usage: lictor [--version] [--help] <command> [<args>]\n"),
                "{}",
                ran.err
            );
        }
        for line in [
            &["kv"][..],
            &["kv", "bogus"],
            &["tls", "ca"],
            &["catalog"],
            &["services"],
            &["services", "bogus"],
            &["operator"],
            &["operator", "bogus"],
            &["operator", "raft"],
            &["operator", "raft", "-id=x"],
            &["operator", "autopilot", "bogus"],
        ] {
            let ran = run(line);
            assert_eq!((ran.code, ran.out.as_str()), (1, ""));
            assert!(ran.err.starts_with("Usage: lictor "), "{}", ran.err);
        }
        for (line, said) in [
            (
                &["kvs"][..],
                "Unknown command \"lictor kvs\": did you mean \"lictor kv\"?",
            ),
            (
                &["kv", "gett"],
                "Unknown command \"lictor kv gett\": did you mean \"lictor kv get\"?",
            ),
            (&["bogus", "x"], "Unknown command \"lictor bogus\"."),
        ] {
            let ran = run(line);
            assert!(ran.err.ends_with(&format!("\n\n{said}\n")), "{}", ran.err);
        }
        assert!(!run(&["kv"]).err.contains("Unknown command"));
        let known = run(&["acl"]);
        assert_eq!(known.code, 127);
        assert!(
            known
                .err
                .starts_with("The command \"lictor acl\" is not supported yet.\n\nUsage: ")
        );
    }

    #[test]
    fn help_is_everywhere_and_goes_to_standard_output() {
        fn visit(command: &Command, path: &[&str]) {
            for ask in ["-h", "-help", "--help"] {
                let mut line = path.to_vec();
                line.push(ask);
                let ran = run(&line);
                assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line:?}");
                let usage = format!(
                    "Usage: {} {}",
                    [&["lictor"], path].concat().join(" "),
                    command.usage
                );
                assert!(ran.out.starts_with(usage.trim_end()), "{}", ran.out);
                assert!(
                    ran.out.lines().all(|line| line.chars().count() <= 80),
                    "{}",
                    ran.out
                );
            }
            match &command.action {
                Action::Group(children, _) => {
                    for child in *children {
                        visit(child, &[path, &[child.name]].concat());
                    }
                }
                Action::Run { flags, not_yet, .. } => {
                    let help = run(&[path, &["-h"]].concat()).out;
                    for flag in flags.iter().flat_map(|topic| topic.flags) {
                        assert!(
                            help.contains(&format!("\n  -{}", flag.name)),
                            "{path:?} {}",
                            flag.name
                        );
                        assert!(!flag.help.is_empty());
                        assert!(!not_yet.contains(&flag.name));
                    }
                }
            }
        }
        visit(&ROOT, &[]);
        assert_eq!(run(&["-h", "kv", "get"]).out, run(&["kv", "get", "-h"]).out);
        assert_eq!(
            run(&["kv", "put", "key", "-h"]).out,
            run(&["kv", "put", "-h"]).out
        );
    }

    #[test]
    fn wrong_flags_show_the_help_on_standard_error() {
        let ran = run(&["kv", "get", "-bogus"]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""));
        assert!(
            ran.err
                .starts_with("flag provided but not defined: -bogus\n\nUsage: lictor kv get"),
            "{}",
            ran.err
        );
        let ran = run(&["agent", "-ui"]);
        assert_eq!(ran.code, 1);
        assert!(
            ran.err.starts_with("flag -ui is not supported yet\n"),
            "{}",
            ran.err
        );
    }
}
