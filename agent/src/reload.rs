//! Reading the configuration again, and doing what it says now.

use std::sync::Arc;

use async_lock::Mutex;
use lictor_local::{Error, Request};

use crate::config::{Reloaded, Reloader};
use crate::handle::Handle;
use crate::logging;
use crate::watches::Watches;

/// Does what the configuration's files say now, as far as that can be done without a restart.
#[derive(Debug)]
pub(crate) struct Reload {
    reloader: Arc<Reloader>,
    handle: Handle,
    watches: Arc<Watches>,
    /// One at a time: what was read last counts.
    turn: Mutex<()>,
}

impl Reload {
    pub(crate) fn new(reloader: Reloader, handle: Handle, watches: Arc<Watches>) -> Self {
        Self {
            reloader: Arc::new(reloader),
            handle,
            watches,
            turn: Mutex::new(()),
        }
    }

    /// Done when what is to run on this agent, and what it watches, has been changed. `Err`: why not, for people; then nothing was. The log
    /// says either.
    pub(crate) async fn run(&self) -> Result<(), String> {
        let _alone = self.turn.lock().await;
        tracing::info!("reading the configuration again");
        let read = self.read().await;
        match &read {
            Ok(()) => tracing::info!("the configuration was read again"),
            Err(reason) => tracing::error!(%reason, "the configuration stays as it was"),
        }
        read
    }

    async fn read(&self) -> Result<(), String> {
        let reloader = Arc::clone(&self.reloader);
        let read = blocking::unblock(move || reloader.reload()).await;
        let Reloaded {
            definitions,
            watches,
            log_level,
            needs_restart,
            warnings,
        } = read.map_err(|error| error.to_string())?;
        for warning in warnings {
            tracing::warn!("configuration: {warning}");
        }
        let set = self.handle.local(Request::SetDefinitions(definitions)).await;
        match set.ok_or("the agent is shutting down")? {
            Ok(()) => {}
            // It was done; the files say it again at the next start.
            Err(error @ Error::NotSaved(_)) => tracing::warn!(%error, "reading the configuration again"),
            Err(error) => return Err(error.to_string()),
        }
        self.watches.set(watches);
        logging::set_level(log_level);
        if !needs_restart.is_empty() {
            tracing::warn!(
                keys = needs_restart.join(", "),
                "these keys have changed, and take effect when the agent is restarted"
            );
        }
        Ok(())
    }
}
