//! `lictor validate`

use lictor_agent::config::{Config, ConfigError, Flags};

use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

pub(crate) const COMMAND: Command = Command {
    name: "validate",
    summary: "Validates configuration files and directories",
    usage: "[options] FILE_OR_DIRECTORY...",
    about: "
Reads the given files and directories as \"lictor agent\" would and reports what
is wrong with them, without starting anything. Give it everything that the
agent will get: a fragment that is incomplete alone does not pass. What this
machine is like, and which addresses it has, makes no difference.

Returns 0 if the configuration is valid, or 1 if there are problems.",
    action: Action::Run {
        flags: &[Topic {
            title: "Command Options",
            flags: &[
                Flag {
                    name: "config-format",
                    takes: Takes::Text("string"),
                    help: "The files are in this format whatever their names end in. Must be 'json'.",
                },
                Flag {
                    name: "quiet",
                    takes: Takes::Nothing,
                    help: "Print nothing if the configuration is valid.",
                },
            ],
        }],
        not_yet: &[],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    if args.operands.is_empty() {
        return Err(Failure::new("Must specify at least one config file or directory"));
    }
    let flags = Flags {
        config_paths: args.operands.iter().map(Into::into).collect(),
        config_format: args.text("config-format").map(str::to_owned),
        ..Flags::default()
    };
    let warnings = Config::check(flags).map_err(|error| match error {
        // That is not what the files say.
        ConfigError::Format(text) => Failure::new(text),
        ConfigError::Read { .. }
        | ConfigError::Hcl { .. }
        | ConfigError::Parse { .. }
        | ConfigError::Invalid(_)
        | ConfigError::Values(_) => Failure::new(format!("Config validation failed: {error}")),
    })?;
    if args.switch("quiet") {
        return Ok(());
    }
    for warning in warnings {
        console.remark(warning);
    }
    console.line("Configuration is valid!")
}

#[cfg(test)]
mod tests {
    use crate::console::testing::{Ran, run};

    #[test]
    fn judges_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.json");
        let file = path.to_str().unwrap();
        std::fs::write(
            file,
            r#"{"data_dir": "/nonexistent/x", "bind_addr": "127.0.0.1", "node_name": "a b"}"#,
        )
        .unwrap();
        let ran = run(&["validate", file]);
        assert_eq!((ran.code, ran.out.as_str()), (0, "Configuration is valid!\n"));
        assert!(
            ran.err.starts_with("Node name \"a b\" will not be discoverable"),
            "{}",
            ran.err
        );
        let ran = run(&["validate", "-quiet", dir.path().to_str().unwrap()]);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));

        std::fs::write(
            file,
            r#"{"data_dir": "/nonexistent/x", "bind_addr": "127.0.0.1", "service": {"name": "web", "checks": [{"ttl": "5s"}]}}"#,
        )
        .unwrap();
        assert_eq!(run(&["validate", file]), Ran::ok("Configuration is valid!\n"));
        std::fs::write(
            file,
            r#"{"data_dir": "/nonexistent/x", "bind_addr": "127.0.0.1", "service": {"name": "web", "meta": {"a.b": "c"}}}"#,
        )
        .unwrap();
        assert_eq!(
            run(&["validate", file]),
            Ran::error(
                "Config validation failed: 1 error occurred:\n\t* invalid meta for service web: Couldn't load metadata pair ('a.b', 'c'): Key contains invalid characters"
            )
        );

        // Which addresses this machine has is not what the files say.
        for addresses in ["", r#", "bind_addr": "::""#, r#", "bind_addr": "192.0.2.1""#] {
            std::fs::write(file, format!(r#"{{"data_dir": "/nonexistent/x"{addresses}}}"#)).unwrap();
            assert_eq!(run(&["validate", file]), Ran::ok("Configuration is valid!\n"));
        }

        std::fs::write(file, "{}").unwrap();
        let ran = run(&["validate", "-config-format=json", file]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""));
        assert_eq!(ran.err, "Config validation failed: data_dir cannot be empty\n");
        assert_eq!(
            run(&["validate", "-config-format=bogus", file]),
            Ran::error("-config-format must be either 'hcl' or 'json'")
        );
        assert_eq!(
            run(&["validate"]).err,
            "Must specify at least one config file or directory\n"
        );
    }
}
