//! `lictor operator autopilot`: how the leader looks after the servers.

use lictor_agent::config::parse_duration;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::{self, CallError, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

const PATH: &str = "operator/autopilot/configuration";

pub(super) const COMMAND: Command = Command {
    name: "autopilot",
    summary: "Provides tools for the care that the leader takes of servers",
    usage: "<subcommand> [options]",
    about: "
Shows and changes the settings by which the leader removes dead servers and
gives new ones their vote.",
    action: Action::Group(&[GET_CONFIG, SET_CONFIG], &["state"]),
};

const GET_CONFIG: Command = Command {
    name: "get-config",
    summary: "Displays the settings",
    usage: "[options]",
    about: "
Displays the settings of autopilot.

    $ lictor operator autopilot get-config",
    action: Action::Run {
        flags: &[client::TOPIC, client::QUERY_TOPIC],
        not_yet: &[],
        run: get_config,
    },
};

const SET_CONFIG: Command = Command {
    name: "set-config",
    summary: "Changes the settings",
    usage: "[options]",
    about: "
Changes those settings of autopilot that are given, and leaves the others as
they are.

    $ lictor operator autopilot set-config -min-quorum=3",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "cleanup-dead-servers",
                        takes: Takes::Nothing,
                        help: "Whether a failed server is removed as soon as that costs the cluster nothing. Turn it off with -cleanup-dead-servers=false.",
                    },
                    Flag {
                        name: "disable-upgrade-migration",
                        takes: Takes::Nothing,
                        help: "Kept for Consul Enterprise, and without effect here.",
                    },
                    Flag {
                        name: "last-contact-threshold",
                        takes: Takes::Text("duration"),
                        help: "How long the leader may hear nothing of a server that is to count as healthy, such as 200ms.",
                    },
                    Flag {
                        name: "max-trailing-logs",
                        takes: Takes::Uint,
                        help: "How many log entries a server that is to count as healthy may lag behind the leader.",
                    },
                    Flag {
                        name: "min-quorum",
                        takes: Takes::Uint,
                        help: "How many servers with a vote must remain when dead ones are removed.",
                    },
                    Flag {
                        name: "redundancy-zone-tag",
                        takes: Takes::Text("string"),
                        help: "Kept for Consul Enterprise, and without effect here.",
                    },
                    Flag {
                        name: "server-stabilization-time",
                        takes: Takes::Text("duration"),
                        help: "How long a new server must have been healthy before it gets its vote, such as 10s.",
                    },
                    Flag {
                        name: "upgrade-version-tag",
                        takes: Takes::Text("string"),
                        help: "Kept for Consul Enterprise, and without effect here.",
                    },
                ],
            },
        ],
        not_yet: &[],
        run: set_config,
    },
};

/// The settings as the API tells and takes them. Durations are texts such as `10s`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    cleanup_dead_servers: bool,
    last_contact_threshold: String,
    max_trailing_logs: u64,
    min_quorum: u64,
    server_stabilization_time: String,
    redundancy_zone_tag: String,
    disable_upgrade_migration: bool,
    upgrade_version_tag: String,
    modify_index: u64,
    /// Settings of an agent that is newer than this, which must not get lost.
    #[serde(flatten)]
    others: Map<String, Value>,
}

fn query(client: &Client) -> Result<Config, Failure> {
    client
        .read(PATH, Vec::new())
        .map_err(|error: CallError| Failure::new(format!("Error querying Autopilot configuration: {error}")))
}

fn get_config(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let config = query(&Client::new(args, console)?)?;
    let lines = [
        format!("CleanupDeadServers = {}", config.cleanup_dead_servers),
        format!("LastContactThreshold = {}", config.last_contact_threshold),
        format!("MaxTrailingLogs = {}", config.max_trailing_logs),
        format!("MinQuorum = {}", config.min_quorum),
        format!("ServerStabilizationTime = {}", config.server_stabilization_time),
        format!("RedundancyZoneTag = {:?}", config.redundancy_zone_tag),
        format!("DisableUpgradeMigration = {}", config.disable_upgrade_migration),
        format!("UpgradeVersionTag = {:?}", config.upgrade_version_tag),
    ];
    console.line(lines.join("\n"))
}

fn set_config(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let last_contact_threshold = duration(args, "last-contact-threshold")?;
    let server_stabilization_time = duration(args, "server-stabilization-time")?;
    let text = |flag| args.text(flag).map(str::to_owned);
    let client = Client::new(args, console)?;
    let mut config = query(&client)?;
    replace(
        &mut config.cleanup_dead_servers,
        args.switched("cleanup-dead-servers"),
    );
    replace(&mut config.last_contact_threshold, last_contact_threshold);
    replace(&mut config.max_trailing_logs, args.uint("max-trailing-logs"));
    replace(&mut config.min_quorum, args.uint("min-quorum"));
    replace(&mut config.server_stabilization_time, server_stabilization_time);
    replace(&mut config.redundancy_zone_tag, text("redundancy-zone-tag"));
    replace(
        &mut config.disable_upgrade_migration,
        args.switched("disable-upgrade-migration"),
    );
    replace(&mut config.upgrade_version_tag, text("upgrade-version-tag"));

    let fail = |reason: String| Failure::new(format!("Error setting Autopilot configuration: {reason}"));
    let body = serde_json::to_vec(&config).map_err(|error| fail(error.to_string()))?;
    let index = config.modify_index.to_string();
    if client
        .put_if(PATH, vec![("cas", &index)], &body)
        .map_err(|error| fail(error.to_string()))?
    {
        return console.line("Configuration updated!");
    }
    // Scripts look for it here, and not on standard error.
    console.line("Configuration could not be atomically updated, please try again")?;
    Err(Failure::silent(1))
}

/// The text given for a flag, if it is a duration.
fn duration(args: &Args, flag: &str) -> Result<Option<String>, Failure> {
    let Some(text) = args.text(flag) else {
        return Ok(None);
    };
    match parse_duration(text) {
        Ok(_) => Ok(Some(text.to_owned())),
        Err(error) => Err(Failure::misuse(format!(
            "invalid value {text:?} for flag -{flag}: {error}"
        ))),
    }
}

fn replace<T>(setting: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *setting = value;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::console::testing::{Ran, run, run_with};
    use crate::fake::{Fake, ask};

    const CONFIG: &str = r#"{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,"MinQuorum":0,"ServerStabilizationTime":"1m10s","RedundancyZoneTag":"zo\"ne","DisableUpgradeMigration":false,"UpgradeVersionTag":"","CreateIndex":4,"ModifyIndex":7,"Newer":[1]}"#;

    #[test]
    fn settings_are_displayed() {
        let printed = "\
CleanupDeadServers = true
LastContactThreshold = 200ms
MaxTrailingLogs = 250
MinQuorum = 0
ServerStabilizationTime = 1m10s
RedundancyZoneTag = \"zo\\\"ne\"
DisableUpgradeMigration = false
UpgradeVersionTag = \"\"
";
        let line = ["operator", "autopilot", "get-config"];
        assert_eq!(
            ask(200, CONFIG, &line),
            (
                Ran::ok(printed),
                vec!["GET /v1/operator/autopilot/configuration".to_owned()]
            )
        );
        assert_eq!(
            ask(404, "x", &line).0,
            Ran::error("Error querying Autopilot configuration: Unexpected response code: 404 (x)")
        );
    }

    /// Runs `set-config` with `flags`; what was said, and what was put where.
    fn set(flags: &[&str], status: u16, answer: &'static str) -> (Ran, Option<(String, Value)>) {
        let fake = Fake::start(move |seen| {
            if seen.line.starts_with("GET ") {
                (200, CONFIG.to_owned())
            } else {
                (status, answer.to_owned())
            }
        });
        let line = [&["operator", "autopilot", "set-config"], flags].concat();
        let ran = run_with(&line, b"", &[("CONSUL_HTTP_ADDR", &fake.address)]);
        let put = fake.seen().into_iter().nth(1);
        let put = put.map(|put| (put.line, serde_json::from_slice(&put.body).unwrap()));
        (ran, put)
    }

    #[test]
    fn only_what_is_given_changes() {
        let before: Value = serde_json::from_str(CONFIG).unwrap();
        let changed = |changes: Value| {
            let mut config = before.clone();
            for (name, value) in changes.as_object().unwrap() {
                config[name] = value.clone();
            }
            config
        };
        for (flags, after) in [
            (&[][..], before.clone()),
            (&["-min-quorum=3"], changed(json!({"MinQuorum": 3}))),
            (
                &["-cleanup-dead-servers", "false"],
                changed(json!({"CleanupDeadServers": true})),
            ),
            (
                &[
                    "-cleanup-dead-servers=false",
                    "-last-contact-threshold=300ms",
                    "-max-trailing-logs=5",
                    "-server-stabilization-time=2h",
                    "-redundancy-zone-tag=x",
                    "-disable-upgrade-migration",
                    "-upgrade-version-tag=y",
                ],
                changed(json!({
                    "CleanupDeadServers": false,
                    "LastContactThreshold": "300ms",
                    "MaxTrailingLogs": 5,
                    "ServerStabilizationTime": "2h",
                    "RedundancyZoneTag": "x",
                    "DisableUpgradeMigration": true,
                    "UpgradeVersionTag": "y",
                })),
            ),
        ] {
            let (ran, put) = set(flags, 200, "true");
            assert_eq!(ran, Ran::ok("Configuration updated!\n"));
            let target = "PUT /v1/operator/autopilot/configuration?cas=7".to_owned();
            assert_eq!(put, Some((target, after)), "{flags:?}");
        }
    }

    #[test]
    fn failures_of_a_change() {
        let (ran, _) = set(&["-min-quorum=3"], 200, "false");
        let said = "Configuration could not be atomically updated, please try again\n";
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, said, ""));
        assert_eq!(
            set(&[], 500, "bad").0,
            Ran::error("Error setting Autopilot configuration: Unexpected response code: 500 (bad)")
        );
        for (flag, message) in [
            (
                "-last-contact-threshold=x",
                "invalid value \"x\" for flag -last-contact-threshold: time: invalid duration \"x\"",
            ),
            (
                "-server-stabilization-time=10",
                "invalid value \"10\" for flag -server-stabilization-time: time: missing unit in duration \"10\"",
            ),
            (
                "-max-trailing-logs=-1",
                "invalid value \"-1\" for flag -max-trailing-logs: parse error",
            ),
            (
                "-cleanup-dead-servers=x",
                "invalid boolean value \"x\" for -cleanup-dead-servers: parse error",
            ),
        ] {
            let ran = run(&["operator", "autopilot", "set-config", flag]);
            assert_eq!((ran.code, ran.out.as_str()), (1, ""));
            assert!(
                ran.err.starts_with(&format!(
                    "{message}\n\nUsage: lictor operator autopilot set-config "
                )),
                "{}",
                ran.err
            );
        }
    }
}
