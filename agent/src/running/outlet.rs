//! What the machine of what runs here wants done.

use std::collections::HashMap;
use std::sync::Arc;

use futures::channel::oneshot;
use lictor_catalog::{Found, Query};
use lictor_http::{Backend, ReadOptions, WriteOptions};
use lictor_local::{AskId, Effect, Error, Event, Input, Question, Reply};
use lictor_machine::Token;
use lictor_node::agent;
use lictor_runtime::Runtime;

use super::{Running, Shelf};
use crate::checks::{self, Outcome, Prober, Runners};
use crate::handle::Handle;

/// Who waits for an answer.
type Asker = oneshot::Sender<Result<(), Error>>;

/// Carries out what the machine of what runs here wants done.
pub(crate) struct LocalOutlet {
    running: Arc<Running>,
    runners: Runners,
    shelf: Shelf,
    /// The servers.
    servers: Arc<dyn Backend>,
    runtime: Runtime,
    handle: Handle,
    askers: HashMap<Token, Asker>,
}

impl std::fmt::Debug for LocalOutlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalOutlet")
            .field("runners", &self.runners)
            .field("askers", &self.askers.len())
            .finish_non_exhaustive()
    }
}

impl LocalOutlet {
    /// Questions to servers go by way of `servers`.
    pub(crate) fn new(
        running: Arc<Running>,
        shelf: Shelf,
        servers: Arc<dyn Backend>,
        runtime: Runtime,
        handle: Handle,
    ) -> Self {
        let reports = handle.clone();
        let report = move |run, outcome| {
            let Outcome { status, output } = outcome;
            let input = Input::Probed { run, status, output };
            reports.complete(agent::Input::Local(input));
        };
        let prober = Prober::new(checks::DOCKER_SOCKET.into());
        Self {
            running,
            runners: Runners::new(runtime.clone(), prober, report),
            shelf,
            servers,
            runtime,
            handle,
            askers: HashMap::new(),
        }
    }

    /// Somebody waits for the answer to this request.
    pub(crate) fn asked(&mut self, token: Token, asker: Asker) {
        self.askers.insert(token, asker);
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Answer { token, result } => {
                if let Some(asker) = self.askers.remove(&token) {
                    // Who has given up hears nothing.
                    let _ = asker.send(result);
                }
            }
            Effect::Publish(view) => self.running.publish(view),
            Effect::Probe {
                run,
                check: _,
                probe,
                timeout,
                output_max,
            } => self.runners.start(run, probe, timeout, output_max),
            Effect::StopProbe(run) => self.runners.stop(run),
            Effect::Ask { id, question } => self.ask(id, question),
            Effect::Save { id, changes } => self.shelf.save(id, changes),
            Effect::Event(event) => log(event),
        }
    }

    /// There is one question at a time.
    fn ask(&self, id: AskId, question: Question) {
        let (servers, handle) = (Arc::clone(&self.servers), self.handle.clone());
        let asking = self.runtime.spawn(async move {
            let result = answer(&*servers, question).await;
            handle.complete(agent::Input::Local(Input::Answered { id, result }));
        });
        asking.detach();
    }
}

async fn answer(servers: &dyn Backend, question: Question) -> Result<Reply, String> {
    match question {
        Question::Node(name) => {
            let query = Query::NodeInfo(name.to_string());
            let reading = servers.read(query, ReadOptions::default()).await;
            let found = reading.map_err(|failure| failure.to_string())?.value;
            let Found::NodeInfos(mut nodes) = found else {
                return Err("a server answered something else than was asked".to_owned());
            };
            Ok(Reply::Node(nodes.pop().map(Box::new)))
        }
        Question::Write(action) => {
            let outcome = servers.write(action, WriteOptions::default()).await;
            outcome.map(Reply::Written).map_err(|failure| failure.to_string())
        }
    }
}

/// As much of a check's output as the log has.
fn begin(output: &str) -> &str {
    const LOGGED_MAX: usize = 256;
    let output = output.trim_end();
    &output[..output.floor_char_boundary(LOGGED_MAX)]
}

fn log(event: Event) {
    match event {
        Event::StatusChanged {
            check,
            from,
            to,
            output,
        } => {
            let output = begin(&output);
            tracing::info!(%check, %from, %to, output, "a check has changed");
        }
        Event::Confirmed {
            check,
            status,
            output,
        } => {
            let output = begin(&output);
            tracing::info!(%check, %status, output, "a check has its first result");
        }
        Event::BelowThreshold {
            check,
            count,
            threshold,
        } => {
            tracing::debug!(%check, count, threshold, "a check found a change, not yet often enough to count");
        }
        Event::Raised { check, to } => {
            tracing::warn!(%check, ?to, "a duration of a check was too short and is raised");
        }
        Event::Reaped { service, check } => {
            tracing::warn!(%service, %check, "a service was critical for too long and is removed");
        }
        Event::Removed { ids } => {
            let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
            tracing::info!(
                ids = ids.join(" "),
                "what others wrote on this node is taken out of the catalog"
            );
        }
        Event::InSync => tracing::debug!("the catalog has what runs here"),
        Event::SyncFailed(reason) => {
            tracing::warn!(
                reason,
                "the catalog could not be told what runs here; it is tried again"
            );
        }
        Event::Refused { id, reason } => {
            tracing::warn!(%id, reason, "the catalog does not take this");
        }
        Event::Trouble(what) => tracing::warn!("{what}"),
    }
}
