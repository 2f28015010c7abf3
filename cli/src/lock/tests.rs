use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, thread};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::console::Console;
use crate::console::testing::{Ran, run, run_with};
use crate::fake::{Fake, Seen};

/// A store of keys that knows sessions, as far as locks need them.
#[derive(Default)]
struct Store {
    entries: BTreeMap<String, Entry>,
    index: u64,
}

#[derive(Default)]
struct Entry {
    flags: String,
    value: Vec<u8>,
    session: Option<String>,
    index: u64,
}

impl Store {
    fn answer(&mut self, seen: &Seen) -> (u16, String) {
        let (method, target) = seen.line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let Some(key) = path.strip_prefix("/v1/kv/") else {
            return match path {
                "/v1/agent/self" => (200, "{}".to_owned()),
                "/v1/session/create" => (200, r#"{"ID":"5e55"}"#.to_owned()),
                _ => (200, "true".to_owned()),
            };
        };
        if method == "GET" {
            let recurse = query.contains_key("recurse");
            let found = self.entries.iter();
            let found = found.filter(|(known, _)| {
                if recurse {
                    known.starts_with(key)
                } else {
                    *known == key
                }
            });
            let found: Vec<String> = found.map(|(key, entry)| entry.json(key)).collect();
            return if found.is_empty() {
                (404, String::new())
            } else {
                (200, format!("[{}]", found.join(",")))
            };
        }
        let now = self.entries.get(key).map_or(0, |entry| entry.index);
        if query.get("cas").is_some_and(|cas| cas.parse() != Ok(now)) {
            return (200, "false".to_owned());
        }
        if method == "DELETE" {
            self.entries.remove(key);
            return (200, "true".to_owned());
        }
        self.index += 1;
        let index = self.index;
        let entry = self.entries.entry(key.to_owned()).or_default();
        let holder = entry.session.clone();
        match (query.get("acquire"), query.get("release")) {
            (Some(session), _) if holder.is_none() => entry.session = Some((*session).to_owned()),
            (_, Some(session)) if holder.as_deref() == Some(session) => entry.session = None,
            (None, None) => {}
            (Some(_), _) | (_, Some(_)) => return (200, "false".to_owned()),
        }
        entry.index = index;
        entry.flags = query["flags"].to_owned();
        entry.value.clone_from(&seen.body);
        (200, "true".to_owned())
    }
}

impl Entry {
    fn json(&self, key: &str) -> String {
        let Self {
            flags,
            value,
            session,
            index,
        } = self;
        let value = BASE64_STANDARD.encode(value);
        let session = session.as_ref().map_or(String::new(), |session| {
            format!(r#","Session":"{session}","LictorFence":41"#)
        });
        format!(r#"{{"Key":"{key}","Flags":{flags},"ModifyIndex":{index},"Value":"{value}"{session}}}"#)
    }
}

fn store(entries: &[(&str, u64, &str, Option<&str>)]) -> Fake {
    let mut store = Store::default();
    for (key, flags, value, session) in entries {
        store.index += 1;
        let entry = Entry {
            flags: flags.to_string(),
            value: value.as_bytes().to_vec(),
            session: session.map(str::to_owned),
            index: store.index,
        };
        store.entries.insert((*key).to_owned(), entry);
    }
    let store = Mutex::new(store);
    Fake::start(move |seen| store.lock().unwrap().answer(seen))
}

fn lock(fake: &Fake, words: &[&str]) -> Ran {
    let line = [&["lock"], words].concat();
    run_with(&line, b"", &[("CONSUL_HTTP_ADDR", &fake.address)])
}

/// What was asked of sessions, and what was changed.
fn changes(fake: &Fake) -> Vec<(String, String)> {
    let seen = fake
        .seen()
        .into_iter()
        .filter(|seen| !seen.line.starts_with("GET "));
    seen.map(|seen| (seen.line, String::from_utf8(seen.body).unwrap()))
        .collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted
        .iter()
        .map(|(line, body)| ((*line).to_owned(), (*body).to_owned()))
        .collect()
}

fn script(dir: &Path, text: &str) -> (String, PathBuf) {
    let out = dir.join("out");
    (format!("{text} > '{}'", out.display()), out)
}

#[test]
fn one_holder() {
    let dir = tempfile::tempdir().unwrap();
    let fake = store(&[]);
    let (child, out) = script(dir.path(), "echo $CONSUL_LOCK_HELD $LICTOR_LOCK_FENCE");
    assert_eq!(
        lock(&fake, &["-verbose", "-name=mine", "/a//b/", &child]),
        Ran::ok(
            "Setting up lock at path: a/b/.lock\nAttempting lock acquisition\nStarting handler\n\
             Child terminated, releasing lock\nCleanup succeeded\n"
        )
    );
    assert_eq!(fs::read_to_string(out).unwrap(), "true 41\n");
    assert_eq!(
        changes(&fake),
        pairs(&[
            (
                "PUT /v1/session/create",
                r#"{"Name":"mine","TTL":"15s","Behavior":"release"}"#
            ),
            ("PUT /v1/kv/a/b/.lock?acquire=5e55&flags=3304740253564472344", ""),
            ("PUT /v1/kv/a/b/.lock?flags=3304740253564472344&release=5e55", ""),
            ("PUT /v1/session/destroy/5e55", ""),
            ("DELETE /v1/kv/a/b/.lock?cas=2", ""),
        ])
    );
}

#[test]
fn several_holders() {
    const FLAGS: u64 = 16_210_313_421_097_356_768;
    // One holds it, and one that did has no session any more.
    let fake = store(&[
        (
            "s/.lock",
            FLAGS,
            r#"{"Limit":2,"Holders":{"dead":true,"other":true}}"#,
            None,
        ),
        ("s/other", FLAGS, "", Some("other")),
    ]);
    assert_eq!(
        lock(
            &fake,
            &[
                "-verbose",
                "-name=mine",
                "-n=2",
                "s",
                "test -z \"$LICTOR_LOCK_FENCE\""
            ]
        ),
        Ran::ok(
            "Setting up semaphore (limit 2) at prefix: s\nAttempting lock acquisition\nStarting handler\n\
             Child terminated, releasing lock\nCleanup aborted, lock in use\n"
        )
    );
    assert_eq!(
        changes(&fake),
        pairs(&[
            (
                "PUT /v1/session/create",
                r#"{"Name":"mine","TTL":"15s","Behavior":"delete"}"#
            ),
            ("PUT /v1/kv/s/5e55?acquire=5e55&flags=16210313421097356768", ""),
            (
                "PUT /v1/kv/s/.lock?cas=1&flags=16210313421097356768",
                r#"{"Limit":2,"Holders":{"5e55":true,"other":true}}"#
            ),
            (
                "PUT /v1/kv/s/.lock?cas=4&flags=16210313421097356768",
                r#"{"Limit":2,"Holders":{"other":true}}"#
            ),
            ("DELETE /v1/kv/s/5e55", ""),
            ("PUT /v1/session/destroy/5e55", ""),
        ])
    );
}

#[test]
fn a_list_without_a_value_names_nobody() {
    const FLAGS: u64 = 16_210_313_421_097_356_768;
    for value in ["", r#"{"Limit":2}"#, r#"{"Limit":2,"Holders":null}"#] {
        let fake = store(&[("s/.lock", FLAGS, value, None)]);
        assert_eq!(lock(&fake, &["-n=2", "s", "true"]), Ran::ok(""), "{value}");
        let body = r#"{"Limit":2,"Holders":{"5e55":true}}"#.to_owned();
        let taken = "PUT /v1/kv/s/.lock?cas=1&flags=16210313421097356768".to_owned();
        assert!(changes(&fake).contains(&(taken, body)), "{:?}", changes(&fake));
    }
}

#[test]
fn how_the_child_ends_is_told() {
    for (words, err, code) in [
        (&["a", "exit 7"][..], "Error running handler: exit status 7\n", 0),
        (
            &["-child-exit-code", "a", "exit 7"],
            "Error running handler: exit status 7\n",
            2,
        ),
        (&["-child-exit-code", "a", "true"], "", 0),
        (
            &["-shell=false", "a", "no-such-program"],
            "Error starting handler: exec: \"no-such-program\": executable file not found in $PATH\n",
            0,
        ),
        (
            &["-shell=false", "-child-exit-code", "a", "/no/such", "x"],
            "Error starting handler: fork/exec /no/such: no such file or directory\n",
            2,
        ),
    ] {
        let fake = store(&[]);
        let (out, err) = (String::new(), err.to_owned());
        assert_eq!(lock(&fake, words), Ran { code, out, err }, "{words:?}");
        assert!(fake.lines().contains(&"PUT /v1/session/destroy/5e55".to_owned()));
    }
}

#[test]
fn a_lock_of_another_is_waited_for_no_longer_than_asked() {
    let fake = store(&[("a/.lock", 3_304_740_253_564_472_344, "", Some("other"))]);
    assert_eq!(
        lock(&fake, &["-timeout=100ms", "a", "true"]),
        Ran::error("Shutdown triggered or timeout during lock acquisition")
    );
    let lines = fake.lines();
    assert!(
        lines.contains(&"PUT /v1/session/destroy/5e55".to_owned()),
        "{lines:?}"
    );
    assert!(!lines.iter().any(|line| line.contains("acquire=")), "{lines:?}");
}

#[test]
fn keys_of_another_kind_are_left_alone() {
    const LOCK: u64 = 3_304_740_253_564_472_344;
    const SEMAPHORE: u64 = 16_210_313_421_097_356_768;
    for (flags, value, words, wanted) in [
        (3, "x", &["a", "true"][..], "Existing key does not match lock use"),
        (
            SEMAPHORE,
            "",
            &["a", "true"],
            "Existing key does not match lock use",
        ),
        (
            LOCK,
            "",
            &["-n=2", "a", "true"],
            "Existing key does not match semaphore use",
        ),
        (
            SEMAPHORE,
            r#"{"Limit":3,"Holders":null}"#,
            &["-n=2", "a", "true"],
            "semaphore limit conflict (lock: 3, local: 2)",
        ),
        (
            SEMAPHORE,
            "{",
            &["-n=2", "a", "true"],
            "lock decoding failed: EOF while parsing an object at line 1 column 1",
        ),
        (
            SEMAPHORE,
            "{}",
            &["-n=2", "a", "true"],
            "semaphore limit conflict (lock: 0, local: 2)",
        ),
    ] {
        let fake = store(&[("a/.lock", flags, value, None)]);
        assert_eq!(
            lock(&fake, words),
            Ran::error(&format!("Lock acquisition failed: {wanted}"))
        );
        assert!(
            !fake
                .lines()
                .iter()
                .any(|line| line.starts_with("DELETE /v1/kv/a/.lock"))
        );
    }
}

#[test]
fn an_agent_that_fails() {
    for (path, status, wanted) in [
        (
            "/v1/agent/self",
            500,
            "Error querying Lictor agent: Unexpected response code: 500 (bad)",
        ),
        (
            "/v1/session/create",
            500,
            "Lock acquisition failed: failed to create session: Unexpected response code: 500 (bad)",
        ),
        (
            "/v1/kv/a/.lock",
            403,
            "Lock acquisition failed: failed to read lock: Unexpected response code: 403 (bad)",
        ),
    ] {
        let fake = Fake::start(move |seen: &Seen| {
            if seen.line.contains(path) {
                (status, "bad".to_owned())
            } else {
                Store::default().answer(seen)
            }
        });
        assert_eq!(lock(&fake, &["a", "true"]), Ran::error(wanted));
    }
}

#[test]
fn mistakes() {
    for (words, wanted) in [
        (
            &["lock", "-n=0", "a", "b"][..],
            "Lock holder limit must be positive",
        ),
        (&["lock", "-n=-1", "a", "b"], "Lock holder limit must be positive"),
        (
            &["lock", "-monitor-retry=-1", "a", "b"],
            "Number for 'monitor-retry' must be >= 0",
        ),
        (&["lock", "-try=-1s", "a", "b"], "Timeout must be positive"),
    ] {
        assert_eq!(run(words), Ran::error(wanted));
    }
    for (words, wanted) in [
        (&["lock"][..], "Key prefix and child command must be specified"),
        (&["lock", "a"], "Key prefix and child command must be specified"),
        (
            &["lock", "-timeout=1", "a", "b"],
            "invalid value \"1\" for flag -timeout: time: missing unit in duration \"1\"",
        ),
    ] {
        let ran = run(words);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""));
        assert!(
            ran.err.starts_with(&format!("{wanted}\n\nUsage: lictor lock ")),
            "{}",
            ran.err
        );
    }
}

/// An output that fails once it has to do with the loss of the lock, and remembers whether the child was alive then.
struct Broken {
    pid: PathBuf,
    alive: Option<bool>,
}

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.alive.is_none() && !String::from_utf8_lossy(bytes).contains("Lock lost") {
            return Ok(bytes.len());
        }
        if self.alive.is_none() {
            let pid = fs::read_to_string(&self.pid).unwrap();
            self.alive = Some(Path::new("/proc").join(pid.trim()).exists());
        }
        Err(io::Error::other("nobody reads"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_nobody_reads_keeps_no_child_alive() {
    const PATIENCE: Duration = Duration::from_mins(1);
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let (store, started) = (Mutex::new(Store::default()), pid.clone());
    let fake = Fake::start(move |seen| {
        if !seen.line.contains("index=") {
            return store.lock().unwrap().answer(seen);
        }
        // The lock is lost when the child runs.
        let begun = Instant::now();
        while !fs::read_to_string(&started).is_ok_and(|pid| pid.ends_with('\n')) {
            assert!(begun.elapsed() < PATIENCE, "the child does not start");
            thread::sleep(Duration::from_millis(5));
        }
        (404, String::new())
    });
    let mut out = Broken {
        pid: pid.clone(),
        alive: None,
    };
    let script = format!("echo $$ > '{}'; exec sleep 60", pid.display());
    let argv = ["lock", "-verbose", "a", &script].map(str::to_owned);
    let (mut input, mut err) = (io::empty(), Vec::new());
    let mut console = Console {
        input: &mut input,
        out: &mut out,
        err: &mut err,
        env: &|name| (name == "CONSUL_HTTP_ADDR").then(|| fake.address.clone()),
        directory: dir.path(),
        succeed_on_interrupt: &|| {},
        hear_interrupts: &|_| {},
    };
    let code = crate::command::run(&argv, &mut console);
    let err = String::from_utf8(err).unwrap();
    assert_eq!(out.alive, Some(false), "{err}");
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("Error running handler: signal: terminated\n"),
        "{err}"
    );
    assert!(err.contains("nobody reads"), "{err}");
    assert!(fake.lines().contains(&"PUT /v1/session/destroy/5e55".to_owned()));
}
