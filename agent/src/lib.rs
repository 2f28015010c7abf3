//! One running Lictor agent: configuration, sockets and disks around the pure cores.

#![forbid(unsafe_code)]

pub mod config;

/// Runs one agent until it is told to stop.
pub fn run(_config: config::Config) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
