//! Help texts, laid out for 80 columns.

use std::fmt::Write;

use crate::command::{Action, Command};
use crate::flags::{Flag, Takes};

const WIDTH: usize = 80;
const INDENT: &str = "     ";

/// The help of `command`, which is called as `path`; without a line end.
pub(crate) fn of(command: &Command, path: &str) -> String {
    let mut help = format!("Usage: {path} {}", command.usage).trim_end().to_owned();
    if !command.about.is_empty() {
        for line in command.about.lines() {
            push_line(&mut help, if line.is_empty() { "" } else { "  " }, line);
        }
    }
    match &command.action {
        Action::Group(children, _) => {
            help.push_str(if command.about.is_empty() {
                "\n\nAvailable commands are:"
            } else {
                "\n\nSubcommands:"
            });
            let longest = children.iter().map(|child| child.name.len()).max().unwrap_or(0);
            for child in *children {
                // Writing to a string cannot fail.
                let _ = write!(help, "\n    {:longest$}    {}", child.name, child.summary);
            }
        }
        Action::Run { flags, .. } => {
            for topic in *flags {
                let _ = write!(help, "\n\n{}", topic.title);
                for flag in topic.flags {
                    push_flag(&mut help, flag);
                }
            }
        }
    }
    help
}

fn push_flag(help: &mut String, flag: &Flag) {
    let value = match flag.takes {
        Takes::Nothing => String::new(),
        Takes::Text(name) => format!("=<{name}>"),
        Takes::Int => "=<int>".to_owned(),
        Takes::Uint => "=<uint>".to_owned(),
    };
    let _ = write!(help, "\n\n  -{}{value}", flag.name);
    let mut line = String::new();
    for word in flag.help.split_whitespace() {
        if !line.is_empty() && INDENT.len() + line.len() + 1 + word.len() > WIDTH {
            push_line(help, INDENT, &line);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push_line(help, INDENT, &line);
}

fn push_line(help: &mut String, indent: &str, line: &str) {
    help.push('\n');
    help.push_str(indent);
    help.push_str(line);
}
