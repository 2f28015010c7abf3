//! `lictor exec`: runs a command on many machines.
//!
//! Sessions, keys and events are those of Consul's own command, so that either's agents understand the other's.

mod answers;
#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::client::{self, CallError, Change, Client, is_true};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};
use crate::path::{below, clean};
use crate::pattern;
use crate::session::{Session, Wanted};
use answers::{Answers, News};

/// The name of the event that tells agents of commands.
const EVENT: &str = "_rexec";

/// How long to wait, unless told otherwise, for something to happen.
const WAIT: Duration = Duration::from_secs(2);

/// How long to wait, unless told otherwise, until all servers have the command.
const WAIT_REPLICATED: Duration = Duration::from_millis(200);

/// How much longer to wait while agents are known that have not finished.
const PATIENCE: u32 = 4;

/// How long a call may take that has nothing to wait for.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The longest script, in bytes: more than agents take.
const SCRIPT_MAX: u64 = 1 << 20;

/// How many pieces of news may wait until they are printed.
const NEWS: usize = 64;

pub(crate) const COMMAND: Command = Command {
    name: "exec",
    summary: "Run a command on many machines",
    usage: "[options] COMMAND...",
    about: "
Has a command run by the agents of a data center, prints what it says on each,
and ends when all have finished, or nothing is heard of them any more. With
filters, which are regular expressions, only some agents run it. If the
command is -, a script is read from standard input and run instead.

    $ lictor exec uptime
    $ lictor exec -service=web -tag=canary systemctl restart web

Agents refuse unless disable_remote_exec = false is in their configuration.
Whoever can reach the HTTP API can do this, so think twice about that.",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "node",
                        takes: Takes::Text("string"),
                        help: "Only agents whose node's name matches this regular expression.",
                    },
                    Flag {
                        name: "prefix",
                        takes: Takes::Text("string"),
                        help: "What the keys begin with by which the command and its output go. The default value is _rexec.",
                    },
                    Flag {
                        name: "service",
                        takes: Takes::Text("string"),
                        help: "Only agents that have a service whose name matches this regular expression.",
                    },
                    Flag {
                        name: "shell",
                        takes: Takes::Nothing,
                        help: "Let a shell read the command: that of the environment variable SHELL of each agent, or /bin/sh. The default value is true.",
                    },
                    Flag {
                        name: "tag",
                        takes: Takes::Text("string"),
                        help: "Only agents whose service of -service, which is required, has a tag that matches this regular expression.",
                    },
                    Flag {
                        name: "verbose",
                        takes: Takes::Nothing,
                        help: "Say what is done. The default value is false.",
                    },
                    Flag {
                        name: "wait",
                        takes: Takes::Text("duration"),
                        help: "How long to wait for something to happen before the command counts as done; four times as long while agents are known that have not finished. The default value is 2s.",
                    },
                    Flag {
                        name: "wait-repl",
                        takes: Takes::Text("duration"),
                        help: "How long to wait before agents are told, so that servers near to them know the command. The default value is 200ms.",
                    },
                ],
            },
        ],
        not_yet: &[],
        run,
    },
};

/// What agents are to do, as they read it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Job {
    #[serde(skip_serializing_if = "String::is_empty")]
    command: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    /// In base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    script: String,
    /// In nanoseconds.
    wait: u64,
}

/// What agents are told: where the command is.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Notice<'a> {
    prefix: &'a str,
    session: &'a str,
}

/// The event as the API tells it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fired {
    #[serde(rename = "ID")]
    id: String,
}

/// What the agent that is asked says of itself.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Agent {
    config: AgentConfig,
    debug_config: AgentSettings,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AgentConfig {
    datacenter: String,
    node_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AgentSettings {
    disable_remote_exec: Option<bool>,
}

/// A server, as the API tells of it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Server {
    node: ServerNode,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServerNode {
    node: String,
}

/// What a command line asks for.
struct Options {
    job: Job,
    prefix: String,
    /// By their names in a request.
    filters: Vec<(&'static str, String)>,
    wait: Duration,
    wait_replicated: Duration,
    verbose: bool,
}

impl Options {
    fn read(args: &Args, console: &mut Console<'_>) -> Result<Self, Failure> {
        let wait = args.duration("wait", None)?.unwrap_or(WAIT);
        let wait_replicated = args.duration("wait-repl", None)?.unwrap_or(WAIT_REPLICATED);
        let prefix = args.text("prefix").unwrap_or(EVENT);
        if prefix.starts_with('/') {
            return Err(Failure::new(format!(
                "Failed to create job file: Invalid key. Key must not begin with a '/': {prefix}"
            )));
        }
        let job = job(args, wait, console)?;
        let mut filters = Vec::new();
        for name in ["node", "service", "tag"] {
            let expression = args.text(name).unwrap_or_default();
            if !expression.is_empty() {
                pattern::compile(expression).map_err(|error| {
                    Failure::new(format!("Failed to compile {name} filter regexp: {error}"))
                })?;
                filters.push((name, expression.to_owned()));
            }
        }
        let has = |wanted| filters.iter().any(|(name, _)| *name == wanted);
        if has("tag") && !has("service") {
            return Err(Failure::new("Cannot provide tag filter without service filter."));
        }
        Ok(Self {
            job,
            prefix: clean(prefix),
            filters,
            wait,
            wait_replicated,
            verbose: args.switch("verbose"),
        })
    }
}

fn job(args: &Args, wait: Duration, console: &mut Console<'_>) -> Result<Job, Failure> {
    let shell = args.switched("shell").unwrap_or(true);
    let mut job = Job {
        command: args.operands.join(" "),
        args: Vec::new(),
        script: String::new(),
        wait: u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX),
    };
    if job.command == "-" {
        if !shell {
            return Err(Failure::new(
                "Cannot configure -shell=false when reading from stdin",
            ));
        }
        job.command.clear();
        job.script = BASE64_STANDARD.encode(script(console)?);
    } else if !shell {
        job.command.clear();
        job.args.clone_from(&args.operands);
    }
    if job.command.is_empty() && job.args.is_empty() && job.script.is_empty() {
        return Err(Failure::misuse("Must specify a command to execute"));
    }
    Ok(job)
}

fn script(console: &mut Console<'_>) -> Result<Vec<u8>, Failure> {
    let mut script = Vec::new();
    let mut input = console.input.take(SCRIPT_MAX + 1);
    input.read_to_end(&mut script).map_err(|error| {
        let why = lictor_agent::config::system_error(&error);
        Failure::new(format!("Failed to read stdin: {why}"))
    })?;
    if script.len() as u64 > SCRIPT_MAX {
        return Err(Failure::new(format!(
            "Failed to read stdin: a script may have {SCRIPT_MAX} bytes, and this one has more"
        )));
    }
    Ok(script)
}

/// What the command waits for.
#[derive(Debug)]
enum Event {
    /// Of the agents that carry it out.
    News(News),
    /// The session is gone, and with it all that agents say.
    Lost,
    /// It was interrupted.
    Interrupted,
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let options = Options::read(args, console)?;
    let client = Arc::new(Client::new(args, console)?);
    let agent: Agent = client
        .read("agent/self", Vec::new())
        .map_err(|error| Failure::new(format!("Error querying Lictor agent: {error}")))?;
    let datacenter = args.text("datacenter").filter(|name| !name.is_empty());
    let far = datacenter.filter(|name| *name != agent.config.datacenter);
    let (tell, events) = sync_channel(NEWS);
    let mut execution = Execution {
        begun: Instant::now(),
        far,
        options,
        client,
        agent,
        tell,
        events,
        console,
    };
    if far.is_some() {
        execution.say("Remote exec in foreign datacenter, using Session TTL")?;
    }
    // Interruptions have to be heard as soon as there is something to clean up.
    execution.hear_interrupts();
    let session = execution.create_session()?;
    let result = execution.under(&session);
    execution.clean_up(&session);
    result
}

/// One command on its way to the agents, and what comes back.
struct Execution<'a, 'c> {
    begun: Instant,
    /// The data center, if it is not that of the agent that is asked.
    far: Option<&'a str>,
    options: Options,
    client: Arc<Client>,
    agent: Agent,
    tell: SyncSender<Event>,
    events: Receiver<Event>,
    console: &'a mut Console<'c>,
}

impl Execution<'_, '_> {
    fn say(&mut self, text: &str) -> Result<(), Failure> {
        if self.options.verbose {
            self.console.line(text)?;
        }
        Ok(())
    }

    fn hear_interrupts(&self) {
        let (hear, interrupts) = channel();
        (self.console.hear_interrupts)(hear);
        let tell = self.tell.clone();
        thread::spawn(move || {
            // The sender is gone where nothing can interrupt.
            if interrupts.recv().is_ok() {
                let _ = tell.send(Event::Interrupted);
            }
        });
    }

    fn create_session(&mut self) -> Result<Session, Failure> {
        let failed = |why: &dyn std::fmt::Display| Failure::new(format!("Failed to create session: {why}"));
        let made = if let Some(far) = self.far {
            let node = self.far_server().map_err(|why| failed(&why))?;
            self.say(&format!("Binding session to remote node {node}@{far}"))?;
            let AgentConfig {
                node_name,
                datacenter,
            } = &self.agent.config;
            let wanted = Wanted {
                name: &format!("Remote Exec via {node_name}@{datacenter}"),
                behavior: "delete",
                node: Some(&node),
            };
            Session::create(&self.client, &wanted)
        } else {
            let wanted = Wanted {
                name: "Remote Exec",
                behavior: "delete",
                node: None,
            };
            Session::create(&self.client, &wanted)
        };
        made.map_err(|error| failed(&error))
    }

    /// The node of a server of the other data center: the agent that is asked has none there.
    fn far_server(&self) -> Result<String, String> {
        const NONE: &str = "Failed to find Consul server in remote datacenter";
        let servers: Vec<Server> = self
            .client
            .read("health/service/consul", vec![("passing", "1")])
            .map_err(|error| format!("{NONE}: {error}"))?;
        let first = servers.into_iter().next().ok_or(NONE)?;
        Ok(first.node.node)
    }

    /// Has the command carried out under a session, which is renewed meanwhile.
    fn under(&mut self, session: &Session) -> Result<(), Failure> {
        let tell = self.tell.clone();
        // The command may have ended.
        let _keeper = session.keep(&self.client, move || drop(tell.send(Event::Lost)));
        self.say(&format!("Created remote execution session: {}", session.id()))?;
        let place = self.place(session);
        self.upload(session, &place)
            .map_err(|why| Failure::new(format!("Failed to create job file: {why}")))?;
        self.say("Uploaded remote execution spec")?;
        match self.events.recv_timeout(self.options.wait_replicated) {
            Ok(Event::Interrupted) => return Err(Failure::silent(1)),
            Ok(Event::Lost) => return Err(lost()),
            // Nobody has anything to say yet.
            Ok(Event::News(_)) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        let id = self
            .fire(session)
            .map_err(|error| Failure::new(format!("Failed to fire event: {error}")))?;
        self.say(&format!("Fired remote execution event: {id}"))?;
        let tell = self.tell.clone();
        let answers = Answers::new(Arc::clone(&self.client), place, self.options.wait);
        thread::spawn(move || answers.follow(|news| tell.send(Event::News(news)).is_ok()));
        self.listen()
    }

    /// Below which key all is that belongs to the command.
    fn place(&self, session: &Session) -> String {
        below(&self.options.prefix, session.id())
    }

    fn upload(&self, session: &Session, place: &str) -> Result<(), String> {
        let body = serde_json::to_vec(&self.options.job).map_err(|error| error.to_string())?;
        let query = vec![("acquire", session.id())];
        let path = format!("kv/{place}/job");
        let answer = self.client.change(Change::Put, &path, query, &body, CALL_LIMIT);
        let answer = answer.map_err(|error| error.to_string())?;
        if is_true(&answer) {
            Ok(())
        } else {
            Err(format!("the session {} does not get its key", session.id()))
        }
    }

    /// Tells the agents; the event's id.
    fn fire(&self, session: &Session) -> Result<String, CallError> {
        let notice = Notice {
            prefix: &self.options.prefix,
            session: session.id(),
        };
        let body = serde_json::to_vec(&notice).expect("texts in a struct are always JSON");
        let filters = self.options.filters.iter();
        let query = filters.map(|(name, value)| (*name, value.as_str())).collect();
        let path = format!("event/fire/{EVENT}");
        let answer = self.client.change(Change::Put, &path, query, &body, CALL_LIMIT)?;
        let fired: Fired =
            serde_json::from_slice(&answer).map_err(|error| CallError::Nonsense(error.to_string()))?;
        Ok(fired.id)
    }

    /// Prints what the agents say until they have finished, or say nothing for too long.
    fn listen(&mut self) -> Result<(), Failure> {
        let (mut acknowledged, mut completed, mut failed) = (0_u64, 0_u64, false);
        loop {
            let wait = if acknowledged > completed {
                self.options.wait.saturating_mul(PATIENCE)
            } else {
                self.options.wait
            };
            match self.events.recv_timeout(wait) {
                Ok(Event::News(News::Acknowledged { node })) => {
                    acknowledged += 1;
                    if self.options.verbose {
                        self.report(&node, "acknowledged")?;
                    }
                }
                Ok(Event::News(News::Alive { node })) => {
                    if self.options.verbose {
                        self.report(&node, "heartbeat received")?;
                    }
                }
                Ok(Event::News(News::Said { node, output })) => self.print(&node, &output)?,
                Ok(Event::News(News::Finished { node, code })) => {
                    completed += 1;
                    failed |= code != 0;
                    self.report(&node, &format!("finished with exit code {code}"))?;
                }
                Ok(Event::News(News::Odd(text))) => self.console.remark(text),
                Ok(Event::News(News::Broken(text))) => return Err(Failure::new(text)),
                Ok(Event::Lost) => return Err(lost()),
                Ok(Event::Interrupted) => return Err(Failure::silent(1)),
                // We have a sender ourselves, so it is never disconnected.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let summary = format!("{completed} / {acknowledged} node(s) completed / acknowledged");
        self.console.line(summary)?;
        let took = self.begun.elapsed().as_secs_f64();
        self.say(&format!("Completed in {took:.2} seconds"))?;
        if acknowledged == 0 {
            let why = self.why_nobody();
            self.console.remark(why);
        }
        if failed || completed < acknowledged {
            return Err(Failure::silent(2));
        }
        Ok(())
    }

    /// Prints what is said about a node.
    fn report(&mut self, node: &str, text: &str) -> Result<(), Failure> {
        self.console.line(format_args!("==> {node}: {text}"))
    }

    /// Prints what the program on a node says: each line behind the node's name. Consul leaves out blanks at the very end, and scripts may
    /// compare.
    fn print(&mut self, node: &str, output: &[u8]) -> Result<(), Failure> {
        let mut text = Vec::with_capacity(output.len() + 64);
        for line in output.split(|byte| *byte == b'\n') {
            text.extend_from_slice(format!("    {node}: ").as_bytes());
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text.truncate(text.trim_ascii_end().len());
        text.push(b'\n');
        Ok(self.console.out.write_all(&text)?)
    }

    /// Why it may be that no agent has taken the command.
    fn why_nobody(&self) -> String {
        let mut why = String::from(
            "No agent has taken the command. Agents refuse commands of others unless \
             disable_remote_exec = false is in their configuration",
        );
        if self.far.is_none() && self.agent.debug_config.disable_remote_exec == Some(true) {
            why.push_str(", and it is not in that of the one asked here, ");
            why.push_str(&self.agent.config.node_name);
        }
        why.push('.');
        if !self.options.filters.is_empty() {
            let names: Vec<String> = self
                .options
                .filters
                .iter()
                .map(|(name, _)| format!("-{name}"))
                .collect();
            why.push_str(" Or none matches ");
            why.push_str(&names.join(", "));
            why.push('.');
        }
        why
    }

    /// Ends the session, and with it whatever agents still do for it, and removes its keys.
    fn clean_up(&mut self, session: &Session) {
        if let Err(error) = session.destroy(&self.client) {
            let text = format!("Failed to destroy session: {error}");
            self.console.remark(text);
        }
        // The session has deleted those that it held.
        let path = format!("kv/{}/", self.place(session));
        let query = vec![("recurse", "")];
        let removed = self.client.change(Change::Delete, &path, query, b"", CALL_LIMIT);
        if let Err(error) = removed {
            let text = format!("Failed to destroy data: {error}");
            self.console.remark(text);
        }
    }
}

fn lost() -> Failure {
    Failure::new(
        "The session of the command was lost: agents that have not finished kill what they run for it",
    )
}
