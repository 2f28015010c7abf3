//! What an agent logs, for those who read along.
//!
//! While nobody does, nothing is made of what is logged ([`LogReaders::wanted`]). A reader has a queue of its own, of which it can be said
//! how large it gets: one that does not keep up loses lines, and is told how many.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use event_listener::Event;
use lictor_machine::UnixMillis;
use serde::Serialize;

use crate::text::format_time;

/// How many may read along at once.
pub const LOG_READERS_MAX: usize = 64;

/// How many bytes may wait for a reader.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// How many bytes of a message or a value are shown.
const VALUE_BYTES_MAX: usize = 4 << 10;

/// How much something matters, from what nobody may miss to what only its author wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something may break.
    Warn,
    /// What operators want to know.
    Info,
    /// What helps to find a fault.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Reads a level's name, in any letter case.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim();
        if name.eq_ignore_ascii_case("err") {
            return Some(Self::Error);
        }
        Self::ALL
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(name))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// In columns of the same width.
    const fn column(self) -> &'static str {
        match self {
            Self::Error => "[ERROR] ",
            Self::Warn => "[WARN]  ",
            Self::Info => "[INFO]  ",
            Self::Debug => "[DEBUG] ",
            Self::Trace => "[TRACE] ",
        }
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// As text for people.
    Text,
    /// As a JSON object each.
    Json,
}

/// Something that is logged.
#[derive(Clone, Debug)]
pub struct LogRecord<'a> {
    /// When.
    pub at: SystemTime,
    /// How much it matters.
    pub level: LogLevel,
    /// Which part of the program logs it.
    pub module: &'a str,
    /// What it says.
    pub message: &'a str,
    /// Names and values that belong to it.
    pub fields: &'a [(&'a str, String)],
}

/// All who read along.
pub struct LogReaders {
    readers: Mutex<Vec<Arc<Reader>>>,
    /// The most that anybody wants, as a place in [`LogLevel::ALL`], plus one; 0: nobody wants anything.
    wanted: AtomicU8,
    changed: Box<dyn Fn() + Send + Sync>,
}

/// One who reads along. Dropping it ends that.
pub struct LogLines {
    readers: Arc<LogReaders>,
    reader: Arc<Reader>,
}

impl PartialEq for LogLines {
    /// Nobody else reads the same lines.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.reader, &other.reader)
    }
}

impl Eq for LogLines {}

struct Reader {
    level: LogLevel,
    format: LogFormat,
    queue: Mutex<Queue>,
    news: Event,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Bytes>,
    bytes: usize,
    lost: u64,
}

impl fmt::Debug for LogReaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReaders")
            .field("wanted", &self.wanted())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LogLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLines")
            .field("level", &self.reader.level)
            .field("format", &self.reader.format)
            .finish_non_exhaustive()
    }
}

impl LogReaders {
    /// Nobody yet. `changed` is called whenever [`Self::wanted`] may have become another.
    pub fn new(changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            readers: Mutex::default(),
            wanted: AtomicU8::new(0),
            changed: Box::new(changed),
        }
    }

    /// The least that anybody still wants to read; `None` while nobody reads.
    pub fn wanted(&self) -> Option<LogLevel> {
        let place = usize::from(self.wanted.load(Ordering::Relaxed));
        place
            .checked_sub(1)
            .and_then(|place| LogLevel::ALL.get(place))
            .copied()
    }

    /// Reads along from now on: what matters at least as much as `level`. `None` if too many do already.
    pub fn read(self: &Arc<Self>, level: LogLevel, format: LogFormat) -> Option<LogLines> {
        let reader = Arc::new(Reader {
            level,
            format,
            queue: Mutex::default(),
            news: Event::new(),
        });
        let mut readers = lock(&self.readers);
        if readers.len() >= LOG_READERS_MAX {
            return None;
        }
        readers.push(Arc::clone(&reader));
        self.note_wanted(readers);
        Some(LogLines {
            readers: Arc::clone(self),
            reader,
        })
    }

    /// Gives a record to those who want it; `shows` says whether that is so for a reader of this level. Never waits for a reader, and must
    /// not be called from within itself.
    pub fn push(&self, record: &LogRecord<'_>, shows: impl Fn(LogLevel) -> bool) {
        let (mut text, mut json) = (None, None);
        for reader in lock(&self.readers).iter().filter(|reader| shows(reader.level)) {
            let line = match reader.format {
                LogFormat::Text => text.get_or_insert_with(|| record.to_text()),
                LogFormat::Json => json.get_or_insert_with(|| record.to_json()),
            };
            reader.push(line);
        }
    }

    fn note_wanted(&self, readers: MutexGuard<'_, Vec<Arc<Reader>>>) {
        let wanted = readers.iter().map(|reader| reader.level as u8 + 1).max();
        self.wanted.store(wanted.unwrap_or(0), Ordering::Relaxed);
        // What is called may log.
        drop(readers);
        (self.changed)();
    }
}

impl Reader {
    fn push(&self, line: &Bytes) {
        let mut queue = lock(&self.queue);
        // Once a line was lost, so are all until the reader hears of it.
        if queue.lost > 0 || queue.bytes + line.len() > QUEUE_BYTES_MAX {
            queue.lost += 1;
        } else {
            queue.bytes += line.len();
            queue.lines.push_back(line.clone());
        }
        drop(queue);
        self.news.notify(1);
    }
}

impl LogLines {
    /// Waits for lines, and gives all that are there, each with its end. What was lost is told where it is missing.
    pub async fn next(&mut self) -> Vec<u8> {
        loop {
            let news = self.reader.news.listen();
            let Queue { lines, bytes, lost } = std::mem::take(&mut *lock(&self.reader.queue));
            if lines.is_empty() && lost == 0 {
                news.await;
                continue;
            }
            let mut all = Vec::with_capacity(bytes + 128);
            for line in lines {
                all.extend_from_slice(&line);
            }
            if lost > 0 {
                let record = LogRecord {
                    at: SystemTime::now(),
                    level: LogLevel::Warn,
                    module: "monitor",
                    message: "lines were lost, as they were not read fast enough",
                    fields: &[("lost", lost.to_string())],
                };
                all.extend_from_slice(&record.line(self.reader.format));
            }
            return all;
        }
    }
}

impl Drop for LogLines {
    fn drop(&mut self) {
        let mut readers = lock(&self.readers.readers);
        readers.retain(|reader| !Arc::ptr_eq(reader, &self.reader));
        self.readers.note_wanted(readers);
    }
}

impl LogRecord<'_> {
    /// A line that says it, with its end. A long message or value is cut.
    pub fn line(&self, format: LogFormat) -> Bytes {
        match format {
            LogFormat::Text => self.to_text(),
            LogFormat::Json => self.to_json(),
        }
    }

    fn to_text(&self) -> Bytes {
        let mut line = self.time(3);
        line.push(' ');
        line.push_str(self.level.column());
        line.push_str(self.module);
        line.push_str(": ");
        push_plain(&mut line, cut(self.message));
        if !self.fields.is_empty() {
            line.push(':');
        }
        for (name, value) in self.fields {
            line.push(' ');
            line.push_str(name);
            line.push('=');
            let value = cut(value);
            if value.is_empty() || value.contains([' ', '"', '=']) {
                line.push('"');
                push_plain(&mut line, &value.replace('"', "\\\""));
                line.push('"');
            } else {
                push_plain(&mut line, value);
            }
        }
        line.push('\n');
        line.into()
    }

    fn to_json(&self) -> Bytes {
        #[derive(Serialize)]
        struct View<'a> {
            #[serde(rename = "@level")]
            level: &'static str,
            #[serde(rename = "@message")]
            message: &'a str,
            #[serde(rename = "@module")]
            module: &'a str,
            #[serde(rename = "@timestamp")]
            timestamp: String,
            #[serde(flatten)]
            fields: BTreeMap<&'a str, &'a str>,
        }
        let view = View {
            level: self.level.name(),
            message: cut(self.message),
            module: self.module,
            timestamp: self.time(6),
            fields: self
                .fields
                .iter()
                .map(|(name, value)| (*name, cut(value)))
                .collect(),
        };
        let mut line = crate::json::to_vec(&view, false, 256);
        line.push(b'\n');
        line.into()
    }

    /// When, with so many digits of the second's fraction.
    fn time(&self, digits: usize) -> String {
        let since = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let mut time = format_time(UnixMillis(millis));
        let fraction = format!("{:06}", since.subsec_micros());
        if time.ends_with('Z') {
            time.pop();
        }
        time.push('.');
        time.push_str(&fraction[..digits.min(fraction.len())]);
        time.push('Z');
        time
    }
}

/// As much of a text as is shown.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]
}

/// What would end the line, or drive a terminal, is shown as an escape.
fn push_plain(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
}

/// What these locks guard is sound after any step, so a poisoned one means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn readers() -> Arc<LogReaders> {
        Arc::new(LogReaders::new(|| {}))
    }

    fn push(readers: &LogReaders, level: LogLevel, message: &str) {
        let record = LogRecord {
            at: UNIX_EPOCH + Duration::from_micros(1_795_384_601_216_789),
            level,
            module: "agent.http",
            message,
            fields: &[],
        };
        readers.push(&record, |wanted| level <= wanted);
    }

    fn next(lines: &mut LogLines) -> String {
        String::from_utf8(block_on(lines.next())).unwrap()
    }

    #[test]
    fn lines_look_as_people_and_programs_know_them() {
        let record = LogRecord {
            at: UNIX_EPOCH + Duration::from_micros(1_795_384_601_216_789),
            level: LogLevel::Debug,
            module: "agent.http",
            message: "Request\nfinished",
            fields: &[
                ("method", "GET".into()),
                ("url", "/a b\"".into()),
                ("from", String::new()),
            ],
        };
        assert_eq!(
            record.to_text(),
            "2026-11-22T21:56:41.216Z [DEBUG] agent.http: Request\\nfinished: method=GET url=\"/a b\\\"\" from=\"\"\n"
        );
        assert_eq!(
            record.to_json(),
            "{\"@level\":\"debug\",\"@message\":\"Request\\nfinished\",\"@module\":\"agent.http\",\
             \"@timestamp\":\"2026-11-22T21:56:41.216789Z\",\"from\":\"\",\"method\":\"GET\",\"url\":\"/a b\\\"\"}\n"
        );
    }

    #[test]
    fn everybody_reads_what_they_want() {
        let readers = readers();
        push(&readers, LogLevel::Error, "before");
        let mut info = readers.read(LogLevel::Info, LogFormat::Text).unwrap();
        let mut trace = readers.read(LogLevel::Trace, LogFormat::Json).unwrap();
        push(&readers, LogLevel::Debug, "fine");
        push(&readers, LogLevel::Warn, "careful");
        assert_eq!(
            next(&mut info),
            "2026-11-22T21:56:41.216Z [WARN]  agent.http: careful\n"
        );
        assert_eq!(next(&mut trace).lines().count(), 2);
        assert!(block_on(poll_once(Box::pin(info.next()))).is_none());
    }

    #[test]
    fn nothing_is_wanted_while_nobody_reads() {
        let changes = Arc::new(AtomicUsize::new(0));
        let readers = Arc::new(LogReaders::new({
            let changes = Arc::clone(&changes);
            move || {
                changes.fetch_add(1, Ordering::SeqCst);
            }
        }));
        assert_eq!(readers.wanted(), None);
        let warn = readers.read(LogLevel::Warn, LogFormat::Text).unwrap();
        let debug = readers.read(LogLevel::Debug, LogFormat::Text).unwrap();
        assert_eq!(readers.wanted(), Some(LogLevel::Debug));
        drop(debug);
        assert_eq!(readers.wanted(), Some(LogLevel::Warn));
        drop(warn);
        assert_eq!(readers.wanted(), None);
        assert_eq!(changes.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn slow_readers_lose_lines_and_are_told() {
        let readers = readers();
        let mut lines = readers.read(LogLevel::Info, LogFormat::Text).unwrap();
        let long = "x".repeat(VALUE_BYTES_MAX * 2);
        let fits = QUEUE_BYTES_MAX / (VALUE_BYTES_MAX + 100);
        for _ in 0..fits + 50 {
            push(&readers, LogLevel::Info, &long);
        }
        push(&readers, LogLevel::Info, "short");
        let read = next(&mut lines);
        assert!(read.len() <= QUEUE_BYTES_MAX + 200);
        let shown = read.lines().count() - 1;
        assert!(shown >= fits);
        let lost = fits + 51 - shown;
        let told = format!("monitor: lines were lost, as they were not read fast enough: lost={lost}\n");
        assert!(read.ends_with(&told), "{}", read.lines().last().unwrap());
        push(&readers, LogLevel::Info, "again");
        assert!(next(&mut lines).ends_with("agent.http: again\n"));
    }

    #[test]
    fn there_are_never_too_many() {
        let readers = readers();
        let mut all: Vec<_> = (0..LOG_READERS_MAX)
            .map(|_| readers.read(LogLevel::Info, LogFormat::Text).unwrap())
            .collect();
        assert!(readers.read(LogLevel::Info, LogFormat::Text).is_none());
        all.pop();
        assert!(readers.read(LogLevel::Info, LogFormat::Text).is_some());
    }

    #[test]
    fn levels_by_name() {
        for (name, level) in [
            ("INFO", Some(LogLevel::Info)),
            (" debug", Some(LogLevel::Debug)),
            ("Err", Some(LogLevel::Error)),
            ("error", Some(LogLevel::Error)),
            ("warning", None),
            ("", None),
        ] {
            assert_eq!(LogLevel::parse(name), level, "{name}");
        }
    }
}
