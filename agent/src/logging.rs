//! The log: on standard output, as text or as one JSON object per line; and for those who read along through the API. Both have the same lines.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::SystemTime;

use lictor_http::{LogFormat, LogLevel as ReadLevel, LogReaders, LogRecord};
use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, callsite};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{Log, LogLevel};

/// Those who read along. There is one log in a process, however many agents run in it.
static READERS: LazyLock<Arc<LogReaders>> =
    LazyLock::new(|| Arc::new(LogReaders::new(callsite::rebuild_interest_cache)));

/// What the names of this program's own parts begin with.
const OURS: &str = "lictor";

/// What is written down, once logging was started.
static WRITTEN: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging. The first call counts. Gives those who read along.
pub(crate) fn start(log: Log) -> Arc<LogReaders> {
    let (written, handle) = reload::Layer::new(written_at(log.level));
    let format = if log.json {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    let started = tracing_subscriber::registry()
        .with(Written(format, io::stdout).with_filter(written))
        .with(reading_along(Arc::clone(&READERS)))
        .try_init();
    match started {
        Ok(()) => _ = WRITTEN.set(handle),
        Err(error) => tracing::debug!(%error, "logging was started before"),
    }
    Arc::clone(&READERS)
}

/// From now on what is of this level, or more important, is written down.
pub(crate) fn set_level(level: LogLevel) {
    // Whoever has a log of their own in this process has a level of their own too.
    let changed = WRITTEN.get().map(|handle| handle.reload(written_at(level)));
    if let Some(Err(error)) = changed {
        tracing::error!(%error, "the level of the log could not be changed");
    }
}

/// A library that has a line for each frame: everything else would drown in them.
const DROWNING: &str = "quinn";

/// What is written down at a level. Libraries speak only of trouble, unless everything is wanted; some even then.
fn written_at(level: LogLevel) -> EnvFilter {
    EnvFilter::new(match level {
        LogLevel::Trace => format!("trace,{DROWNING}=warn"),
        LogLevel::Debug => format!("warn,{OURS}=debug"),
        LogLevel::Info => format!("warn,{OURS}=info"),
        LogLevel::Warn => "warn".to_owned(),
        LogLevel::Error => "error".to_owned(),
    })
}

/// Gives those who read along what they want, and does nothing while nobody does.
fn reading_along<S>(readers: Arc<LogReaders>) -> impl Layer<S>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    ReadAlong(Arc::clone(&readers)).with_filter(Wanted(readers))
}

/// Writes lines to what is opened for each.
struct Written<F>(LogFormat, F);

impl<S: Subscriber, W: io::Write, F: Fn() -> W + 'static> Layer<S> for Written<F> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Said::by(event).record(event, |record| record.line(self.0));
        // There is nobody else to be told.
        let _ = (self.1)().write_all(&line);
    }
}

struct ReadAlong(Arc<LogReaders>);

impl<S: Subscriber> Layer<S> for ReadAlong {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let shows = |reader| shows(reader, event.metadata());
        Said::by(event).record(event, |record| self.0.push(record, shows));
    }
}

/// What anybody wants. While nobody reads, that is nothing, and what is logged costs what it would cost without this.
struct Wanted(Arc<LogReaders>);

impl Wanted {
    fn shows(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.0.wanted().is_some_and(|reader| shows(reader, metadata))
    }
}

impl<S> Filter<S> for Wanted {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.shows(metadata)
    }

    // The answer is kept until what is wanted changes.
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.shows(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.0.wanted() {
            None => LevelFilter::OFF,
            Some(ReadLevel::Error) => LevelFilter::ERROR,
            Some(ReadLevel::Warn) => LevelFilter::WARN,
            Some(ReadLevel::Info) => LevelFilter::INFO,
            Some(ReadLevel::Debug) => LevelFilter::DEBUG,
            Some(ReadLevel::Trace) => LevelFilter::TRACE,
        })
    }
}

/// Whether one who reads along at a level is shown something: as the log itself would at that level.
fn shows(reader: ReadLevel, metadata: &Metadata<'_>) -> bool {
    let level = read_level(*metadata.level());
    let target = metadata.target();
    let everything = reader == ReadLevel::Trace && !target.starts_with(DROWNING);
    let least = if everything || target.starts_with(OURS) {
        reader
    } else {
        reader.min(ReadLevel::Warn)
    };
    level <= least
}

fn read_level(level: Level) -> ReadLevel {
    if level == Level::ERROR {
        ReadLevel::Error
    } else if level == Level::WARN {
        ReadLevel::Warn
    } else if level == Level::INFO {
        ReadLevel::Info
    } else if level == Level::DEBUG {
        ReadLevel::Debug
    } else {
        ReadLevel::Trace
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, String)>,
    /// Who says it, if it came by way of the `log` crate.
    module: Option<String>,
}

/// What the fields of events begin with that came by way of the `log` crate, and that say where they came from.
const BY_LOG: &str = "log.";

impl Said {
    fn by(event: &Event<'_>) -> Self {
        let mut said = Self::default();
        event.record(&mut said);
        said
    }

    /// Does something with the record that this makes of `event`.
    fn record<T>(&self, event: &Event<'_>, tell: impl FnOnce(&LogRecord<'_>) -> T) -> T {
        let metadata = event.metadata();
        let module = self.module.as_deref().unwrap_or(metadata.target());
        tell(&LogRecord {
            at: SystemTime::now(),
            level: read_level(*metadata.level()),
            module: &module.replace("::", "."),
            message: &self.message,
            fields: &self.fields,
        })
    }

    fn take(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let into = if field.name() == "message" {
            &mut self.message
        } else if let Some(name) = field.name().strip_prefix(BY_LOG) {
            if name != "target" {
                return;
            }
            self.module.insert(String::new())
        } else {
            let (_, text) = self.fields.push_mut((field.name(), String::new()));
            text
        };
        // Writing to a string cannot fail.
        let _ = into.write_fmt(value);
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};
    use lictor_http::LogFormat;

    use super::*;

    fn with_readers(test: impl FnOnce(&Arc<LogReaders>)) {
        let readers = Arc::new(LogReaders::new(callsite::rebuild_interest_cache));
        let subscriber = tracing_subscriber::registry().with(reading_along(Arc::clone(&readers)));
        tracing::subscriber::with_default(subscriber, || test(&readers));
    }

    fn next(lines: &mut lictor_http::LogLines) -> String {
        let next = block_on(poll_once(Box::pin(lines.next())));
        String::from_utf8(next.unwrap_or_default()).unwrap()
    }

    #[test]
    fn who_reads_along_sees_what_the_log_would_show() {
        with_readers(|readers| {
            let say = || {
                tracing::debug!(target: "lictor_agent::checks", count = 3, name = "web", "fine");
                tracing::info!(target: "quinn::connection", "chatter");
                tracing::warn!(target: "quinn::connection", error = %"no route", "trouble");
            };
            say();
            let mut info = readers.read(ReadLevel::Info, LogFormat::Text).unwrap();
            say();
            let mut debug = readers.read(ReadLevel::Debug, LogFormat::Text).unwrap();
            say();
            let shown = |text: &str| -> Vec<String> {
                // What comes before is the time.
                text.lines().map(|line| line[25..].to_owned()).collect()
            };
            let trouble = "[WARN]  quinn.connection: trouble: error=\"no route\"";
            assert_eq!(shown(&next(&mut info)), [trouble, trouble]);
            let fine = "[DEBUG] lictor_agent.checks: fine: count=3 name=web";
            assert_eq!(shown(&next(&mut debug)), [fine, trouble]);
            let mut trace = readers.read(ReadLevel::Trace, LogFormat::Text).unwrap();
            say();
            tracing::trace!(target: "trillium_http", "everything");
            assert_eq!(
                next(&mut trace).lines().count(),
                3,
                "but not a line for each frame"
            );
        });
    }

    /// What a log holds, for tests.
    #[derive(Clone, Default)]
    struct Paper(Arc<std::sync::Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_log_has_the_lines_that_readers_see() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let paper = Paper::default();
            let (readers, sheet) = (
                Arc::new(LogReaders::new(callsite::rebuild_interest_cache)),
                paper.clone(),
            );
            let subscriber = tracing_subscriber::registry()
                .with(Written(format, move || sheet.clone()))
                .with(reading_along(Arc::clone(&readers)));
            tracing::subscriber::with_default(subscriber, || {
                let mut lines = readers.read(ReadLevel::Info, format).unwrap();
                tracing::info!(target: "lictor_agent::checks", count = 3, "fine");
                tracing::event!(target: "log", Level::WARN, { "log.target" = "rustls::client", "log.line" = 7 }, "trouble");
                // The times may differ by a little.
                let timeless = |text: &str| -> Vec<String> {
                    let digits = |c: char| c.is_ascii_digit();
                    text.lines().map(|line| line.replace(digits, "0")).collect()
                };
                let written = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
                assert_eq!(timeless(&written), timeless(&next(&mut lines)));
                assert!(
                    written.contains("rustls.client") && !written.contains("log."),
                    "{written}"
                );
            });
        }
    }

    #[test]
    fn the_level_may_change_while_the_program_runs() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        struct Count(Arc<AtomicUsize>);
        impl<S: Subscriber> Layer<S> for Count {
            fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(AtomicUsize::new(0));
        let (written, handle) = reload::Layer::new(written_at(LogLevel::Info));
        let subscriber = tracing_subscriber::registry().with(Count(Arc::clone(&count)).with_filter(written));
        tracing::subscriber::with_default(subscriber, || {
            // At each level: of this program, and of a library.
            for (level, seen) in [
                (LogLevel::Info, 4),
                (LogLevel::Error, 2),
                (LogLevel::Warn, 3),
                (LogLevel::Debug, 5),
                (LogLevel::Trace, 6),
            ] {
                handle.reload(written_at(level)).unwrap();
                count.store(0, Ordering::Relaxed);
                tracing::error!(target: "lictor_agent::checks", "one");
                tracing::error!(target: "quinn::connection", "two");
                tracing::warn!(target: "quinn::connection", "three");
                tracing::info!(target: "lictor_agent::checks", "four");
                tracing::debug!(target: "lictor_agent::checks", "five");
                tracing::debug!(target: "quinn::connection", "six");
                tracing::trace!(target: "lictor_agent::checks", "seven");
                assert_eq!(count.load(Ordering::Relaxed), seen, "{level:?}");
            }
        });
    }

    #[test]
    fn while_nobody_reads_nothing_is_made_of_what_is_logged() {
        struct Loud;
        impl fmt::Display for Loud {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("somebody looked")
            }
        }
        with_readers(|readers| {
            tracing::error!(loud = %Loud, "unheard");
            let lines = readers.read(ReadLevel::Error, LogFormat::Json).unwrap();
            tracing::warn!(loud = %Loud, "unheard");
            drop(lines);
            tracing::error!(loud = %Loud, "unheard");
        });
    }
}
