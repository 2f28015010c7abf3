//! Signals: the polite ways to tell an agent to stop.

use std::io;
use std::thread;

use async_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// End, as a person at a terminal asks for it (SIGINT).
    Interrupt,
    /// End, as a supervisor asks for it (SIGTERM).
    Terminate,
    /// Leave for good; no signal asks for that, but the API does.
    Leave,
    /// Read the configuration again (SIGHUP).
    Reload,
}

/// Forwards signals from now on.
pub(crate) fn listen(to: Sender<Asked>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new()
        .name("lictor-signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let asked = match signal {
                    SIGHUP => Asked::Reload,
                    SIGINT => Asked::Interrupt,
                    _ => Asked::Terminate,
                };
                tracing::info!(
                    signal = signal_hook::low_level::signal_name(signal),
                    "caught a signal"
                );
                if to.send_blocking(asked).is_err() {
                    return;
                }
            }
        })?;
    Ok(())
}
