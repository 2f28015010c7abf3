use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};
use lictor_catalog::{
    Action, Behavior, Changes, Command, Found, Key, KvPair, KvWrite, NodeDef, Outcome, Query, Registration,
    SessionDef, SessionId, SessionRef, State,
};
use lictor_http::{Failure, ReadMode};
use lictor_machine::{Index, UnixMillis};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::process_group::testing::{PATIENCE, gone, wait_for};

const SESSION: SessionId = SessionId(0xc933_9d6d_8110_e058_35ab_d3dc_9978_5b80);
const PLACE: &str = "_rexec/c9339d6d-8110-e058-35ab-d3dc99785b80";

/// A catalog that answers at once.
#[derive(Default)]
struct Memory {
    state: Mutex<State>,
    /// Whether what was written just now is not there for those who are content with less.
    lags: bool,
    /// What the next writes come to, if not what they ask for.
    fails: Mutex<Vec<Failure>>,
}

#[async_trait]
impl Store for Memory {
    async fn read(&self, key: Key, mode: ReadMode) -> Result<Option<Bytes>, Failure> {
        if self.lags && mode != ReadMode::Default {
            return Ok(None);
        }
        let state = self.state.lock().unwrap();
        let (_, Found::Entry(entry)) = state.query(&Query::KvGet(key)) else {
            panic!("the catalog answers something else");
        };
        Ok(entry.map(|entry| entry.value.clone()))
    }

    async fn write(&self, action: Action) -> Result<Outcome, Failure> {
        if let Some(failure) = self.fails.lock().unwrap().pop() {
            return Err(failure);
        }
        Ok(self.apply(action))
    }
}

impl Memory {
    fn apply(&self, action: Action) -> Outcome {
        let mut state = self.state.lock().unwrap();
        let index = Index(state.index().0 + 1);
        let stamp = UnixMillis(1);
        state
            .apply(index, &Command { stamp, action }, &mut Changes::default())
            .unwrap()
    }

    /// With a session, and a job under it.
    fn with(job: &Value) -> Self {
        let memory = Self::default();
        let node = NodeDef {
            name: "laptop".into(),
            address: "127.0.0.1".into(),
            ..NodeDef::default()
        };
        let registration = Registration {
            node,
            skip_node_update: false,
            service: None,
            checks: Vec::new(),
        };
        let registered = memory.apply(Action::Register(Box::new(registration)));
        assert_eq!(registered, Outcome::Done(true));
        let session = SessionDef {
            id: SESSION,
            name: "Remote Exec".into(),
            node: "laptop".into(),
            lock_delay_nanos: 0,
            behavior: Behavior::Delete,
            ttl: Duration::ZERO,
            ttl_text: "".into(),
            node_checks: Some(Vec::new()),
            service_checks: None,
            checks: Vec::new(),
        };
        let made = memory.apply(Action::CreateSession(Box::new(session)));
        assert_eq!(made, Outcome::Session(SESSION));
        let pair = KvPair {
            key: format!("{PLACE}/job").into(),
            value: job.to_string().into(),
            flags: 0,
        };
        let locked = memory.apply(Action::Kv(KvWrite::Lock(pair, SessionRef(SESSION.to_string()))));
        assert_eq!(locked, Outcome::Done(true));
        memory
    }

    fn end_session(&self) {
        let ended = self.apply(Action::EndSessions(vec![SESSION]));
        assert_eq!(ended, Outcome::Done(true));
    }

    /// The exit code that was answered, if any was, and all output; the former only if the node has said that it begins. Signs of life
    /// come as often as a slow machine lets them, and do not count.
    fn outcome(&self) -> Option<(String, String)> {
        let mut exit = None;
        let (mut begun, mut output) = (false, String::new());
        for (name, value) in self.answers() {
            match name.as_str() {
                "ack" => begun = true,
                "exit" => exit = Some(value),
                _ => output.push_str(&value),
            }
        }
        exit.filter(|_| begun).map(|exit| (exit, output))
    }

    /// What was answered: names below that of the node, and values.
    fn answers(&self) -> Vec<(String, String)> {
        let state = self.state.lock().unwrap();
        let below = format!("{PLACE}/web-1/");
        let (_, Found::Entries(entries)) = state.query(&Query::KvList(below.clone().into())) else {
            panic!("the catalog answers something else");
        };
        let entries = entries.iter().map(|entry| {
            assert_eq!(entry.session(), Some(&*SESSION.to_string()));
            let key = String::from_utf8(entry.key.to_vec()).unwrap();
            let name = key.strip_prefix(&below).unwrap().to_owned();
            (name, String::from_utf8(entry.value.to_vec()).unwrap())
        });
        entries.collect()
    }
}

fn order(payload: &str) -> Order {
    Order {
        origin: NodeId(7),
        event: UserEvent {
            id: Uuid::from_u128(5),
            name: EVENT.to_owned(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            node_filter: String::new(),
            service_filter: String::new(),
            tag_filter: String::new(),
            time: 1,
        },
    }
}

fn usual() -> Order {
    order(&json!({"Prefix": "_rexec", "Session": SESSION.to_string()}).to_string())
}

/// Carries out one command, and gives back its exit code and its output.
fn outcome_of(job: &Value) -> (String, String) {
    let memory = Memory::with(job);
    block_on(job::carry_out(usual(), "web-1", &memory));
    memory.outcome().unwrap()
}

fn outcome(exit: &str, output: &str) -> (String, String) {
    (exit.to_owned(), output.to_owned())
}

fn answers(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    wanted.iter().map(pair).collect()
}

const WAIT: u64 = 2_000_000_000;

#[test]
fn a_command_is_carried_out_and_answered_under_its_session() {
    for (job, exit, output) in [
        (json!({"Command": "echo a b; exit 3", "Wait": WAIT}), "3", "a b\n"),
        (
            json!({"Args": ["printf", "%s", "$HOME"], "Wait": WAIT}),
            "0",
            "$HOME",
        ),
        (
            json!({"Command": "", "Args": null, "Script": "ZWNobyBzY3JpcHQ=", "Wait": WAIT}),
            "0",
            "script\n",
        ),
        (
            json!({"Command": "echo c; kill -9 $$", "Wait": WAIT}),
            "-1",
            "c\n",
        ),
        (
            json!({"Args": ["no-such-program"]}),
            "255",
            "exec: \"no-such-program\": executable file not found in $PATH\n",
        ),
    ] {
        assert_eq!(outcome_of(&job), outcome(exit, output), "{job}");
    }
    assert_eq!(
        outcome_of(&json!({"Command": "true", "Wait": WAIT})),
        outcome("0", "")
    );
}

#[test]
fn a_command_that_cannot_be_understood_is_answered() {
    for (job, why) in [
        (
            json!({"Wait": WAIT}),
            "it has neither a command, nor arguments, nor a script",
        ),
        (json!({"Script": "?"}), "its script is not in base64: "),
        (
            json!({"Args": [1]}),
            "invalid type: integer `1`, expected a string",
        ),
        (json!("true"), "invalid type: string"),
        (
            json!({"Command": "x".repeat(600 << 10)}),
            "bytes, and may have 524288",
        ),
    ] {
        let (exit, output) = outcome_of(&job);
        assert_eq!(exit, "255");
        assert!(output.starts_with("this agent cannot understand the command: "));
        assert!(output.contains(why), "{output}");
    }
}

#[test]
fn how_long_silence_may_be() {
    for (wait, millis) in [
        (WAIT.into(), 2_000),
        (json!(0), 100),
        (json!(-1), 100),
        (json!(i64::MAX), 5_000),
    ] {
        let job = json!({"Command": "true", "Wait": wait}).to_string();
        let beat = job::Job::read(job.as_bytes()).unwrap().beat;
        assert_eq!(beat, Duration::from_millis(millis), "{job}");
    }
}

#[test]
fn events_that_lead_nowhere_do_nothing() {
    let job = json!({"Command": "true"});
    for payload in [
        "",
        "{}",
        "[]",
        r#"{"Prefix": "_rexec", "Session": ""}"#,
        r#"{"Prefix": "_rexec", "Session": "../../../../../../../../secret/abcdefg"}"#,
        r#"{"Prefix": "_rexec", "Session": "00000000-0000-0000-0000-000000000000"}"#,
        r#"{"Prefix": "other", "Session": "c9339d6d-8110-e058-35ab-d3dc99785b80"}"#,
    ] {
        let memory = Memory::with(&job);
        let before = memory.state.lock().unwrap().index();
        block_on(job::carry_out(order(payload), "web-1", &memory));
        assert_eq!(memory.state.lock().unwrap().index(), before, "{payload}");
    }
    // Where keys are is written in many ways.
    let memory = Memory::with(&job);
    let around = r#"{"Prefix": "//_rexec/", "Session": "c9339d6d-8110-e058-35ab-d3dc99785b80"}"#;
    block_on(job::carry_out(order(around), "web-1", &memory));
    assert_eq!(memory.outcome(), Some(outcome("0", "")));
}

#[test]
fn a_command_is_carried_out_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ran");
    let memory = Memory::with(&json!({"Command": format!("echo ran >> '{}'", file.display())}));
    for _ in 0..2 {
        block_on(job::carry_out(usual(), "web-1", &memory));
    }
    block_on(job::carry_out(usual(), "web-2", &memory));
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "ran\nran\n",
        "once by each node"
    );
}

#[test]
fn a_command_that_is_not_here_yet_is_asked_for_where_it_is() {
    let mut memory = Memory::with(&json!({"Command": "true"}));
    memory.lags = true;
    block_on(job::carry_out(usual(), "web-1", &memory));
    assert_eq!(memory.outcome(), Some(outcome("0", "")));
}

#[test]
fn a_command_whose_beginning_cannot_be_told_is_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ran");
    let job = json!({"Args": ["touch", file.display().to_string()]});
    let memory = Memory::with(&job);
    memory.fails.lock().unwrap().push(Failure::LeadershipLost);
    block_on(job::carry_out(usual(), "web-1", &memory));
    let memory = Memory::with(&job);
    memory.end_session();
    let pair = KvPair {
        key: format!("{PLACE}/job").into(),
        value: job.to_string().into(),
        flags: 0,
    };
    memory.apply(Action::Kv(KvWrite::Set(pair)));
    block_on(job::carry_out(usual(), "web-1", &memory));
    assert!(!file.exists());
}

#[test]
fn an_answer_that_cannot_be_written_is_tried_again() {
    let memory = Memory::with(&json!({"Command": "true"}));
    let mut post = post::Post::open(&usual().event.payload, "web-1", &memory).unwrap();
    memory.fails.lock().unwrap().push(Failure::NoLeader);
    block_on(post.say("a".into())).unwrap();
    block_on(post.say("b".into())).unwrap();
    assert_eq!(
        memory.answers(),
        answers(&[("out/00000", "a"), ("out/00001", "b")])
    );
    memory.fails.lock().unwrap().push(Failure::Stopping);
    let error = block_on(post.say("c".into())).unwrap_err();
    assert!(matches!(error, post::Undelivered::Failed(Failure::Stopping)));
    assert_eq!(post.pieces(), 2);
}

#[test]
fn a_program_that_nobody_waits_for_any_more_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script = format!("sleep 1000 & echo $$ $! > '{}'; wait", file.display());
    let memory = Memory::with(&json!({"Command": script, "Wait": 1}));
    std::thread::scope(|scope| {
        let ends = scope.spawn(|| block_on(job::carry_out(usual(), "web-1", &memory)));
        let pids = wait_for(&file);
        memory.end_session();
        ends.join().unwrap();
        assert!(pids.split_whitespace().all(gone));
    });
    assert_eq!(memory.answers(), []);
}

#[test]
fn silence_is_answered_with_signs_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = format!("until test -e '{}'; do sleep 0.05; done", go.display());
    let memory = Memory::with(&json!({"Command": script, "Wait": 1}));
    std::thread::scope(|scope| {
        let ends = scope.spawn(|| block_on(job::carry_out(usual(), "web-1", &memory)));
        let begun = std::time::Instant::now();
        while !memory
            .answers()
            .contains(&("out/00002".to_owned(), String::new()))
        {
            assert!(begun.elapsed() < PATIENCE, "{:?}", memory.answers());
            std::thread::yield_now();
        }
        std::fs::write(&go, "").unwrap();
        ends.join().unwrap();
    });
    assert_eq!(memory.answers()[1], ("exit".to_owned(), "0".to_owned()));
}

#[test]
fn of_a_flood_the_beginning_is_passed_on() {
    let flood = json!({"Command": "yes 0123456789abcde | head -c 3000000; exit 6", "Wait": WAIT});
    let (exit, said) = outcome_of(&flood);
    assert_eq!(exit, "6");
    let (output, notice) = said.split_at(1 << 20);
    assert_eq!(output, "0123456789abcde\n".repeat(1 << 16));
    assert_eq!(
        notice.trim(),
        "[it has said 1048576 bytes; what follows is not passed on]"
    );
}

#[test]
fn a_desk_takes_as_many_orders_as_there_is_room_for() {
    let (closed, none) = Desk::open(false);
    closed.take(usual());
    assert!(none.is_none());

    let (desk, orders) = Desk::open(true);
    let orders = orders.unwrap();
    for _ in 0..=WAITING {
        desk.take(usual());
    }
    assert_eq!(orders.len(), WAITING);
}

#[test]
fn so_many_commands_at_a_time_and_all_end_with_whom_they_were_given_to() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().display();
    let memory =
        Memory::with(&json!({"Command": format!("echo $$ > '{place}/'$$; sleep 1000"), "Wait": WAIT}));
    // Each is another command, as far as the agent can tell.
    let started = || std::fs::read_dir(dir.path()).unwrap().count();
    let (desk, orders) = Desk::open(true);
    let orders = orders.unwrap();
    let mut serving = Box::pin(serve(&orders, "web-1", &memory));
    for number in 0..=AT_ONCE {
        desk.take(usual());
        assert_eq!(block_on(poll_once(&mut serving)), None);
        // The next one is not taken for the same.
        memory.apply(Action::Kv(KvWrite::Delete(format!("{PLACE}/web-1/ack").into())));
        let wanted = (number + 1).min(AT_ONCE);
        let begun = std::time::Instant::now();
        while started() < wanted {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }
    assert_eq!((orders.len(), started()), (1, AT_ONCE));
    let pids: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| wait_for(&entry.unwrap().path()))
        .collect();
    drop(serving);
    assert!(pids.iter().all(|pid| gone(pid)));
}
