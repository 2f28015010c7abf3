//! `lictor lock`: runs a program while holding a lock.
//!
//! The keys are those of Consul's own client library, so that its locks and these exclude each other.

mod mutex;
mod semaphore;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Deserialize;
use serde::de::IgnoredAny;
use signal_hook::consts::SIGINT;

use crate::child::{Program, Running};
use crate::client::{self, CallError, Client};
use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Takes};
use crate::session::{Session, Wanted};
use mutex::Mutex;
use semaphore::Semaphore;

/// How long a child has to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// How long a call may take that has nothing to wait for.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// How long an agent waits for a change before it answers all the same.
const WAIT: Duration = Duration::from_secs(15);

/// How long to wait before asking for a key again that is free and yet not given: its lock delay is on.
const DELAYED: Duration = Duration::from_secs(5);

/// How long to wait before looking at a lock again that could not be looked at.
const MONITOR_PAUSE: Duration = Duration::from_secs(1);

/// In the child's environment, for historical reasons under this name alone.
const HELD: &str = "CONSUL_LOCK_HELD";

/// In the child's environment: the lock's fence.
const FENCE: &str = "LICTOR_LOCK_FENCE";

pub(crate) const COMMAND: Command = Command {
    name: "lock",
    summary: "Run a program while holding a lock",
    usage: "[options] PREFIX CHILD...",
    about: "
Waits for a lock, runs a program, and gives the lock back when that has ended.
If the lock is lost, or nothing is heard of it for too long, the program is
sent SIGTERM, and SIGKILL when it has not ended five seconds later.

    $ lictor lock service/web/migrate ./migrate.sh

The lock is the key PREFIX/.lock. With -n greater than 1 so many may hold it
at the same time; all of them have to agree on that number.

The program's environment has CONSUL_LOCK_HELD=true, and for a lock with one
holder LICTOR_LOCK_FENCE: a number that is higher than that of all holders
before, for what the program writes to elsewhere to refuse the former ones.",
    action: Action::Run {
        flags: &[
            client::TOPIC,
            client::QUERY_TOPIC,
            Topic {
                title: "Command Options",
                flags: &[
                    Flag {
                        name: "child-exit-code",
                        takes: Takes::Nothing,
                        help: "Exit with 2 if the program failed or could not be started; otherwise that is no failure. The default value is false.",
                    },
                    Flag {
                        name: "monitor-retry",
                        takes: Takes::Int,
                        help: "How often to look again, a second later each time, if the agent cannot say whether the lock is still held. 0: the lock counts as lost at once. The default value is 3.",
                    },
                    Flag {
                        name: "n",
                        takes: Takes::Int,
                        help: "How many may hold the lock at the same time. The default value is 1.",
                    },
                    Flag {
                        name: "name",
                        takes: Takes::Text("string"),
                        help: "The name of the session that holds the lock. The default says the program and the prefix.",
                    },
                    Flag {
                        name: "pass-stdin",
                        takes: Takes::Nothing,
                        help: "Let the program read standard input. The default value is false.",
                    },
                    Flag {
                        name: "shell",
                        takes: Takes::Nothing,
                        help: "Let a shell read the program and its arguments: that of the environment variable SHELL, or /bin/sh. The default value is true.",
                    },
                    Flag {
                        name: "timeout",
                        takes: Takes::Text("duration"),
                        help: "How long to wait for the lock, for example \"1s\" or \"3h\". 0: for ever. The default value is 0.",
                    },
                    Flag {
                        name: "try",
                        takes: Takes::Text("duration"),
                        help: "Another name of -timeout, for old scripts.",
                    },
                    Flag {
                        name: "verbose",
                        takes: Takes::Nothing,
                        help: "Say what is done. The default value is false.",
                    },
                ],
            },
        ],
        not_yet: &[],
        run,
    },
};

/// What a command line asks for.
struct Options {
    prefix: String,
    program: Program,
    limit: usize,
    name: String,
    timeout: Option<Duration>,
    retries: u32,
    pass_input: bool,
    child_exit_code: bool,
    verbose: bool,
}

impl Options {
    fn read(args: &Args, console: &Console<'_>) -> Result<Self, Failure> {
        let negative = Some("Timeout must be positive");
        let timeout = match args.duration("timeout", negative)? {
            None => args.duration("try", negative)?,
            given => given,
        };
        let incomplete = || Failure::misuse("Key prefix and child command must be specified");
        let (prefix, words) = args.operands.split_first().ok_or_else(incomplete)?;
        let shell = args.switched("shell").unwrap_or(true);
        let program = Program::new(words, shell, console).ok_or_else(incomplete)?;
        let limit = usize::try_from(args.int("n").unwrap_or(1)).ok();
        let limit = limit
            .filter(|limit| *limit > 0)
            .ok_or_else(|| Failure::new("Lock holder limit must be positive"))?;
        let retries = u32::try_from(args.int("monitor-retry").unwrap_or(3))
            .map_err(|_| Failure::new("Number for 'monitor-retry' must be >= 0"))?;
        let prefix = prefix.strip_prefix('/').unwrap_or(prefix);
        let name = args.text("name").filter(|name| !name.is_empty()).map_or_else(
            || format!("Lictor lock for '{}' at '{prefix}'", words.join(" ")),
            str::to_owned,
        );
        Ok(Self {
            prefix: prefix.to_owned(),
            program,
            limit,
            name,
            timeout: timeout.filter(|timeout| !timeout.is_zero()),
            retries,
            pass_input: args.switch("pass-stdin"),
            child_exit_code: args.switch("child-exit-code"),
            verbose: args.switch("verbose"),
        })
    }
}

/// What a command waits for.
#[derive(Debug)]
enum Event {
    /// The attempt to get the lock is over.
    Acquired(Result<Held, String>),
    /// The lock is not ours any more, or nobody can say that it is.
    Lost,
    /// The child has ended.
    Ended,
}

/// A lock that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    /// Its fence, if the agent gives any.
    fence: Option<u64>,
    /// The version at which it was seen to be held.
    index: u64,
}

/// A kind of lock. Its methods may be called from several threads.
trait Lock: Send + Sync {
    /// What is said of it before it is asked for.
    fn describe(&self) -> String;
    /// Waits until the lock is held by `session`.
    fn acquire(&self, client: &Client, session: &str) -> Result<Held, String>;
    /// Waits for a change after the version `index`, or some seconds. `Ok(None)`: the lock is not held any more.
    fn watch(&self, client: &Client, session: &str, index: u64) -> Result<Option<u64>, CallError>;
    /// Gives it back, if it is held.
    fn release(&self, client: &Client, session: &str) -> Result<(), String>;
    /// Removes its keys. `Ok(false)`: it is in use.
    fn clean_up(&self, client: &Client) -> Result<bool, String>;
}

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let options = Options::read(args, console)?;
    let client = Arc::new(Client::new(args, console)?);
    client
        .read::<IgnoredAny>("agent/self", Vec::new())
        .map_err(|error| Failure::new(format!("Error querying Lictor agent: {error}")))?;
    let lock: Arc<dyn Lock> = if options.limit == 1 {
        Arc::new(Mutex::new(&options.prefix))
    } else {
        Arc::new(Semaphore::new(&options.prefix, options.limit))
    };
    let (tell, events) = channel();
    let (hear, interrupts) = channel();
    let mut locking = Locking {
        options,
        client,
        lock,
        tell,
        events,
        interrupts,
        console,
    };
    locking.say(&locking.lock.describe())?;
    locking.say("Attempting lock acquisition")?;
    let failed = |text| Failure::new(format!("Lock acquisition failed: {text}"));
    let behavior = if locking.options.limit == 1 {
        "release"
    } else {
        "delete"
    };
    let wanted = Wanted {
        name: &locking.options.name,
        behavior,
        node: None,
    };
    let session = Session::create(&locking.client, &wanted)
        .map_err(|error| failed(format!("failed to create session: {error}")))?;
    // From here on there is something to clean up, so interruptions have to be heard.
    (locking.console.hear_interrupts)(hear);
    let tell = locking.tell.clone();
    // The command may have ended.
    let lost = move || drop(tell.send(Event::Lost));
    let keeper = session.keep(&locking.client, lost);
    let result = match locking.acquire(&session) {
        Ok(Some(held)) => locking.hold(&session, held),
        Ok(None) => Err(Failure::new(
            "Shutdown triggered or timeout during lock acquisition",
        )),
        Err(text) => Err(failed(text)),
    };
    drop(keeper);
    // Whatever it still holds is free from now on. It ends by itself if this cannot be said.
    let ended = session.destroy(&locking.client);
    let result = result?;
    if let Err(error) = ended {
        locking.console.remark(format_args!(
            "Lock release failed: failed to destroy session: {error}"
        ));
        return Err(Failure::silent(1));
    }
    locking.clean_up()?;
    match result {
        Child::Failed if locking.options.child_exit_code => Err(Failure::silent(2)),
        Child::Failed | Child::Done => Ok(()),
    }
}

/// How it went with the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Child {
    /// It succeeded, or was ended by us.
    Done,
    /// It did not start, or failed.
    Failed,
}

struct Locking<'a, 'c> {
    options: Options,
    client: Arc<Client>,
    lock: Arc<dyn Lock>,
    tell: Sender<Event>,
    events: Receiver<Event>,
    interrupts: Receiver<i32>,
    console: &'a mut Console<'c>,
}

/// How often is looked whether the command was interrupted.
const GLANCE: Duration = Duration::from_millis(50);

/// Why a wait is over.
enum Woken {
    Event(Event),
    Interrupted(i32),
    TimeOver,
}

impl Locking<'_, '_> {
    fn say(&mut self, text: &str) -> Result<(), Failure> {
        if self.options.verbose {
            self.console.line(text)?;
            // What the child prints comes behind it.
            self.console.out.flush()?;
        }
        Ok(())
    }

    fn next(&self, until: Option<Instant>) -> Woken {
        loop {
            if let Ok(signal) = self.interrupts.try_recv() {
                return Woken::Interrupted(signal);
            }
            let left = until.map_or(GLANCE, |until| until.saturating_duration_since(Instant::now()));
            match self.events.recv_timeout(left.min(GLANCE)) {
                Ok(event) => return Woken::Event(event),
                // We have a sender ourselves, so it is never disconnected.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    if until.is_some_and(|until| until <= Instant::now()) {
                        return Woken::TimeOver;
                    }
                }
            }
        }
    }

    /// Waits for the lock. `None`: not any longer.
    fn acquire(&mut self, session: &Session) -> Result<Option<Held>, String> {
        let until = self.options.timeout.map(|timeout| Instant::now() + timeout);
        let (client, lock, tell) = (
            Arc::clone(&self.client),
            Arc::clone(&self.lock),
            self.tell.clone(),
        );
        let id = session.id().to_owned();
        thread::spawn(move || {
            // Nobody may wait any more. A lock that is got all the same falls with the session.
            let _ = tell.send(Event::Acquired(lock.acquire(&client, &id)));
        });
        loop {
            match self.next(until) {
                Woken::Event(Event::Acquired(result)) => return result.map(Some),
                Woken::Event(Event::Lost) => return Err("the session was lost".to_owned()),
                Woken::Event(Event::Ended) => {}
                Woken::Interrupted(_) | Woken::TimeOver => return Ok(None),
            }
        }
    }

    /// Runs the child under the lock, and gives the lock back.
    fn hold(&mut self, session: &Session, held: Held) -> Result<Child, Failure> {
        self.monitor(session, held.index);
        self.say("Starting handler")?;
        let mut command = self.options.program.command();
        command.env(HELD, "true");
        match held.fence {
            Some(fence) => command.env(FENCE, fence.to_string()),
            // Another lock's, around this one.
            None => command.env_remove(FENCE),
        };
        let started = Running::start(command, self.options.pass_input, self.tell.clone(), Event::Ended);
        let child = match started {
            Ok(running) => self.attend(running)?,
            Err(error) => {
                let why = self.options.program.not_started(&error);
                self.console.remark(format_args!("Error starting handler: {why}"));
                Child::Failed
            }
        };
        let released = self.lock.release(&self.client, session.id());
        released.map_err(|text| Failure::new(format!("Lock release failed: {text}")))?;
        Ok(child)
    }

    /// Says [`Event::Lost`] when the lock is lost.
    fn monitor(&self, session: &Session, mut index: u64) {
        let (client, lock, tell) = (
            Arc::clone(&self.client),
            Arc::clone(&self.lock),
            self.tell.clone(),
        );
        let (id, most) = (session.id().to_owned(), self.options.retries);
        thread::spawn(move || {
            let mut failures = 0;
            loop {
                match lock.watch(&client, &id, index) {
                    Ok(Some(seen)) => (index, failures) = (seen, 0),
                    Ok(None) => break,
                    Err(error) => {
                        failures += 1;
                        if failures > most || !error.may_pass() {
                            break;
                        }
                        thread::sleep(MONITOR_PAUSE);
                    }
                }
            }
            // The command may have ended.
            let _ = tell.send(Event::Lost);
        });
    }

    /// Waits for the child's end, and sees to it that it does not outlive the lock.
    fn attend(&mut self, running: Running) -> Result<Child, Failure> {
        let why = loop {
            match self.next(None) {
                Woken::Event(Event::Ended) => break None,
                Woken::Event(Event::Lost) => break Some("Lock lost, killing child"),
                Woken::Interrupted(signal) => {
                    if signal == SIGINT {
                        running.signal(Signal::INT);
                    }
                    break Some("Shutdown triggered, killing child");
                }
                Woken::Event(Event::Acquired(_)) | Woken::TimeOver => {}
            }
        };
        // All that is said about it comes when it has ended: an output that nobody reads must not keep a child alive that has lost its lock.
        let said = why.map(|why| {
            let mut said = vec![why.to_owned()];
            said.extend(self.end(&running));
            said
        });
        let outcome = running.wait();
        if let Err(text) = &outcome {
            self.console.remark(format_args!("Error running handler: {text}"));
        }
        if let Some(said) = said {
            said.iter().try_for_each(|text| self.say(text))?;
            return Ok(Child::Done);
        }
        self.say("Child terminated, releasing lock")?;
        Ok(if outcome.is_err() {
            Child::Failed
        } else {
            Child::Done
        })
    }

    /// Ends the child, if need be by force, whatever else happens. Gives back what is to be said of it.
    fn end(&self, running: &Running) -> Vec<String> {
        let pid = running.id();
        running.signal(Signal::TERM);
        let mut said = vec![format!("Terminating child pid {pid}")];
        let until = Instant::now() + GRACE;
        loop {
            match self.next(Some(until)) {
                Woken::Event(Event::Ended) => {
                    said.push("Child terminated".to_owned());
                    return said;
                }
                Woken::TimeOver => break,
                Woken::Event(Event::Lost | Event::Acquired(_)) | Woken::Interrupted(_) => {}
            }
        }
        running.signal(Signal::KILL);
        said.push("Child did not exit after grace period of 5s".to_owned());
        said.push(format!("Killing child pid {pid}"));
        said
    }

    fn clean_up(&mut self) -> Result<(), Failure> {
        let cleaned = self.lock.clean_up(&self.client);
        let cleaned = cleaned.map_err(|text| Failure::new(format!("Lock cleanup failed: {text}")))?;
        self.say(if cleaned {
            "Cleanup succeeded"
        } else {
            "Cleanup aborted, lock in use"
        })
    }
}

/// A key as the API tells it, as far as locks care.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    key: String,
    flags: u64,
    modify_index: u64,
    /// In base64.
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    session: Option<String>,
    #[serde(default, rename = "LictorFence")]
    fence: Option<u64>,
}

impl Entry {
    /// Who holds it.
    fn holder(&self) -> Option<&str> {
        self.session.as_deref().filter(|session| !session.is_empty())
    }
}

/// The entries of an answer; none, if there is nothing.
fn entries(body: Option<&[u8]>) -> Result<Vec<Entry>, CallError> {
    let Some(body) = body else {
        return Ok(Vec::new());
    };
    serde_json::from_slice(body).map_err(|error| CallError::Nonsense(error.to_string()))
}
