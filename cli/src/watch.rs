//! `lictor watch`: tells when something changes.

#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use lictor_watch::{INDEX_VARIABLE, News, Parameters, Plan, PlanError, Progress, Version};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::child::{Program, describe};
use crate::client::{self, CallError, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes, parse_bool};

/// How long one question may take: longer than an agent waits that was not told how long.
const ASK_LIMIT: Duration = Duration::from_mins(11);

pub(crate) const COMMAND: Command = Command {
    name: "watch",
    summary: "Watch for changes",
    usage: "[options] [CHILD...]",
    about: "
Reads something, prints it as JSON, and ends. With a program it does not end:
it runs the program with what was read on its standard input, at first and
whenever that has changed, until the program fails or the command is
interrupted. The program's environment has the version in CONSUL_INDEX.

    $ lictor watch -type=service -service=web
    $ lictor watch -type=key -key=config/web ./reconfigure.sh",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "key",
                        takes: Takes::Text("string"),
                        help: "The key. Required for the type key, and only for that.",
                    },
                    Flag {
                        name: "name",
                        takes: Takes::Text("string"),
                        help: "The name of events. Only for the type event.",
                    },
                    Flag {
                        name: "passingonly",
                        takes: Takes::Text("true|false"),
                        help: "Only instances all of whose checks are passing. Only for the type service. The default value is false.",
                    },
                    Flag {
                        name: "prefix",
                        takes: Takes::Text("string"),
                        help: "What the keys begin with. Required for the type keyprefix, and only for that.",
                    },
                    Flag {
                        name: "service",
                        takes: Takes::Text("string"),
                        help: "The service. Required for the type service; for the type checks not together with -state.",
                    },
                    Flag {
                        name: "shell",
                        takes: Takes::Nothing,
                        help: "Let a shell read the program and its arguments: that of the environment variable SHELL, or /bin/sh. The default value is true.",
                    },
                    Flag {
                        name: "state",
                        takes: Takes::Text("string"),
                        help: "The state that the checks are in: any, passing, warning or critical. Only for the type checks. The default value is any.",
                    },
                    Flag {
                        name: "tag",
                        takes: Takes::Text("value"),
                        help: "Only instances with this tag. Only for the type service. May be given several times: all of them count.",
                    },
                    Flag {
                        name: "type",
                        takes: Takes::Text("string"),
                        help: "What to watch: key, keyprefix, services, nodes, service, checks or event. Required.",
                    },
                ],
            },
        ],
        not_yet: &[],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let kind = args.text("type").unwrap_or_default();
    if kind.is_empty() {
        return Err(Failure::misuse("Watch type must be specified"));
    }
    if let "connect_roots" | "connect_leaf" | "agent_service" = kind {
        return Err(Failure::new(format!(
            "Type {kind} is not supported in the CLI tool"
        )));
    }
    let plan = Plan::new(kind, parameters(args)?).map_err(|error| {
        let hint = if matches!(error, PlanError::Unsupported(_)) {
            "; must be one of key, keyprefix, services, nodes, service, checks, event"
        } else {
            ""
        };
        Failure::new(format!("{error}{hint}"))
    })?;
    let shell = args.switched("shell").unwrap_or(true);
    let program = Program::new(&args.operands, shell, console);
    let client = Client::new(args, console)?;
    client
        .read::<IgnoredAny>("agent/self", Vec::new())
        .map_err(|error| Failure::new(format!("Error querying Lictor agent: {error}")))?;
    match program {
        None => {
            // Whoever interrupts a question that is never answered has waited enough.
            (console.succeed_on_interrupt)();
            print(&client, &plan, console)
        }
        Some(program) => tell(client, plan, &program, console),
    }
}

/// What the flags say of the watch.
fn parameters(args: &Args) -> Result<Parameters, Failure> {
    let mut given = Map::new();
    for name in ["key", "name", "prefix", "service", "state"] {
        let text = args.text(name).filter(|text| !text.is_empty());
        given.extend(text.map(|text| (name.to_owned(), text.into())));
    }
    if let Some(text) = args.text("passingonly").filter(|text| !text.is_empty()) {
        let on = parse_bool(text).ok_or_else(|| {
            Failure::new(format!(
                "Failed to parse passingonly flag: strconv.ParseBool: parsing {text:?}: invalid syntax"
            ))
        })?;
        given.insert("passingonly".to_owned(), on.into());
    }
    let tags = args.texts("tag").into_iter().filter(|tag| !tag.is_empty());
    let tags: Vec<Value> = tags.map(Value::from).collect();
    if !tags.is_empty() {
        given.insert("tag".to_owned(), tags.into());
    }
    Ok(Parameters::new(given))
}

/// Prints what there is.
fn print(client: &Client, plan: &Plan, console: &mut Console<'_>) -> Result<(), Failure> {
    let mut progress = Progress::default();
    loop {
        match ask(client, plan, &mut progress) {
            Ok(Some((news, _))) => {
                let text = news.indented();
                return console
                    .line(text.map_err(|error| Failure::new(format!("Error encoding output: {error}")))?);
            }
            Ok(None) => {}
            Err(error) => {
                let pause = progress.fail();
                console.remark(errored(plan, &error, pause));
                thread::sleep(pause);
            }
        }
    }
}

/// What the command hears of.
enum Event {
    /// There is something new, as JSON, of a version with this number.
    News(String, u64),
    /// A question failed, and is asked again.
    Errored(String),
    /// It was interrupted.
    Interrupted,
}

/// Runs the program with what there is, and again whenever that changes.
fn tell(client: Client, plan: Plan, program: &Program, console: &mut Console<'_>) -> Result<(), Failure> {
    // While the program runs, at most one more answer is fetched: what it is run with next is not much older than that.
    let (want, wanted) = channel();
    let (tell, events) = channel();
    let (hear, interrupts) = channel();
    (console.hear_interrupts)(hear);
    let interrupted = tell.clone();
    thread::spawn(move || {
        // The sender is gone where nothing can interrupt.
        if interrupts.recv().is_ok() {
            let _ = interrupted.send(Event::Interrupted);
        }
    });
    thread::spawn(move || follow(&client, &plan, &wanted, &tell));
    loop {
        // Nobody listens any more only if the thread is gone, and then the next line ends this.
        let _ = want.send(());
        loop {
            match events.recv() {
                Ok(Event::News(json, index)) => {
                    run_with(program, &json, index, console)?;
                    break;
                }
                Ok(Event::Errored(text)) => console.remark(text),
                Ok(Event::Interrupted) | Err(_) => return Ok(()),
            }
        }
    }
}

/// Fetches the next news whenever they are wanted.
fn follow(client: &Client, plan: &Plan, wanted: &Receiver<()>, tell: &Sender<Event>) {
    let mut progress = Progress::default();
    while wanted.recv().is_ok() {
        loop {
            match ask(client, plan, &mut progress) {
                Ok(Some((news, version))) => {
                    let Ok(json) = news.compact() else {
                        return;
                    };
                    if tell.send(Event::News(json, version.index())).is_err() {
                        return;
                    }
                    break;
                }
                Ok(None) => {}
                Err(error) => {
                    let pause = progress.fail();
                    if tell.send(Event::Errored(errored(plan, &error, pause))).is_err() {
                        return;
                    }
                    thread::sleep(pause);
                }
            }
        }
    }
}

/// Asks once. `Ok(None)`: nothing has changed.
fn ask(
    client: &Client,
    plan: &Plan,
    progress: &mut Progress,
) -> Result<Option<(Arc<News>, Version)>, CallError> {
    let seen = progress.seen().map(Version::parameter);
    let mut query: Vec<_> = plan.query().collect();
    query.extend(seen.as_ref().map(|(name, value)| (*name, value.as_str())));
    if client.stale() {
        query.push(("stale", ""));
    }
    let found = client.look(plan.path(), query, ASK_LIMIT)?;
    let news = plan.read(found.body.as_deref());
    let news = news.map_err(|error| CallError::Nonsense(error.to_string()))?;
    let version = Version::Index(found.index);
    let news = progress.take(version.clone(), news);
    Ok(news.map(|news| (news, version)))
}

fn errored(plan: &Plan, error: &CallError, pause: Duration) -> String {
    let (kind, error) = (plan.kind(), error.to_string());
    format!(
        "[ERROR] watch: Watch errored: type={kind} error={error:?} retry={}s",
        pause.as_secs()
    )
}

/// Runs the program to its end.
fn run_with(program: &Program, json: &str, index: u64, console: &mut Console<'_>) -> Result<(), Failure> {
    console.out.flush()?;
    let mut command = program.command();
    command
        .env(INDEX_VARIABLE, index.to_string())
        .stdin(Stdio::piped());
    let started = command.spawn();
    let mut child = started
        .map_err(|error| Failure::new(format!("Error starting handler: {}", program.not_started(&error))))?;
    if let Some(mut input) = child.stdin.take() {
        // A program need not read it.
        let _ = input.write_all(json.as_bytes());
    }
    describe(child.wait()).map_err(|text| Failure::new(format!("Error executing handler: {text}")))
}
