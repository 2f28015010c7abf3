//! What runs on an agent: from its files, by the command line, and what a reload changes.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::support::{Agent, Ran, Scene, Signal, eventually, holds};

/// Runs a command against an agent.
fn ask(scene: &Scene, agent: &Agent, words: &[&str]) -> Ran {
    let mut command = scene.command(words);
    let command = command.env("LICTOR_HTTP_ADDR", format!("{}:8500", agent.ip));
    Ran::from(command.output().unwrap())
}

/// The ids of what is at `path` of an agent's API, sorted.
fn ids(agent: &Agent, path: &str) -> Vec<String> {
    let found = agent.get(path).json();
    let mut ids: Vec<String> = found.as_object().unwrap().keys().cloned().collect();
    ids.sort();
    ids
}

fn wait_service(scene: &Scene, agent: &Agent, line: &str, there: bool) {
    eventually(&format!("the catalog has {line:?}: {there}"), || {
        let listed = ask(scene, agent, &["catalog", "services", "-tags"]).out;
        let found = listed
            .lines()
            .any(|listed| listed.split_whitespace().eq(line.split_whitespace()));
        holds(found == there, listed)
    });
}

#[test]
fn files_define_what_runs_and_a_reload_follows_them() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("conf")).unwrap();
    scene.write(
        "conf/a.json",
        r#"{"service": {"name": "web", "tags": ["v1"], "check": {"args": ["true"], "interval": "1s"}},
            "check": {"id": "alive", "name": "alive", "ttl": "10m"}, "enable_local_script_checks": true, "log_level": "info"}"#,
    );
    let conf = scene.path("conf").display().to_string();
    let agent = Agent::dev(&scene, 1, &["-config-dir", &conf]);
    assert_eq!(ids(&agent, "/v1/agent/services"), ["web"]);
    assert_eq!(ids(&agent, "/v1/agent/checks"), ["alive", "service:web"]);
    eventually("the program says that web is well", || {
        let checks = agent.get("/v1/agent/checks").json();
        let status = checks["service:web"]["Status"].as_str().unwrap().to_owned();
        holds(status == "passing", status)
    });
    let registered = ask(
        &scene,
        &agent,
        &["services", "register", "-name=by-hand", "-port=5"],
    );
    assert_eq!(registered.ok(), "Registered service: by-hand\n");

    // Files change, and one is added: by the signal.
    scene.write(
        "conf/a.json",
        r#"{"service": {"name": "web", "tags": ["v2"], "port": 80}, "enable_local_script_checks": true, "log_level": "debug", "datacenter": "other"}"#,
    );
    scene.write("conf/b.json", r#"{"service": {"name": "db"}}"#);
    agent.signal(Signal::Hup);
    agent.wait_log(&["WARN", "datacenter", "restart"]);
    eventually("the new services run", || {
        let services = ids(&agent, "/v1/agent/services");
        holds(services == ["by-hand", "db", "web"], services.join(" "))
    });
    assert_eq!(agent.get("/v1/agent/service/web").json()["Port"], 80);
    assert_eq!(ids(&agent, "/v1/agent/checks"), [""; 0]);
    for (line, there) in [("web v2", true), ("db", true), ("by-hand", true)] {
        wait_service(&scene, &agent, line, there);
    }

    // What cannot be used changes nothing, and is said to whoever asked.
    scene.write(
        "conf/b.json",
        r#"{"service": {"name": "db"}, "check": {"name": "x"}}"#,
    );
    let refused = ask(&scene, &agent, &["reload"]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert_eq!(
        refused.err,
        "Error reloading: Unexpected response code: 500 (1 error occurred:\n\t* Failed to register check 'x': Check is not valid: TTL must be > 0 for TTL checks)\n"
    );
    assert_eq!(ids(&agent, "/v1/agent/services"), ["by-hand", "db", "web"]);
    std::fs::remove_file(scene.path("conf/b.json")).unwrap();
    assert_eq!(
        ask(&scene, &agent, &["reload"]).ok(),
        "Configuration reload triggered\n"
    );
    assert_eq!(ids(&agent, "/v1/agent/services"), ["by-hand", "web"]);
    wait_service(&scene, &agent, "db", false);
}

#[test]
fn programs_in_files_need_leave() {
    let scene = Scene::new();
    let file = scene.write(
        "a.json",
        r#"{"service": {"name": "web", "check": {"args": ["true"], "interval": "1s"}}}"#,
    );
    let ran = Agent::new(&scene, 1, &["-dev", "-config-file", &file]).run_to_end();
    assert_eq!(ran.code, Some(1));
    let wanted = "==> 1 error occurred:\n\t* Failed to register service \"web\": Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true\n";
    assert_eq!(ran.err, wanted);
    let judged = scene.run(&["validate", &scene.write("b.json", r#"{"data_dir": "d", "bind_addr": "127.0.0.1", "check": {"name": "x", "args": ["a"], "interval": "5s"}}"#)]);
    assert_eq!(judged.code, Some(1));
    assert!(
        judged.err.starts_with("Config validation failed: 1 error occurred:\n\t* Failed to register check 'x': Scripts are disabled"),
        "{judged:?}"
    );
}

#[test]
fn services_and_maintenance_by_hand_outlive_a_restart() {
    let scene = Scene::new();
    let data = scene.path("data").display().to_string();
    let mut agent = Agent::new(&scene, 1, &["-server", "-bootstrap-expect=1", "-data-dir", &data]);
    agent.start_and_lead();
    let file = scene.write(
        "web.json",
        r#"{"services": [{"name": "web", "id": "w1", "tags": ["b", "a"], "port": 80}, {"name": "db", "connect": {"sidecar_service": {}}}]}"#,
    );
    let said = ask(&scene, &agent, &["services", "register", &file]);
    assert_eq!(said.ok(), "Registered service: web\nRegistered service: db\n");
    assert_eq!(
        ids(&agent, "/v1/agent/services"),
        ["db", "db-sidecar-proxy", "w1"]
    );
    for (words, said) in [
        (
            &["maint", "-enable", "-reason=disk"][..],
            "Node maintenance is now enabled\n",
        ),
        (
            &["maint", "-enable", "-service=w1"],
            "Service maintenance is now enabled for \"w1\"\n",
        ),
    ] {
        assert_eq!(ask(&scene, &agent, words).ok(), said);
    }
    let listed = "Node:\n  Name:   n1\n  Reason: disk\n\nService:\n  ID:     w1\n  Reason: Maintenance mode is enabled for this service, but no reason was provided. This is a default message.\n\n";
    assert_eq!(ask(&scene, &agent, &["maint"]).ok(), listed);
    agent.stop(Signal::Kill);
    agent.start_and_lead();
    assert_eq!(ask(&scene, &agent, &["maint"]).ok(), listed);
    assert_eq!(
        ids(&agent, "/v1/agent/services"),
        ["db", "db-sidecar-proxy", "w1"]
    );
    wait_service(&scene, &agent, "web a,b", true);
    let nodes = ask(&scene, &agent, &["catalog", "nodes", "-service=web"]).ok();
    assert!(nodes.lines().nth(1).unwrap().starts_with("n1    "), "{nodes}");

    assert_eq!(
        ask(&scene, &agent, &["maint", "-disable"]).ok(),
        "Node maintenance is now disabled\n"
    );
    assert_eq!(
        ask(&scene, &agent, &["services", "deregister", &file]).ok(),
        "Deregistered service: w1\nDeregistered service: db\n"
    );
    assert_eq!(ask(&scene, &agent, &["maint"]).ok(), "");
    assert_eq!(ids(&agent, "/v1/agent/services"), [""; 0]);
    let unknown = ask(&scene, &agent, &["maint", "-enable", "-service=nope"]);
    assert_eq!(
        unknown.err,
        "Error enabling service maintenance: Unexpected response code: 404 (No service registered with ID \"nope\")\n"
    );
}

#[test]
fn a_log_is_read_along_until_somebody_has_seen_enough() {
    let scene = Scene::new();
    let agent = Agent::dev(&scene, 1, &[]);
    let read = |words: &[&str]| {
        let mut command = scene.command(words);
        command
            .env("LICTOR_HTTP_ADDR", format!("{}:8500", agent.ip))
            .stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    for words in [&["monitor"][..], &["monitor", "-log-level=trace", "-log-json"]] {
        let mut child = read(words);
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // Whoever begins to read sees what comes after that: something is logged until it has come.
        let (heard, tell) = std::sync::mpsc::channel();
        let reading = std::thread::spawn(move || {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            heard.send(line).unwrap();
            lines
        });
        let line = eventually("a line is printed", || {
            agent.signal(Signal::Hup);
            tell.try_recv().map_err(|_| "none yet".to_owned())
        });
        let json = words.len() > 1;
        assert_eq!(line.starts_with('{'), json, "{line}");
        let lines = reading.join().unwrap();
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &pid])
                .status()
                .unwrap()
                .success()
        );
        // The pipe stays open until it has ended: a closed one would be another reason to.
        assert_eq!(child.wait().unwrap().code(), Some(0));
        drop(lines);
    }
    let bad = ask(&scene, &agent, &["monitor", "-log-level=nope"]);
    assert_eq!(bad.code, Some(1));
    assert_eq!(
        bad.err,
        "Error starting monitor: Unexpected response code: 400 (Bad request: Unknown log level: nope); must be one of TRACE, DEBUG, INFO, WARN, ERR\n"
    );
}
