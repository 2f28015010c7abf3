//! `lictor catalog datacenters`

use super::no_operands;
use crate::client::{self, Client};
use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::Args;

pub(super) const COMMAND: Command = Command {
    name: "datacenters",
    summary: "Lists all known datacenters",
    usage: "[options]",
    about: "
Lists the data centers whose servers can be reached, one a line: the nearest
first, by the estimated round-trip time to their servers.

    $ lictor catalog datacenters",
    action: Action::Run {
        flags: &[client::TOPIC, client::QUERY_TOPIC],
        not_yet: &[],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    no_operands(args)?;
    let names: Option<Vec<String>> = Client::new(args, console)?
        .read("catalog/datacenters", Vec::new())
        .map_err(|error| Failure::new(format!("Error listing datacenters: {error}")))?;
    for name in names.unwrap_or_default() {
        console.line(name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::console::testing::Ran;
    use crate::fake::ask;

    #[test]
    fn datacenters_keep_their_order() {
        let line = ["catalog", "datacenters"];
        assert_eq!(
            ask(200, r#"["dc2","dc1"]"#, &line),
            (
                Ran::ok("dc2\ndc1\n"),
                vec!["GET /v1/catalog/datacenters".to_owned()]
            )
        );
        assert_eq!(ask(200, "[]", &line).0, Ran::ok(""));
        assert_eq!(ask(200, "null", &line).0, Ran::ok(""));
        assert_eq!(
            ask(500, "x", &line).0,
            Ran::error("Error listing datacenters: Unexpected response code: 500 (x)")
        );
        assert_eq!(
            ask(200, "[]", &["catalog", "datacenters", "x"]),
            (Ran::error("Too many arguments (expected 0, got 1)"), vec![])
        );
    }
}
