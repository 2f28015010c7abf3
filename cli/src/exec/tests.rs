use std::collections::BTreeMap;
use std::sync::Mutex;

use lictor_agent::config::decode_base64;
use serde_json::{Value, json};

use crate::console::testing::{Ran, run, run_with};
use crate::fake::{Fake, Seen};

const SESSION: &str = "5e55";

/// Keys and values below that of the command, which are there once the agents were told.
type Answers = &'static [(&'static str, &'static str)];

/// An agent, and others that answer a command.
struct Cluster {
    about: Value,
    answers: Answers,
    /// Whether the agents were told.
    told: Mutex<bool>,
    /// What requests fail with, by a part of their line.
    fails: BTreeMap<&'static str, (u16, &'static str)>,
}

impl Cluster {
    fn new(answers: Answers) -> Self {
        Self {
            about: json!({"Config": {"Datacenter": "dc1", "NodeName": "here"}, "DebugConfig": {"DisableRemoteExec": false}}),
            answers,
            told: Mutex::new(false),
            fails: BTreeMap::new(),
        }
    }

    fn failing(answers: Answers, part: &'static str, status: u16, body: &'static str) -> Self {
        let mut cluster = Self::new(answers);
        cluster.fails.insert(part, (status, body));
        cluster
    }

    fn answer(&self, seen: &Seen) -> (u16, String) {
        let fails = self.fails.iter().find(|(part, _)| seen.line.contains(*part));
        if let Some((_, (status, body))) = fails {
            return (*status, (*body).to_owned());
        }
        let (method, target) = seen.line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match (method, path) {
            ("GET", "/v1/agent/self") => (200, self.about.to_string()),
            ("GET", "/v1/health/service/consul") => (200, json!([{"Node": {"Node": "far-1"}}]).to_string()),
            ("PUT", "/v1/session/create") => (200, json!({"ID": SESSION}).to_string()),
            ("PUT", "/v1/event/fire/_rexec") => {
                *self.told.lock().unwrap() = true;
                (200, json!({"ID": "e7e47"}).to_string())
            }
            ("GET", path) => self.read(path.strip_prefix("/v1/kv/").unwrap(), query),
            _ => (200, "true".to_owned()),
        }
    }

    fn read(&self, key: &str, query: &str) -> (u16, String) {
        let below = key.split_once(&format!("{SESSION}/")).unwrap().1;
        if query.contains("keys=") {
            let place = key.strip_suffix('/').unwrap();
            let mut keys = vec![format!("{place}/job")];
            if *self.told.lock().unwrap() {
                keys.extend(self.answers.iter().map(|(name, _)| format!("{place}/{name}")));
            }
            return (200, json!(keys).to_string());
        }
        match self.answers.iter().find(|(name, _)| *name == below) {
            Some((_, value)) => (200, (*value).to_owned()),
            None => (404, String::new()),
        }
    }
}

/// Runs `lictor exec` with these words. Waits are short: what is to come is there already.
fn exec(cluster: Cluster, words: &[&str], input: &str) -> (Ran, Vec<Seen>) {
    let fake = Fake::start(move |seen| cluster.answer(seen));
    let mut line = vec!["exec", "-wait-repl=0s"];
    if !words.iter().any(|word| word.starts_with("-wait=")) {
        line.push("-wait=1s");
    }
    line.extend(words);
    let ran = run_with(&line, input.as_bytes(), &[("CONSUL_HTTP_ADDR", &fake.address)]);
    (ran, fake.seen())
}

/// What was changed: request lines and bodies.
fn changes(seen: &[Seen]) -> Vec<(String, String)> {
    let changes = seen.iter().filter(|seen| !seen.line.starts_with("GET "));
    let pair = |seen: &Seen| {
        let body = String::from_utf8(seen.body.clone()).unwrap();
        (seen.line.clone(), body)
    };
    changes.map(pair).collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(line, body): &(&str, &str)| ((*line).to_owned(), (*body).to_owned());
    wanted.iter().map(pair).collect()
}

const TWO: Answers = &[
    ("a/ack", ""),
    ("a/exit", "0"),
    ("a/out/00000", "one\ntwo\n"),
    ("b/ack", ""),
    ("b/exit", "0"),
    ("b/out/00000", ""),
    ("b/out/00001", "no line end"),
];

#[test]
fn a_command_is_told_to_agents_and_what_they_say_is_printed() {
    let (ran, seen) = exec(Cluster::new(TWO), &["echo", "one;", "echo two"], "");
    let printed = "    a: one\n    a: two\n    a:\n    b: no line end\n==> a: finished with exit code 0\n\
                   ==> b: finished with exit code 0\n2 / 2 node(s) completed / acknowledged\n";
    assert_eq!(ran, Ran::ok(printed));
    assert_eq!(
        changes(&seen),
        pairs(&[
            (
                "PUT /v1/session/create",
                r#"{"Name":"Remote Exec","TTL":"15s","Behavior":"delete"}"#
            ),
            (
                "PUT /v1/kv/_rexec/5e55/job?acquire=5e55",
                r#"{"Command":"echo one; echo two","Wait":1000000000}"#
            ),
            (
                "PUT /v1/event/fire/_rexec",
                r#"{"Prefix":"_rexec","Session":"5e55"}"#
            ),
            ("PUT /v1/session/destroy/5e55", ""),
            ("DELETE /v1/kv/_rexec/5e55/?recurse=", ""),
        ])
    );
    let looks = seen.iter().filter(|seen| seen.line.contains("keys="));
    let looks: Vec<_> = looks.map(|seen| seen.line.clone()).collect();
    assert_eq!(looks[0], "GET /v1/kv/_rexec/5e55/?keys=&wait=1000ms");
}

#[test]
fn what_is_done_is_said_if_that_is_wanted() {
    let (ran, _) = exec(Cluster::new(TWO), &["-verbose", "true"], "");
    let (said, took) = ran.out.split_once("Completed in ").unwrap();
    assert_eq!(
        said,
        "Created remote execution session: 5e55\nUploaded remote execution spec\nFired remote execution event: e7e47\n\
         ==> a: acknowledged\n==> b: acknowledged\n    a: one\n    a: two\n    a:\n==> b: heartbeat received\n\
         \x20   b: no line end\n==> a: finished with exit code 0\n==> b: finished with exit code 0\n\
         2 / 2 node(s) completed / acknowledged\n"
    );
    let seconds = took.strip_suffix(" seconds\n").unwrap();
    assert_eq!(seconds.split_once('.').unwrap().1.len(), 2);
    assert!(seconds.parse::<f64>().unwrap() >= 1.0);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn commands_take_many_forms() {
    for (words, input, job) in [
        (
            &["-shell=false", "printf", "%s", "a b"][..],
            "",
            json!({"Args": ["printf", "%s", "a b"]}),
        ),
        (
            &["-"],
            "#!/bin/sh\necho x\n",
            json!({"Script": "IyEvYmluL3NoCmVjaG8geAo="}),
        ),
        (&["uptime"], "not read", json!({"Command": "uptime"})),
    ] {
        let (ran, seen) = exec(Cluster::new(TWO), words, input);
        assert_eq!(ran.code, 0);
        let upload = seen.iter().find(|seen| seen.line.contains("/job?")).unwrap();
        let mut sent: Value = serde_json::from_slice(&upload.body).unwrap();
        assert_eq!(
            sent.as_object_mut().unwrap().remove("Wait"),
            Some(json!(1_000_000_000))
        );
        assert_eq!(sent, job);
        if let Some(script) = job["Script"].as_str() {
            assert_eq!(decode_base64(script.as_bytes()).unwrap(), input.as_bytes());
        }
    }
}

#[test]
fn filters_and_prefixes_are_passed_on() {
    let words = ["-node=^a", "-service=w+", "-tag=t", "-prefix=a//b/", "true"];
    let (ran, seen) = exec(Cluster::new(TWO), &words, "");
    assert_eq!(ran.code, 0);
    let changes = changes(&seen);
    assert_eq!(changes[1].0, "PUT /v1/kv/a/b/5e55/job?acquire=5e55");
    let told = (
        "PUT /v1/event/fire/_rexec?node=%5Ea&service=w%2B&tag=t",
        r#"{"Prefix":"a/b","Session":"5e55"}"#,
    );
    assert_eq!(changes[2..3], pairs(&[told]));
    assert_eq!(changes[4].0, "DELETE /v1/kv/a/b/5e55/?recurse=");
}

#[test]
fn in_another_data_center_the_session_lives_on_a_server_there() {
    let (ran, seen) = exec(Cluster::new(TWO), &["-verbose", "-datacenter=dc2", "true"], "");
    assert!(
        ran.out.starts_with(
            "Remote exec in foreign datacenter, using Session TTL\nBinding session to remote node far-1@dc2\nCreated "
        ),
        "{}",
        ran.out
    );
    assert_eq!(ran.code, 0);
    let health = "GET /v1/health/service/consul?dc=dc2&passing=1";
    assert!(seen.iter().any(|seen| seen.line == health));
    let session = (
        "PUT /v1/session/create?dc=dc2",
        r#"{"Name":"Remote Exec via here@dc1","TTL":"15s","Behavior":"delete","Node":"far-1","NodeChecks":[]}"#,
    );
    assert_eq!(changes(&seen)[..1], pairs(&[session]));
    assert!(seen.iter().all(|seen| seen.line.contains("dc=dc2")));

    let (_, seen) = exec(Cluster::new(TWO), &["-datacenter=dc1", "true"], "");
    assert!(!seen.iter().any(|seen| seen.line.contains("/health/")));

    let failing = Cluster::failing(TWO, "/health/", 500, "No path to datacenter");
    let (ran, seen) = exec(failing, &["-datacenter=dc9", "true"], "");
    let message = "Failed to create session: Failed to find Consul server in remote datacenter: \
                   Unexpected response code: 500 (No path to datacenter)";
    assert_eq!(ran, Ran::error(message));
    assert_eq!(changes(&seen), []);
    let (ran, _) = exec(
        Cluster::failing(TWO, "/health/", 200, "[]"),
        &["-datacenter=dc9", "true"],
        "",
    );
    let message = "Failed to create session: Failed to find Consul server in remote datacenter";
    assert_eq!(ran, Ran::error(message));
}

#[test]
fn exit_codes_say_how_it_went() {
    for (answers, summary) in [
        (&[("a/ack", ""), ("a/exit", "3")][..], "1 / 1"),
        (
            &[("a/ack", ""), ("a/exit", "-1"), ("b/ack", ""), ("b/exit", "0")],
            "2 / 2",
        ),
        (&[("a/ack", ""), ("a/out/00000", "hangs")], "0 / 1"),
    ] {
        let (ran, _) = exec(Cluster::new(answers), &["true"], "");
        let end = format!("{summary} node(s) completed / acknowledged\n");
        assert!(ran.out.ends_with(&end), "{ran:?}");
        assert_eq!((ran.code, ran.err.as_str()), (2, ""));
    }
}

#[test]
fn why_nobody_may_have_taken_the_command_is_said() {
    const NOBODY: &str = "0 / 0 node(s) completed / acknowledged\n";
    const WHY: &str = "No agent has taken the command. Agents refuse commands of others unless \
                       disable_remote_exec = false is in their configuration";
    for (disabled, words, more) in [
        (Some(false), &["true"][..], ".\n"),
        (None, &["true"], ".\n"),
        (
            Some(true),
            &["true"],
            ", and it is not in that of the one asked here, here.\n",
        ),
        (Some(true), &["-datacenter=dc2", "true"], ".\n"),
        (
            Some(false),
            &["-service=s", "-tag=t", "true"],
            ". Or none matches -service, -tag.\n",
        ),
    ] {
        let mut cluster = Cluster::new(&[]);
        cluster.about["DebugConfig"]["DisableRemoteExec"] = json!(disabled);
        let (ran, _) = exec(cluster, &[&["-wait=10ms"], words].concat(), "");
        assert_eq!((ran.code, ran.out.as_str()), (0, NOBODY), "as scripts know it");
        assert_eq!(ran.err, format!("{WHY}{more}"));
    }
}

#[test]
fn answers_that_make_no_sense_are_left_out() {
    const ODD: Answers = &[
        ("a/ack", ""),
        ("a/exit", "x"),
        ("b/ack", ""),
        ("b/exit", "0"),
        ("b/what", ""),
    ];
    let (ran, _) = exec(Cluster::new(ODD), &["true"], "");
    assert_eq!(ran.code, 2);
    assert_eq!(
        ran.err,
        "Failed to parse exit code 'x': invalid digit found in string\nUnknown key 'b/what', ignoring.\n"
    );
    let (ran, _) = exec(Cluster::failing(TWO, "b/exit", 403, "no"), &["true"], "");
    assert_eq!(
        ran.err,
        "Failed to read key '_rexec/5e55/b/exit': Unexpected response code: 403 (no)\n"
    );
    assert!(ran.out.ends_with("1 / 2 node(s) completed / acknowledged\n"));
}

#[test]
fn failures_of_the_agent() {
    const CLEANED: [&str; 2] = [
        "PUT /v1/session/destroy/5e55",
        "DELETE /v1/kv/_rexec/5e55/?recurse=",
    ];
    for (part, status, body, message, cleans) in [
        (
            "/agent/self",
            500,
            "bad",
            "Error querying Lictor agent: Unexpected response code: 500 (bad)",
            false,
        ),
        (
            "/session/create",
            500,
            "bad",
            "Failed to create session: Unexpected response code: 500 (bad)",
            false,
        ),
        (
            "/job?",
            413,
            "large",
            "Failed to create job file: Unexpected response code: 413 (large)",
            true,
        ),
        (
            "/job?",
            200,
            "false",
            "Failed to create job file: the session 5e55 does not get its key",
            true,
        ),
        (
            "/event/",
            500,
            "bad",
            "Failed to fire event: Unexpected response code: 500 (bad)",
            true,
        ),
        (
            "keys=",
            403,
            "no",
            "Failed to read results: Unexpected response code: 403 (no)",
            true,
        ),
    ] {
        let (ran, seen) = exec(Cluster::failing(TWO, part, status, body), &["true"], "");
        assert_eq!(ran, Ran::error(message));
        let changes = changes(&seen);
        let cleaned = changes.iter().rev().take(2).rev();
        assert_eq!(
            cleaned.map(|(line, _)| line.as_str()).eq(CLEANED),
            cleans,
            "{changes:?}"
        );
    }
    let (ran, _) = exec(Cluster::failing(TWO, "/destroy/", 500, "bad"), &["true"], "");
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (
            0,
            "Failed to destroy session: Unexpected response code: 500 (bad)\n"
        )
    );
}

#[test]
fn mistakes_are_found_before_anything_is_sent() {
    for (words, message) in [
        (
            &["exec", "-node=(", "true"][..],
            "Failed to compile node filter regexp: error parsing regexp: missing closing ): `(`",
        ),
        (
            &["exec", "-tag=t", "true"],
            "Cannot provide tag filter without service filter.",
        ),
        (
            &["exec", "-shell=false", "-"],
            "Cannot configure -shell=false when reading from stdin",
        ),
        (
            &["exec", "-prefix=/a", "true"],
            "Failed to create job file: Invalid key. Key must not begin with a '/': /a",
        ),
    ] {
        assert_eq!(run(words), Ran::error(message));
    }
    for (words, message) in [
        (&["exec"][..], "Must specify a command to execute"),
        (&["exec", ""], "Must specify a command to execute"),
        (&["exec", "-"], "Must specify a command to execute"),
        (
            &["exec", "-wait=x", "true"],
            "invalid value \"x\" for flag -wait: time: invalid duration \"x\"",
        ),
        (
            &["exec", "-wait-repl=-1s", "true"],
            "invalid value \"-1s\" for flag -wait-repl: time: negative duration \"-1s\"",
        ),
    ] {
        let ran = run(words);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""));
        assert!(
            ran.err.starts_with(&format!("{message}\n\nUsage: lictor exec ")),
            "{}",
            ran.err
        );
    }
    let long = "x".repeat((1 << 20) + 1);
    assert_eq!(
        run_with(&["exec", "-"], long.as_bytes(), &[]),
        Ran::error("Failed to read stdin: a script may have 1048576 bytes, and this one has more")
    );
}
