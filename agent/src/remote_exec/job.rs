//! One command, from the event that tells of it to its exit code.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use super::Order;
use super::post::{Post, Store, Undelivered};
use super::program::{News, Program, Run};

/// The largest description of a command, in bytes: what a key's value may have, unless it was configured otherwise.
const JOB_MAX: usize = 512 << 10;

/// How many bytes of output are passed on.
const OUTPUT_MAX: usize = 1 << 20;

/// How many pieces of output and signs of life there may be: at one every two seconds, for a day and a half.
const PIECES_MAX: u32 = 1 << 16;

/// How long a program may say nothing until a sign of life is given for it, at least and at most. The latter is also how long a program
/// may run on that nobody waits for any more.
const BEAT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The exit code of a command that could not be carried out.
const NOT_DONE: i32 = 255;

/// How much of a command is logged, in bytes.
const LOGGED: usize = 256;

/// A command, as it comes.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Spec {
    /// A line for a shell.
    command: Option<String>,
    /// Instead of it: a program and its arguments.
    args: Option<Vec<String>>,
    /// Instead of both: the content of a script, in base64.
    script: Option<String>,
    /// For how many nanoseconds whoever gave it waits for something to happen.
    wait: i64,
}

/// A command that is understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) program: Program,
    /// After how much silence a sign of life is given.
    pub(super) beat: Duration,
}

impl Job {
    /// Reads what whoever gave the command has written. The error is for people.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        if text.len() > JOB_MAX {
            return Err(format!("it has {} bytes, and may have {JOB_MAX}", text.len()));
        }
        let spec: Spec = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let script = BASE64_STANDARD
            .decode(spec.script.unwrap_or_default())
            .map_err(|error| format!("its script is not in base64: {error}"))?;
        let words = spec.args.unwrap_or_default();
        let line = spec.command.unwrap_or_default();
        let program = if !words.is_empty() {
            Program::Words(words)
        } else if !script.is_empty() {
            Program::Script(script)
        } else if !line.is_empty() {
            Program::Line(line)
        } else {
            return Err("it has neither a command, nor arguments, nor a script".to_owned());
        };
        let (least, most) = BEAT;
        let wait = Duration::from_nanos(u64::try_from(spec.wait).unwrap_or(0));
        let beat = wait.clamp(least, most);
        Ok(Self { program, beat })
    }
}

/// Carries a command out on the node of this name. What becomes of it is told to whoever gave it, and logged. If this future is dropped,
/// all that was started is killed.
pub(super) async fn carry_out(order: Order, node: &str, store: &dyn Store) {
    let (id, from) = (order.event.id, order.origin);
    let mut post = match Post::open(&order.event.payload, node, store) {
        Ok(post) => post,
        Err(why) => return tracing::warn!(%id, %from, why, "cannot understand who gives a command"),
    };
    let session = post.session().to_owned();
    let text = match post.job().await {
        Ok(Some(text)) => text,
        Ok(None) => {
            return tracing::info!(%id, %from, session, "a command is not carried out: it is not wanted any more");
        }
        Err(error) => return tracing::warn!(%id, %from, session, %error, "cannot read a command"),
    };
    match post.acknowledge().await {
        Ok(true) => {}
        Ok(false) => {
            return tracing::info!(%id, %from, session, "a command is not carried out: it was already");
        }
        Err(error) => {
            return tracing::warn!(%id, %from, session, %error, "a command is not carried out: cannot say that it begins");
        }
    }
    let ended = match Job::read(&text) {
        Ok(job) => {
            tracing::info!(%id, %from, session, command = shown(&job.program), "carries out a command of others");
            run(job, &mut post).await
        }
        Err(why) => {
            not_done(
                &mut post,
                format!("this agent cannot understand the command: {why}"),
            )
            .await
        }
    };
    let delivered = match ended {
        Ok(code) => post.end(code).await.map(|()| code),
        Err(undelivered) => Err(undelivered),
    };
    match delivered {
        Ok(code) => tracing::info!(%id, session, code, "a command of others has ended"),
        Err(error) => {
            tracing::warn!(%id, session, %error, "a command of others was ended: cannot answer");
        }
    }
}

/// Runs a program to its end, and passes on what it says. `Err`: nobody hears it, so it was killed.
async fn run(job: Job, post: &mut Post<'_>) -> Result<i32, Undelivered> {
    let mut run = match Run::start(job.program) {
        Ok(run) => run,
        Err(error) => {
            let why = crate::config::system_error(&error);
            return not_done(post, format!("this agent cannot start programs: {why}")).await;
        }
    };
    let mut left = OUTPUT_MAX;
    let mut spoken = Instant::now();
    loop {
        match run.next(job.beat).await {
            News::Said(mut output) if left > 0 => {
                output.truncate(left);
                left -= output.len();
                post.say(output.into()).await?;
                if left == 0 {
                    let notice =
                        format!("\n[it has said {OUTPUT_MAX} bytes; what follows is not passed on]\n");
                    post.say(notice.into()).await?;
                }
            }
            News::Said(_) if spoken.elapsed() < job.beat => continue,
            News::Said(_) | News::Quiet => post.say(Bytes::new()).await?,
            News::Ended(Ok(code)) => return Ok(code),
            News::Ended(Err(why)) => return not_done(post, why).await,
        }
        spoken = Instant::now();
        if post.pieces() >= PIECES_MAX {
            drop(run);
            return not_done(post, "it runs for too long, and was killed".to_owned()).await;
        }
    }
}

/// Says why there is no exit code, and gives one that stands for that.
async fn not_done(post: &mut Post<'_>, why: String) -> Result<i32, Undelivered> {
    post.say(format!("{why}\n").into()).await?;
    Ok(NOT_DONE)
}

/// A command in a line of the log.
fn shown(program: &Program) -> String {
    let mut text = match program {
        Program::Line(line) => line.clone(),
        Program::Words(words) => words.join(" "),
        Program::Script(content) => format!("a script of {} bytes", content.len()),
    };
    if text.len() > LOGGED {
        text.truncate(text.floor_char_boundary(LOGGED));
        text.push_str("...");
    }
    text
}
