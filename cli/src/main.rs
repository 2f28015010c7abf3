//! The `lictor` binary: starts an agent, or asks one something.

#![forbid(unsafe_code)]

mod agent;
mod catalog;
mod child;
mod client;
mod command;
mod console;
mod event;
mod exec;
#[cfg(test)]
mod fake;
mod flags;
mod force_leave;
mod help;
mod info;
mod join;
mod keygen;
mod kv;
mod leave;
mod lock;
mod maint;
mod members;
mod monitor;
mod operator;
mod path;
mod pattern;
mod reload;
mod rtt;
mod services;
mod session;
mod snapshot;
mod suggest;
mod table;
mod tls;
mod validate;
mod version;
mod watch;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::Sender;

use console::Console;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Servers allocate and free on several threads at a high rate, for which the system's allocator is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut argv = Vec::new();
    for word in std::env::args_os().skip(1) {
        match word.into_string() {
            Ok(word) => argv.push(word),
            Err(word) => {
                let _ = writeln!(io::stderr(), "The argument {} is not UTF-8 text.", word.display());
                return ExitCode::FAILURE;
            }
        }
    }
    let mut console = Console {
        input: &mut io::stdin(),
        out: &mut io::stdout(),
        err: &mut io::stderr(),
        env: &|name| std::env::var(name).ok(),
        directory: Path::new("."),
        succeed_on_interrupt: &succeed_on_interrupt,
        hear_interrupts: &hear_interrupts,
    };
    ExitCode::from(command::run(&argv, &mut console))
}

/// From now on SIGINT and SIGTERM end the process, with success.
fn succeed_on_interrupt() {
    // Where that is not possible, they end it all the same, with the shell's code for that.
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) {
        std::thread::spawn(move || {
            if signals.forever().next().is_some() {
                std::process::exit(0);
            }
        });
    }
}

/// From now on SIGINT and SIGTERM are sent to `hear`, for as long as somebody listens.
fn hear_interrupts(hear: Sender<i32>) {
    // Where that is not possible, they end the process as usual.
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) {
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if hear.send(signal).is_err() {
                    return;
                }
            }
        });
    }
}
