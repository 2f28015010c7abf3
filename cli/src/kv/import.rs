//! `lictor kv import`

use std::borrow::Cow;

use lictor_agent::config::decode_base64;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::client::{self, Client};
use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::Args;

pub(super) const COMMAND: Command = Command {
    name: "import",
    summary: "Imports a tree stored as JSON to the KV store",
    usage: "[options] [DATA]",
    about: "
Sets all keys that \"lictor kv export\" printed; others stay as they are. The
data come from a file, from standard input, or from the command line itself:

    $ lictor kv import @filename.json
    $ cat filename.json | lictor kv import -

Each key is reported as soon as it is set. After an error the keys reported
before it are set, and none behind it; the import can be run again.",
    action: Action::Run {
        flags: &[client::TOPIC, client::QUERY_TOPIC],
        not_yet: &["namespace", "partition", "prefix"],
        run,
    },
};

/// One key as it was exported.
#[derive(Deserialize)]
struct Exported<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default)]
    flags: u64,
    /// In base64.
    #[serde(borrow, default)]
    value: Cow<'a, str>,
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let data = match args.operands.as_slice() {
        [] => return Err(Failure::new("Error! Missing DATA argument")),
        [data] if data.is_empty() => return Err(Failure::new("Error! Empty DATA argument")),
        [data] => super::read_data(data, console)?,
        more => {
            return Err(Failure::new(format!(
                "Error! Too many arguments (expected 1, got {})",
                more.len()
            )));
        }
    };
    let entries: Vec<Exported<'_>> = serde_json::from_slice(&data).map_err(|error| {
        // A text that ends too early is most often not what it was meant to be: that comes first.
        let ends_early = serde_json::from_slice::<IgnoredAny>(&data).is_err_and(|error| error.is_eof());
        let reason = if ends_early {
            "unexpected end of JSON input".to_owned()
        } else {
            error.to_string()
        };
        Failure::new(format!("Cannot unmarshal data: {reason}"))
    })?;
    let client = Client::new(args, console)?;
    for Exported { key, flags, value } in &entries {
        let value = decode_base64(value.as_bytes())
            .map_err(|error| Failure::new(format!("Error base 64 decoding value for key {key}: {error}")))?;
        let failed = |text: String| Failure::new(format!("Error! Failed writing data for key {key}: {text}"));
        super::check_writable(key).map_err(failed)?;
        let flags = flags.to_string();
        let query = if flags == "0" {
            Vec::new()
        } else {
            vec![("flags", flags.as_str())]
        };
        let done = client
            .put_if_plainly(&super::path_of(key), query, &value)
            .map_err(|error| failed(error.to_string()))?;
        if !done {
            return Err(failed("the agent answered that it did not".to_owned()));
        }
        console.line(format_args!("Imported: {key}"))?;
    }
    Ok(())
}
