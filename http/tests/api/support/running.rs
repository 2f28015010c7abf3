//! What runs on the agent behind the API: the real thing, without a disk, without servers, at a time that stands still.

use std::sync::{Arc, Mutex, MutexGuard};

use lictor_catalog::{NodeDef, Text};
use lictor_http::Failure;
use lictor_local::{CheckSpec, Config, Definitions, Effect, Input, Local, LocalView, Memory, Request};
use lictor_machine::{Instant, Machine as _, Now, Token, UnixMillis};

const NOW: Now = Now {
    mono: Instant::from_millis(1),
    wall: UnixMillis(1),
};

/// What runs on an agent that runs programs for nobody.
pub(crate) struct Running(Mutex<Desk>);

struct Desk {
    local: Local,
    view: Arc<LocalView>,
    /// What was changed, in order.
    changes: Vec<Request>,
    next: u64,
}

impl Default for Running {
    fn default() -> Self {
        let node = NodeDef {
            name: "n1".into(),
            ..NodeDef::default()
        };
        let config = Config {
            keeps: false,
            services_max: 300,
            ..Config::new(node, 7)
        };
        let local = Local::start(config, Memory::default(), Definitions::default(), NOW).unwrap();
        let mut desk = Desk {
            local,
            view: Arc::default(),
            changes: Vec::new(),
            next: 0,
        };
        desk.turn(Token(0));
        Self(Mutex::new(desk))
    }
}

impl Running {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap()
    }

    pub(crate) fn view(&self) -> Arc<LocalView> {
        Arc::clone(&self.desk().view)
    }

    pub(crate) fn change(&self, request: Request) -> Result<(), Failure> {
        if request.runs_programs() {
            let text = "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true";
            return Err(Failure::Refused(text.to_owned()));
        }
        let mut desk = self.desk();
        desk.next += 1;
        let token = Token(desk.next);
        let input = Input::Request {
            token,
            request: request.clone(),
        };
        desk.local.handle(NOW, input).unwrap();
        desk.turn(token).expect("every request is answered")?;
        desk.changes.push(request);
        Ok(())
    }

    /// What was changed since the last time.
    pub(crate) fn take_changes(&self) -> Vec<Request> {
        std::mem::take(&mut self.desk().changes)
    }

    /// The check of an id, as the agent was told how to do it.
    pub(crate) fn check(&self, id: &str) -> CheckSpec {
        let view = self.view();
        CheckSpec::clone(
            &view
                .check(id)
                .unwrap_or_else(|| panic!("there is no check {id}"))
                .spec,
        )
    }

    /// The tags of a service.
    pub(crate) fn ids(&self) -> Vec<Text> {
        let view = self.view();
        view.services.iter().map(|(id, _)| id.clone()).collect()
    }
}

impl Desk {
    /// Does what is wanted done; the answer to a request, if there is one.
    fn turn(&mut self, wanted: Token) -> Option<Result<(), lictor_local::Error>> {
        let mut answer = None;
        while let Some(effect) = self.local.poll_effect() {
            match effect {
                Effect::Publish(view) => self.view = view,
                Effect::Answer { token, result } => {
                    assert_eq!(token, wanted);
                    assert_eq!(answer.replace(result), None, "an answer comes once");
                }
                // There is nobody to look, to ask or to tell.
                Effect::Probe { .. }
                | Effect::StopProbe(_)
                | Effect::Ask { .. }
                | Effect::Save { .. }
                | Effect::Event(_) => {}
            }
        }
        answer
    }
}
