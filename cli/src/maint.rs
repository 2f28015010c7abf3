//! `lictor maint`: maintenance mode, of a node or of a service on it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::client::{self, Client, null_is_empty};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};

/// The check that keeps a node in maintenance mode.
const NODE_CHECK: &str = "_node_maintenance";

/// Begins the ids of checks that keep a service in maintenance mode.
const SERVICE_CHECK: &str = "_service_maintenance:";

pub(crate) const COMMAND: Command = Command {
    name: "maint",
    summary: "Controls node or service maintenance mode",
    usage: "[options]",
    about: "
Takes an agent's node, or one of its services, out of service for a while: a
critical check is registered, so that nobody finds it who asks for what is
healthy. Maintenance mode lasts until it is disabled, also over restarts.

    $ lictor maint -enable -reason=\"new disk\"
    $ lictor maint -disable -service=web

Without flags, what is in maintenance mode is listed.",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "disable",
                        takes: Takes::Nothing,
                        help: "Disable maintenance mode.",
                    },
                    Flag {
                        name: "enable",
                        takes: Takes::Nothing,
                        help: "Enable maintenance mode.",
                    },
                    Flag {
                        name: "reason",
                        takes: Takes::Text("string"),
                        help: "Why, for those who look at the check. Only with -enable.",
                    },
                    Flag {
                        name: "service",
                        takes: Takes::Text("string"),
                        help: "The id of a service of this agent. Without it, the whole node is meant.",
                    },
                ],
            },
        ],
        not_yet: &["namespace", "partition"],
        run,
    },
};

#[derive(Deserialize)]
struct About {
    #[serde(rename = "Config")]
    config: NodeConfig,
}

#[derive(Deserialize)]
struct NodeConfig {
    #[serde(rename = "NodeName")]
    node_name: String,
}

#[derive(Deserialize)]
struct Check {
    #[serde(rename = "ServiceID", default, deserialize_with = "null_is_empty")]
    service_id: String,
    #[serde(rename = "Notes", default, deserialize_with = "null_is_empty")]
    notes: String,
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let (enable, disable) = (args.switch("enable"), args.switch("disable"));
    let said = |flag| args.text(flag).unwrap_or_default();
    let (reason, service) = (said("reason"), said("service"));
    if enable && disable {
        return Err(Failure::new("Only one of -enable or -disable may be provided"));
    }
    if !enable && !reason.is_empty() {
        return Err(Failure::new("Reason may only be provided with -enable"));
    }
    if !enable && !disable && !service.is_empty() {
        return Err(Failure::new("Service requires either -enable or -disable"));
    }
    let client = Client::new(args, console)?;
    if !enable && !disable {
        return list(&client, console);
    }
    let (path, what) = if service.is_empty() {
        ("agent/maintenance".to_owned(), "node")
    } else {
        (format!("agent/service/maintenance/{service}"), "service")
    };
    let (query, doing) = if enable {
        (vec![("enable", "true"), ("reason", reason)], "enabling")
    } else {
        (vec![("enable", "false")], "disabling")
    };
    client
        .put(&path, query, b"")
        .map_err(|error| Failure::new(format!("Error {doing} {what} maintenance: {error}")))?;
    let now = if enable { "enabled" } else { "disabled" };
    if service.is_empty() {
        console.line(format_args!("Node maintenance is now {now}"))
    } else {
        console.line(format_args!("Service maintenance is now {now} for {service:?}"))
    }
}

/// Shows what is in maintenance mode: the node first.
fn list(client: &Client, console: &mut Console<'_>) -> Result<(), Failure> {
    let about: About = client
        .read("agent/self", Vec::new())
        .map_err(|error| Failure::new(format!("Error querying Lictor agent: {error}")))?;
    let checks: Option<BTreeMap<String, Check>> = client
        .read("agent/checks", Vec::new())
        .map_err(|error| Failure::new(format!("Error getting checks: {error}")))?;
    for (id, check) in checks.unwrap_or_default() {
        if id == NODE_CHECK {
            console.line("Node:")?;
            console.line(format_args!("  Name:   {}", about.config.node_name))?;
        } else if id.starts_with(SERVICE_CHECK) {
            console.line("Service:")?;
            console.line(format_args!("  ID:     {}", check.service_id))?;
        } else {
            continue;
        }
        console.line(format_args!("  Reason: {}\n", check.notes))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::console::testing::{Ran, run_with};
    use crate::fake::{Fake, ask};

    #[test]
    fn on_and_off() {
        for (line, target, said) in [
            (
                &["maint", "-enable"][..],
                "PUT /v1/agent/maintenance?enable=true&reason=",
                "Node maintenance is now enabled\n",
            ),
            (
                &["maint", "-disable"],
                "PUT /v1/agent/maintenance?enable=false",
                "Node maintenance is now disabled\n",
            ),
            (
                &["maint", "-enable", "-service=a b", "-reason=so what"],
                "PUT /v1/agent/service/maintenance/a%20b?enable=true&reason=so%20what",
                "Service maintenance is now enabled for \"a b\"\n",
            ),
            (
                &["maint", "-disable", "-service=web"],
                "PUT /v1/agent/service/maintenance/web?enable=false",
                "Service maintenance is now disabled for \"web\"\n",
            ),
        ] {
            assert_eq!(ask(200, "", line), (Ran::ok(said), vec![target.to_owned()]));
        }
    }

    #[test]
    fn what_is_in_maintenance_is_listed() {
        let list = |checks: &'static str| {
            let fake = Fake::start(move |seen| {
                let answer = if seen.line == "GET /v1/agent/self" {
                    r#"{"Config":{"NodeName":"alpha","Datacenter":"dc1"}}"#
                } else {
                    assert_eq!(seen.line, "GET /v1/agent/checks");
                    checks
                };
                (200, answer.to_owned())
            });
            run_with(&["maint"], b"", &[("CONSUL_HTTP_ADDR", &fake.address)])
        };
        assert_eq!(list("{}"), Ran::ok(""));
        assert_eq!(
            list(
                r#"{"_service_maintenance:Web":{"CheckID":"_service_maintenance:Web","ServiceID":"Web","Notes":"later"},
                    "service:db":{"CheckID":"service:db","ServiceID":"db","Notes":""},
                    "_node_maintenance":{"CheckID":"_node_maintenance","ServiceID":"","Notes":"foo"}}"#
            ),
            Ran::ok("Node:\n  Name:   alpha\n  Reason: foo\n\nService:\n  ID:     Web\n  Reason: later\n\n")
        );
    }

    #[test]
    fn failures() {
        for (line, message) in [
            (
                &["maint", "-enable", "-disable"][..],
                "Only one of -enable or -disable may be provided",
            ),
            (
                &["maint", "-reason=x"],
                "Reason may only be provided with -enable",
            ),
            (
                &["maint", "-disable", "-reason=x"],
                "Reason may only be provided with -enable",
            ),
            (
                &["maint", "-service=x"],
                "Service requires either -enable or -disable",
            ),
            (
                &["maint"],
                "Error querying Lictor agent: Unexpected response code: 500 (oops)",
            ),
            (
                &["maint", "-enable"],
                "Error enabling node maintenance: Unexpected response code: 500 (oops)",
            ),
            (
                &["maint", "-disable"],
                "Error disabling node maintenance: Unexpected response code: 500 (oops)",
            ),
            (
                &["maint", "-enable", "-service=x"],
                "Error enabling service maintenance: Unexpected response code: 500 (oops)",
            ),
            (
                &["maint", "-disable", "-service=x"],
                "Error disabling service maintenance: Unexpected response code: 500 (oops)",
            ),
        ] {
            assert_eq!(ask(500, "oops", line).0, Ran::error(message));
        }
    }
}
