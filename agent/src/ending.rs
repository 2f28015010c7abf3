//! How an agent ends: when somebody wants it to, in which way, and for how long it is waited for.
//!
//! An agent that *leaves* tells its pools, and a server is taken out of its cluster first: nobody takes it for failed, and it
//! ends with success. One that *stops* is expected back: a server hands over what it leads, and the exit code says that
//! the others were not told.

use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use event_listener::Event as Signal;
use futures_lite::FutureExt as _;
use lictor_node::agent::Input;
use lictor_runtime::Runtime;

use crate::config::Leave;
use crate::handle::Handle;
use crate::reload::Reload;
use crate::signals::Asked;

/// How long a leave may take.
const LEAVE_LIMIT: Duration = Duration::from_secs(15);

/// How long a stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// How often somebody who waits is told that it goes on.
const PROGRESS: Duration = Duration::from_secs(3);

/// In which way an agent is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// For good, as far as the others are concerned.
    Leave,
    /// To come back later.
    Stop,
}

/// How that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Everything was done.
    InGoodOrder,
    /// It took too long.
    TooLate,
    /// Somebody asked a second time, and is not kept waiting.
    AtOnce,
}

/// Sees an agent to its end.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Where a reload runs.
    pub(crate) runtime: Runtime,
    /// For a reload, which is asked for in the same ways.
    pub(crate) reload: Arc<Reload>,
    /// What people and supervisors ask for.
    pub(crate) asked: Receiver<Asked>,
    pub(crate) handle: Handle,
    /// Notified when the agent's machine has left, or stopped.
    pub(crate) gone: Arc<Signal>,
    /// Which signals make the agent leave.
    pub(crate) leave: Leave,
}

impl Ending {
    /// Waits until somebody wants the agent to end.
    pub(crate) async fn wanted(&self) -> Way {
        let way = |leave| if leave { Way::Leave } else { Way::Stop };
        loop {
            match self.asked.recv().await {
                Ok(Asked::Reload) => {
                    // Beside: whoever wants an end need not wait for a disk that does not answer.
                    let reload = Arc::clone(&self.reload);
                    let reading = self.runtime.spawn(async move {
                        // The log says how it went, and nobody else waits to hear.
                        let _ = reload.run().await;
                    });
                    reading.detach();
                }
                Ok(Asked::Leave) => return Way::Leave,
                Ok(Asked::Interrupt) => return way(self.leave.on_interrupt),
                // Nobody can ask any more: the agent would never end.
                Ok(Asked::Terminate) | Err(_) => return way(self.leave.on_terminate),
            }
        }
    }

    /// Has the agent's machine leave or stop, and waits until it has.
    pub(crate) async fn go(&self, way: Way) -> Gone {
        self.go_within(
            way,
            match way {
                Way::Leave => LEAVE_LIMIT,
                Way::Stop => STOP_LIMIT,
            },
        )
        .await
    }

    async fn go_within(&self, way: Way, limit: Duration) -> Gone {
        let input = match way {
            Way::Leave => {
                tracing::info!("Gracefully shutting down agent: the others are told that it leaves");
                Input::Leave
            }
            Way::Stop => {
                tracing::info!(
                    "Graceful shutdown disabled. Exiting, handing over what this agent leads; the others will take it for failed until it is back"
                );
                Input::Stop
            }
        };
        let listener = self.gone.listen();
        let gone = async {
            self.handle.post(input).await;
            listener.await;
            Gone::InGoodOrder
        };
        let late = async {
            async_io::Timer::after(limit).await;
            Gone::TooLate
        };
        let progress = async {
            loop {
                async_io::Timer::after(PROGRESS).await;
                tracing::info!("not done yet; a second signal ends the agent at once");
            }
        };
        let outcome = gone.or(self.insisted()).or(late).or(progress).await;
        match (outcome, way) {
            (Gone::InGoodOrder, Way::Leave) => tracing::info!("Graceful exit completed"),
            (Gone::InGoodOrder, Way::Stop) => {}
            (Gone::TooLate, _) => tracing::warn!(?limit, "Timeout on graceful leave. Exiting"),
            (Gone::AtOnce, _) => tracing::warn!("Caught second signal, Exiting"),
        }
        outcome
    }

    /// Waits until somebody asks once more, by a signal.
    async fn insisted(&self) -> Gone {
        loop {
            match self.asked.recv().await {
                Ok(Asked::Interrupt | Asked::Terminate) => return Gone::AtOnce,
                Ok(Asked::Reload | Asked::Leave) => {}
                Err(_) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_channel::Sender;
    use futures_lite::future::{block_on, zip};
    use lictor_runtime::channel;

    use super::*;
    use crate::config::{Flags, Reloader};
    use crate::handle::Posted;
    use crate::watches::Watches;

    struct Scene {
        ending: Ending,
        ask: Sender<Asked>,
        inputs: lictor_runtime::Receiver<Posted>,
    }

    fn scene(on_terminate: bool, on_interrupt: bool) -> Scene {
        let (inbox, completions, inputs) = channel(8);
        let (ask, asked) = async_channel::unbounded();
        let handle = Handle::new(inbox, completions);
        // What it reads does not exist.
        let flags = Flags {
            dev: true,
            ..Flags::default()
        };
        let (reloader, _, _) = Reloader::load(flags).unwrap();
        let runtime = lictor_runtime_smol::runtime();
        // Nobody is behind the door, since nothing is watched.
        let (_, door) = lictor_http::Listener::door();
        let watches = Arc::new(Watches::new(runtime.clone(), door));
        let ending = Ending {
            runtime,
            reload: Arc::new(Reload::new(reloader, handle.clone(), watches)),
            asked,
            handle,
            gone: Arc::default(),
            leave: Leave {
                on_terminate,
                on_interrupt,
                drain: Duration::ZERO,
            },
        };
        Scene { ending, ask, inputs }
    }

    #[test]
    fn signals_mean_what_the_configuration_says() {
        for (asked, on_terminate, on_interrupt, way) in [
            (Asked::Terminate, true, false, Way::Leave),
            (Asked::Terminate, false, true, Way::Stop),
            (Asked::Interrupt, false, true, Way::Leave),
            (Asked::Interrupt, true, false, Way::Stop),
            (Asked::Leave, false, false, Way::Leave),
        ] {
            let scene = scene(on_terminate, on_interrupt);
            // A reload ends nothing.
            scene.ask.try_send(Asked::Reload).unwrap();
            scene.ask.try_send(asked).unwrap();
            assert_eq!(block_on(scene.ending.wanted()), way, "{asked:?}");
        }
    }

    #[test]
    fn an_end_is_waited_for() {
        let mut scene = scene(true, true);
        let machine = async {
            let mut taken = Vec::new();
            scene.inputs.take(&mut taken, 8).await;
            assert!(matches!(taken[0].input, Input::Leave));
            scene.ending.gone.notify(1);
        };
        let (gone, ()) = block_on(zip(
            scene.ending.go_within(Way::Leave, Duration::from_mins(1)),
            machine,
        ));
        assert_eq!(gone, Gone::InGoodOrder);
    }

    #[test]
    fn but_not_for_ever_and_not_by_those_who_insist() {
        let scene = scene(true, true);
        let short = Duration::from_millis(1);
        assert_eq!(block_on(scene.ending.go_within(Way::Stop, short)), Gone::TooLate);
        // Another wish to leave is none to hurry.
        scene.ask.try_send(Asked::Leave).unwrap();
        scene.ask.try_send(Asked::Terminate).unwrap();
        let long = Duration::from_mins(1);
        assert_eq!(block_on(scene.ending.go_within(Way::Leave, long)), Gone::AtOnce);
    }
}
