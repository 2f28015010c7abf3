//! Signals: the polite ways to tell an agent to stop.

use std::io;
use std::thread;

use async_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Stop (SIGINT, SIGTERM).
    Stop,
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
                let asked = if signal == SIGHUP {
                    Asked::Reload
                } else {
                    Asked::Stop
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
