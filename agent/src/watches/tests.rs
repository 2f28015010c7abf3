use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use event_listener::Event;
use futures_lite::future::block_on;
use lictor_http::{Limits, Listener, Server};
use lictor_metrics::Registry;
use lictor_watch::{Parameters, Plan};
use trillium::{Conn, Status};

use super::*;
use crate::config::{WatchAddress, WatchHandler};
use crate::process_group::testing::{PATIENCE, gone, wait_for};

/// An API that says one thing to every question.
#[derive(Default)]
struct Fake {
    said: Mutex<Said>,
    changed: Event,
}

#[derive(Clone, Default)]
struct Said {
    status: u16,
    /// `None`: there is no such header.
    index: Option<u64>,
    body: String,
    /// What was asked, with the token, if there is one.
    asked: Vec<String>,
}

impl Fake {
    fn start() -> (Arc<Self>, Door, Runtime) {
        let fake = Arc::new(Self::default());
        let runtime = lictor_runtime_smol::runtime();
        let (listener, door) = Listener::door();
        let handler = {
            let fake = Arc::clone(&fake);
            move |conn: Conn| {
                let fake = Arc::clone(&fake);
                async move { fake.answer(conn).await }
            }
        };
        let metrics = Registry::new();
        let server = Server::start(&runtime, vec![listener], Limits::default(), &metrics, handler);
        // It goes on without its handle.
        drop(block_on(server));
        (fake, door, runtime)
    }

    async fn answer(&self, conn: Conn) -> Conn {
        let query = conn.querystring().to_owned();
        let known = query.split('&').find_map(|pair| pair.strip_prefix("index="));
        let known: Option<u64> = known.map(|index| index.parse().unwrap());
        let token = conn.request_headers().get_str("X-Consul-Token").unwrap_or("-");
        let asked = format!("{} {token}", conn.path_and_query());
        self.lock().asked.push(asked);
        let said = loop {
            let changed = self.changed.listen();
            let said = self.lock().clone();
            if known.is_none() || said.index != known {
                break said;
            }
            changed.await;
        };
        let mut conn = conn
            .with_status(Status::try_from(said.status).unwrap())
            .with_body(said.body);
        if let Some(index) = said.index {
            conn.response_headers_mut()
                .insert("X-Consul-Index", index.to_string());
        }
        conn
    }

    /// Says something else from now on.
    fn say(&self, status: u16, index: Option<u64>, body: &str) {
        let mut said = self.lock();
        said.status = status;
        said.index = index;
        body.clone_into(&mut said.body);
        drop(said);
        self.changed.notify(usize::MAX);
    }

    /// Waits until that many questions were asked.
    fn wait_asked(&self, count: usize) {
        eventually(&format!("{count} questions"), || self.lock().asked.len() >= count);
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap()
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::yield_now();
    }
}

fn watch(kind: &str, given: serde_json::Value, handler: WatchHandler) -> Watch {
    let serde_json::Value::Object(given) = given else {
        panic!("parameters have names: {given}");
    };
    Watch {
        plan: Plan::new(kind, Parameters::new(given)).unwrap(),
        datacenter: None,
        token: None,
        handler,
    }
}

/// A watch of all services that runs a script.
fn services(script: &str) -> Watch {
    let args = ["sh", "-c", script].map(str::to_owned);
    watch(
        "services",
        serde_json::json!({}),
        WatchHandler::Program(args.into()),
    )
}

/// A script that writes down what it is told, and then waits for a file that has the version in its name.
fn diary(dir: &Path, name: &str) -> String {
    let dir = dir.display();
    format!(
        "{{ echo \"$CONSUL_INDEX\"; cat; }} >> {dir}/{name}; while [ ! -e {dir}/go-$CONSUL_INDEX ]; do sleep 0.01; done"
    )
}

fn go(dir: &Path, index: u64) {
    fs::write(dir.join(format!("go-{index}")), "").unwrap();
}

fn wait_text(file: &Path, text: &str) {
    let read = || fs::read_to_string(file).unwrap_or_default();
    let begun = Instant::now();
    while read() != text {
        assert!(
            begun.elapsed() < PATIENCE,
            "{}: {:?}, not {text:?}",
            file.display(),
            read()
        );
        std::thread::yield_now();
    }
}

#[test]
fn one_is_told_at_a_time_and_what_is_newest_is_next() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, door, runtime) = Fake::start();
    fake.say(200, Some(3), r#"{"a":[]}"#);
    let watches = Watches::new(runtime, door);
    watches.start(vec![services(&diary(dir.path(), "told"))]);
    let told = dir.path().join("told");
    wait_text(&told, "3\n{\"a\":[]}\n");

    // Both change while the program still runs.
    fake.say(200, Some(4), r#"{"b":[]}"#);
    fake.say(200, Some(5), r#"{"c":[]}"#);
    assert_eq!(fake.lock().asked, ["/v1/catalog/services?wait=300s -"]);
    go(dir.path(), 3);
    wait_text(&told, "3\n{\"a\":[]}\n5\n{\"c\":[]}\n");
    go(dir.path(), 5);

    // Another version of the same is not told.
    fake.wait_asked(3);
    fake.say(200, Some(6), r#"{"c":[]}"#);
    fake.wait_asked(4);
    go(dir.path(), 7);
    fake.say(200, Some(7), r#"{"d":["x<y"]}"#);
    wait_text(
        &told,
        "3\n{\"a\":[]}\n5\n{\"c\":[]}\n7\n{\"d\":[\"x\\u003cy\"]}\n",
    );
    assert_eq!(
        fake.lock().asked[1..4],
        [3, 5, 6].map(|index| format!("/v1/catalog/services?index={index}&wait=300s -"))
    );
    block_on(watches.stop());
}

#[test]
fn a_new_list_leaves_alone_what_is_in_the_old_one_too() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, door, runtime) = Fake::start();
    fake.say(200, Some(3), "{}");
    let watches = Watches::new(runtime, door);
    let [kept, gone, new] = ["kept", "gone", "new"].map(|name| services(&diary(dir.path(), name)));
    let file = |name: &str| dir.path().join(name);
    watches.set(vec![kept.clone(), gone.clone()]);
    // What was set before the start is newer than what the agent was started with.
    watches.start(vec![new.clone()]);
    for name in ["kept", "gone"] {
        wait_text(&file(name), "3\n{}\n");
    }
    watches.set(vec![new, kept]);
    wait_text(&file("new"), "3\n{}\n");
    assert_eq!(watches.lock().ending.len(), 1, "it is still being told");
    assert!(!watches.lock().ending[0].task.is_finished());

    // It is told to the end, and then nothing more.
    go(dir.path(), 3);
    eventually("the old one has ended", || {
        watches
            .lock()
            .ending
            .iter()
            .all(|ending| ending.task.is_finished())
    });
    go(dir.path(), 4);
    fake.say(200, Some(4), r#"{"a":[]}"#);
    for name in ["kept", "new"] {
        wait_text(&file(name), "3\n{}\n4\n{\"a\":[]}\n");
    }
    assert_eq!(fs::read_to_string(file("gone")).unwrap(), "3\n{}\n");
    watches.set(Vec::new());
    assert!(watches.lock().open.is_empty());
    block_on(watches.stop());
}

#[test]
fn nobody_is_told_anything_after_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let (fake, door, runtime) = Fake::start();
    fake.say(200, Some(3), "{}");
    let watches = Watches::new(runtime, door);
    let script = format!("sleep 1000 & echo $$ $! > {}; wait", pids.display());
    watches.start(vec![services(&script)]);
    let pids = wait_for(&pids);
    assert_eq!(pids.split_whitespace().count(), 2);
    block_on(watches.stop());
    assert!(pids.split_whitespace().all(gone));
    watches.set(vec![services("true")]);
    watches.start(vec![services("true")]);
    assert!(watches.lock().open.is_empty());
    assert_eq!(fake.lock().asked.len(), 1);
}

#[test]
fn what_is_asked_and_what_may_go_wrong() {
    let (fake, door, _runtime) = Fake::start();
    let none = || WatchHandler::Shell("true".to_owned());
    let plain = services("true");
    let key = watch("key", serde_json::json!({"key": "a b"}), none());
    let local = watch("agent_service", serde_json::json!({"service_id": "x"}), none());
    let ask_again = |watch: &Watch, progress: &mut Progress| {
        let asked = block_on(ask::ask(&door, &Arc::new(watch.clone()), progress));
        asked.map_err(|error| error.to_string())
    };
    let ask = |watch: &Watch| ask_again(watch, &mut Progress::default());
    let refused = |why: &str| Err(why.to_owned());
    let told = |json: &str, index: u64| {
        let json = json.to_owned();
        Ok(Some(Told { json, index }))
    };

    fake.say(500, Some(1), "No cluster leader\n");
    assert_eq!(
        ask(&plain),
        refused("Unexpected response code: 500 (No cluster leader)")
    );
    fake.say(404, Some(9), "");
    assert_eq!(ask(&key), told("null\n", 9));
    fake.say(404, None, "unknown service ID: x");
    assert_eq!(
        ask(&local),
        refused("Unexpected response code: 404 (unknown service ID: x)")
    );
    fake.say(200, None, "{}");
    assert_eq!(ask(&plain), refused("the answer has no X-Consul-Index"));
    assert_eq!(ask(&local), refused("the answer has no X-Consul-ContentHash"));
    fake.say(200, Some(4), "[]");
    let nonsense = ask(&plain).unwrap_err();
    assert!(
        nonsense.starts_with("cannot understand the answer: "),
        "{nonsense}"
    );

    let mut other = key;
    other.datacenter = Some("dc2".to_owned());
    other.token = Some("secret".to_owned());
    let mut progress = Progress::default();
    assert_eq!(ask_again(&other, &mut progress), told("null\n", 4));
    fake.say(200, Some(5), "[]");
    assert_eq!(ask_again(&other, &mut progress), Ok(None), "the same as before");
    assert_eq!(
        fake.lock().asked.last().unwrap(),
        "/v1/kv/a%20b?index=4&wait=300s&dc=dc2 secret"
    );
    other.token = Some("a\nb".to_owned());
    assert_eq!(
        ask(&other),
        refused("the token has characters that no header can have")
    );
}

#[test]
fn much_is_told_as_little_is() {
    let (fake, door, _runtime) = Fake::start();
    let value = "x".repeat(1 << 20);
    fake.say(200, Some(7), &format!(r#"{{"a":["{value}"]}}"#));
    let mut progress = Progress::default();
    let watch = Arc::new(services("true"));
    let told = block_on(ask::ask(&door, &watch, &mut progress)).unwrap().unwrap();
    assert_eq!((told.index, told.json), (7, format!("{{\"a\":[\"{value}\"]}}\n")));
    assert_eq!(progress.seen(), Some(&lictor_watch::Version::Index(7)));
}

#[test]
fn an_address_is_told_by_a_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"{\"a\":[]}\n") {
            let mut piece = [0; 1024];
            let length = stream.read(&mut piece).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&piece[..length]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .unwrap();
        String::from_utf8(heard).unwrap()
    });
    let (fake, door, runtime) = Fake::start();
    fake.say(200, Some(3), r#"{"a":[]}"#);
    let address = WatchAddress {
        url,
        method: "PUT".to_owned(),
        headers: vec![("X-Team".to_owned(), vec!["1".to_owned(), "2".to_owned()])],
        timeout: Duration::from_secs(20),
        skip_verify: false,
    };
    let watches = Watches::new(runtime, door);
    watches.start(vec![watch(
        "services",
        serde_json::json!({}),
        WatchHandler::Http(address),
    )]);
    let heard = heard.join().unwrap();
    let lines: Vec<_> = heard.split("\r\n").map(str::to_ascii_lowercase).collect();
    assert_eq!(lines[0], "put /hook?a=b http/1.1");
    for wanted in [
        "content-type: application/json",
        "content-length: 9",
        "x-consul-index: 3",
        "x-team: 1",
        "x-team: 2",
        concat!("user-agent: lictor/", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted}: {heard}");
    }
    // Once it has been told the next question is asked.
    fake.wait_asked(2);
    block_on(watches.stop());
}

#[test]
fn programs_need_not_listen_and_what_they_leave_behind_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (left, done) = (dir.path().join("left"), dir.path().join("done"));
    let (fake, door, runtime) = Fake::start();
    // More than a pipe holds.
    let names: Vec<_> = (0..20_000)
        .map(|number| format!("\"service-{number}\":[]"))
        .collect();
    fake.say(200, Some(3), &format!("{{{}}}", names.join(",")));
    // What is left behind says something, and by that finds out whether anybody could hear it.
    let script = format!(
        "sh -c 'while [ ! -e {0} ]; do sleep 0.01; done; echo heard; echo 1 > {1}; while [ ! -e {0}-2 ]; do sleep 0.01; done; echo 2 >> {1}' & echo \"$CONSUL_INDEX\"",
        left.display(),
        done.display()
    );
    let watches = Watches::new(runtime, door);
    watches.start(vec![watch(
        "services",
        serde_json::json!({}),
        WatchHandler::Shell(script),
    )]);
    fake.wait_asked(2);
    // Neither a reload nor the end of the agent changes that.
    watches.set(Vec::new());
    fs::write(&left, "").unwrap();
    wait_text(&done, "1\n");
    block_on(watches.stop());
    drop(watches);
    fs::write(left.with_file_name("left-2"), "").unwrap();
    wait_text(&done, "1\n2\n");
}

#[test]
fn a_changed_watch_begins_when_the_one_before_has_told_its_handler_all() {
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let (fake, door, runtime) = Fake::start();
    fake.say(200, Some(3), r#"{"a":[]}"#);
    let watches = Watches::new(runtime, door);
    let first = services(&diary(dir.path(), "told"));
    let in_dc = |name: &str| Watch {
        datacenter: Some(name.to_owned()),
        ..first.clone()
    };
    watches.start(vec![first.clone()]);
    wait_text(&told, "3\n{\"a\":[]}\n");
    // One that never began does not hold up the next, and one with another handler waits for nobody.
    watches.set(vec![in_dc("dc2")]);
    watches.set(vec![in_dc("dc3"), services(&diary(dir.path(), "other"))]);
    wait_text(&dir.path().join("other"), "3\n{\"a\":[]}\n");
    assert_eq!(fake.lock().asked.len(), 2, "who waits does not ask");
    fake.say(200, Some(4), r#"{"b":[]}"#);
    go(dir.path(), 3);
    wait_text(&told, "3\n{\"a\":[]}\n4\n{\"b\":[]}\n");
    assert!(!fake.lock().asked.iter().any(|asked| asked.contains("dc2")));
    assert!(fake.lock().asked.iter().any(|asked| asked.contains("dc3")));
    block_on(watches.stop());
}

#[test]
fn so_many_handlers_outlive_their_watches_and_the_oldest_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, door, runtime) = Fake::start();
    fake.say(200, Some(3), "{}");
    let watches = Watches::new(runtime, door);
    let file = |number: usize| dir.path().join(number.to_string());
    let hanging = |number: usize| services(&format!("echo $$ > {}; exec sleep 1000", file(number).display()));
    watches.start(vec![hanging(0)]);
    let oldest = wait_for(&file(0));
    let others: Vec<_> = (1..=ENDING_MAX).map(hanging).collect();
    watches.set(others);
    let pids: Vec<_> = (1..=ENDING_MAX).map(|number| wait_for(&file(number))).collect();
    assert_eq!(watches.lock().ending.len(), 1, "there is room for one");
    watches.set(Vec::new());
    assert!(gone(&oldest));
    let ending: Vec<_> = {
        let state = watches.lock();
        state
            .ending
            .iter()
            .map(|ending| ending.task.is_finished())
            .collect()
    };
    assert_eq!(ending, [false; ENDING_MAX]);
    block_on(watches.stop());
    assert!(pids.iter().all(|pid| gone(pid)));
}

#[test]
fn a_program_that_fails_is_told_of_the_next_change_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let (fake, door, runtime) = Fake::start();
    fake.say(200, Some(3), "{}");
    let watches = Watches::new(runtime, door);
    let none = watch(
        "services",
        serde_json::json!({}),
        WatchHandler::Program(vec!["/no/such".to_owned()]),
    );
    watches.start(vec![
        services(&format!("cat >> {}; exit 3", told.display())),
        none,
    ]);
    wait_text(&told, "{}\n");
    fake.wait_asked(4);
    fake.say(200, Some(4), r#"{"a":[]}"#);
    wait_text(&told, "{}\n{\"a\":[]}\n");
    fake.wait_asked(6);
    block_on(watches.stop());
}
