//! `lictor version`

use serde_json::json;

use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

/// What the package says.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of what agents say to each other: the number in the names of the planes, such as `lictor-raft/1`.
const PROTOCOL: u32 = 1;

pub(crate) const COMMAND: Command = Command {
    name: "version",
    summary: "Prints the Lictor version",
    usage: "[options]",
    about: "",
    action: Action::Run {
        flags: &[Topic {
            title: "Command Options",
            flags: &[Flag {
                name: "format",
                takes: Takes::Text("string"),
                help: "Output format: pretty or json. The default value is pretty.",
            }],
        }],
        not_yet: &[],
        run,
    },
};

/// Prints the version for people.
pub(crate) fn print(console: &mut Console<'_>) -> Result<(), Failure> {
    console.line(format_args!("Lictor v{VERSION}"))?;
    console.line(format_args!(
        "Protocol {PROTOCOL} spoken by default, understands {PROTOCOL} to {PROTOCOL}"
    ))
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    match args.text("format") {
        None | Some("" | "pretty") => print(console),
        Some("json") => {
            let (version, prerelease) = VERSION.split_once('-').unwrap_or((VERSION, ""));
            let rpc = json!({ "Default": PROTOCOL, "Min": PROTOCOL, "Max": PROTOCOL });
            let value = json!({ "Version": version, "Revision": "", "Prerelease": prerelease, "RPC": rpc });
            console.line(format_args!("{value:#}"))
        }
        Some(other) => Err(Failure::new(format!("Unknown format: {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::testing::run;

    #[test]
    fn prints_for_people_and_for_scripts() {
        for line in [
            &["version"][..],
            &["-v"],
            &["-version"],
            &["--version"],
            &["version", "-format", "pretty"],
        ] {
            let ran = run(line);
            assert_eq!((ran.code, ran.err.as_str()), (0, ""));
            assert_eq!(
                ran.out.lines().next(),
                Some(format!("Lictor v{VERSION}").as_str())
            );
        }
        let ran = run(&["version", "-format=json"]);
        let value: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(value["Version"], VERSION);
        assert_eq!(value["RPC"]["Default"], 1);
        let ran = run(&["version", "-format", "x"]);
        assert_eq!((ran.code, ran.err.as_str()), (1, "Unknown format: x\n"));
    }
}
