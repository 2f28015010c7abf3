//! The log: on standard output, as text or as one JSON object per line.

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogLevel};

/// Starts logging. The first call counts.
pub(crate) fn start(log: Log) {
    let level = match log.level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    // Libraries speak only of trouble, unless everything is wanted.
    let directives = match log.level {
        LogLevel::Trace => "trace".to_owned(),
        LogLevel::Debug | LogLevel::Info | LogLevel::Warn => format!("warn,lictor={level}"),
        LogLevel::Error => level.to_owned(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_ansi(false);
    let started = if log.json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
}
