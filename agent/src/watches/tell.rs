//! Telling programs and addresses.

use std::future::pending;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use async_io::Async;
use futures_lite::{AsyncWriteExt as _, FutureExt as _};
use lictor_catalog::Status;
use lictor_node::local::{Probe, ProbeTls};
use lictor_watch::{INDEX_HEADER, INDEX_VARIABLE};

use super::leftovers::Leftovers;
use super::{Shared, Told};
use crate::checks::Prober;
use crate::checks::tail::Tail;
use crate::config::{WatchAddress, WatchHandler};
use crate::process_group::{Group, KillOnDrop, not_started};

/// How much of what is said to the news is logged, in bytes.
const OUTPUT_MAX: usize = 4096;

/// What reads a line of commands if `SHELL` does not say.
const SHELL: &str = "/bin/sh";

/// What requests say of who sends them.
const USER_AGENT: &str = concat!("lictor/", env!("CARGO_PKG_VERSION"));

/// Tells what is new, and waits until it has been heard. What comes of it is logged. If this is dropped a program that is being told is
/// killed, with all that it has started.
pub(super) async fn tell(shared: &Shared, handler: &WatchHandler, told: Told) {
    let Shared {
        prober, leftovers, ..
    } = shared;
    match handler {
        WatchHandler::Program(args) => {
            let [program, args @ ..] = args.as_slice() else {
                return;
            };
            run(leftovers, handler, program, args, told).await;
        }
        WatchHandler::Shell(line) => {
            let shell = std::env::var("SHELL").ok().filter(|shell| !shell.is_empty());
            let shell = shell.unwrap_or_else(|| SHELL.to_owned());
            let args = ["-c".to_owned(), line.clone()];
            run(leftovers, handler, &shell, &args, told).await;
        }
        WatchHandler::Http(address) => request(prober, handler, address, told).await,
    }
}

/// Runs a program to its end.
async fn run(leftovers: &Leftovers, handler: &WatchHandler, program: &str, args: &[String], told: Told) {
    let Told { json, index } = told;
    let mut command = Command::new(program);
    command.args(args).env(INDEX_VARIABLE, index.to_string());
    let mut output = Tail::new(OUTPUT_MAX);
    let ended = feed(leftovers, command, &json, &mut output).await;
    let output = output.into_text();
    match ended {
        Ok(status) if status.success() => {
            tracing::debug!(%handler, index, output, "watch handler output");
        }
        Ok(status) => {
            tracing::error!(%handler, index, error = %status, output, "Failed to run watch handler");
        }
        Err(error) => {
            let error = not_started(program, &error);
            tracing::error!(%handler, index, error, "Failed to run watch handler");
        }
    }
}

/// Runs a program to its end with `input`, and gathers what it says. What it has left behind by then may go on to say things.
async fn feed(
    leftovers: &Leftovers,
    mut command: Command,
    input: &str,
    output: &mut Tail,
) -> io::Result<ExitStatus> {
    let (stdin, writer) = io::pipe()?;
    let (reader, stdout) = io::pipe()?;
    command
        .stdin(stdin)
        .stdout(stdout.try_clone()?)
        .stderr(stdout)
        .process_group(0);
    let (writer, reader) = (Async::new(writer)?, Async::new(reader)?);
    let group = Arc::new(Group::default());
    let _kill = KillOnDrop(Arc::clone(&group));
    // What a handler leaves behind may be what it was to start anew, so that goes on. The command holds the pipes' other ends open.
    let mut exit = blocking::unblock(move || group.run_and_leave(move || command.spawn()));
    let fed = async {
        // A program need not read it.
        let _ = (&writer).write_all(input.as_bytes()).await;
        drop(writer);
        pending().await
    };
    let read = async {
        output.read_all(&reader).await;
        pending().await
    };
    let ended = (&mut exit).or(fed).or(read).await;
    if output.read_rest(&reader) {
        leftovers.listen(reader);
    }
    ended
}

/// Sends a request.
async fn request(prober: &Prober, handler: &WatchHandler, address: &WatchAddress, told: Told) {
    let Told { json, index } = told;
    let said = |name: &str, value: String| (name.to_owned(), vec![value]);
    let mut headers = vec![
        said("Content-Type", "application/json".to_owned()),
        said(INDEX_HEADER, index.to_string()),
    ];
    headers.extend(address.headers.iter().cloned());
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("User-Agent"))
    {
        headers.push(said("User-Agent", USER_AGENT.to_owned()));
    }
    let request = Probe::Http {
        url: address.url.clone(),
        method: address.method.clone(),
        headers,
        body: json,
        disable_redirects: false,
        tls: ProbeTls {
            server_name: String::new(),
            skip_verify: address.skip_verify,
        },
    };
    let outcome = prober.probe(&request, address.timeout, OUTPUT_MAX).await;
    let output = outcome.output;
    match outcome.status {
        Status::Passing => tracing::debug!(%handler, index, output, "http watch handler output"),
        Status::Warning | Status::Critical => {
            tracing::error!(%handler, index, output, "http watch handler failed with output");
        }
    }
}
