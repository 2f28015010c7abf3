//! `lictor exec`: commands on many machines, with real agents and programs.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Agent, Cluster, Ran, Scene, Signal, eventually, holds};

/// A file that lets an agent carry out commands of others.
fn permission(scene: &Scene) -> String {
    let path = scene.path("exec.json");
    fs::write(&path, r#"{"disable_remote_exec": false}"#).unwrap();
    path.display().to_string()
}

/// Waits until the agent knows that so many nodes are in good order, as sessions need it.
fn ready(agent: &Agent, nodes: usize) {
    eventually("the nodes are known to be alive", || {
        let passing = agent.get("/v1/health/state/passing").json();
        let known = passing.as_array().unwrap().iter();
        let alive = known.filter(|check| check["CheckID"] == "serfHealth").count() == nodes;
        holds(alive, passing.to_string())
    });
}

fn start(scene: &Scene, agent: &Agent, words: &[&str]) -> Child {
    let mut command: Command = scene.command(&[&["exec"], words].concat());
    let command = command.env("LICTOR_HTTP_ADDR", format!("{}:8500", agent.ip));
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finish(exec: Child) -> Ran {
    Ran::from(exec.wait_with_output().unwrap())
}

/// What a file says once it ends with a line.
fn written(path: &Path) -> String {
    eventually(&format!("{} is written", path.display()), || {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') { Ok(text) } else { Err(text) }
    })
}

fn gone(pid: &str) {
    eventually(&format!("{pid} is gone"), || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        holds(!stat.is_ok_and(|stat| !stat.contains(") Z ")), "it runs")
    });
}

/// Waits until nothing is left of any command.
fn nothing_left(agent: &Agent) {
    eventually("all of the command is gone", || {
        let (keys, sessions) = (agent.get("/v1/kv/?keys"), agent.get("/v1/session/list"));
        holds(
            [keys.json(), sessions.json()] == [serde_json::json!([]), serde_json::json!([])],
            format!("{keys:?}, {sessions:?}"),
        )
    });
}

#[test]
fn agents_that_are_allowed_to_carry_out_commands() {
    let scene = Scene::new();
    let file = permission(&scene);
    let cluster = Cluster::of_three(&scene, &["-config-file", &file]);
    let (data, first) = (
        scene.path("client").display().to_string(),
        scene.ip(1).to_string(),
    );
    let words = [
        "-data-dir",
        &data,
        "-encrypt",
        Cluster::KEY,
        "-retry-join",
        &first,
        "-config-file",
        &file,
    ];
    let mut client = Agent::new(&scene, 4, &words);
    client.start_and_lead();
    ready(&client, 4);
    let ran = finish(start(&scene, &client, &["-wait=10s", "echo $((40 + 2)); exit 3"]));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let mut lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.pop(), Some("4 / 4 node(s) completed / acknowledged"));
    lines.sort_unstable();
    let mut wanted = Vec::new();
    for agent in cluster.servers.iter().chain([&client]) {
        let name = &agent.name;
        wanted.push(format!("    {name}:"));
        wanted.push(format!("    {name}: 42"));
        wanted.push(format!("==> {name}: finished with exit code 3"));
    }
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
    nothing_left(&cluster[0]);
    // Clients of the API are not told of such events.
    assert_eq!(cluster[0].get("/v1/event/list").json(), serde_json::json!([]));

    let one = ["-wait=5s", "-node=^n2$", "-shell=false", "printf", "%s", "$HOME"];
    let ran = finish(start(&scene, &cluster[0], &one));
    let printed =
        "    n2: $HOME\n==> n2: finished with exit code 0\n1 / 1 node(s) completed / acknowledged\n";
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), printed));
    cluster[1].wait_log(&["carries out a command of others", "printf %s $HOME"]);
}

#[test]
fn an_agent_refuses_unless_it_is_allowed_to() {
    let scene = Scene::new();
    let agent = Agent::dev(&scene, 1, &[]);
    ready(&agent, 1);
    let path = scene.path("ran");
    let ran = finish(start(&scene, &agent, &["touch", &path.display().to_string()]));
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "0 / 0 node(s) completed / acknowledged\n")
    );
    assert_eq!(
        ran.err,
        "No agent has taken the command. Agents refuse commands of others unless disable_remote_exec = false is in their \
         configuration, and it is not in that of the one asked here, n1.\n"
    );
    agent.wait_log(&["refused a command of others", "disable_remote_exec"]);
    assert!(!path.exists());
    nothing_left(&agent);
    let about = agent.get("/v1/agent/self").json();
    assert_eq!(about["DebugConfig"]["DisableRemoteExec"], true);
}

#[test]
fn programs_end_with_whoever_wants_them_and_with_their_agent() {
    let scene = Scene::new();
    let file = permission(&scene);
    let mut agent = Agent::dev(&scene, 1, &["-config-file", &file]);
    ready(&agent, 1);
    let about = agent.get("/v1/agent/self").json();
    assert_eq!(about["DebugConfig"]["DisableRemoteExec"], false);
    let pids = scene.path("pids");
    let script = format!("sleep 1000 & echo $$ $! > '{}'; wait", pids.display());
    for (name, code) in [("-INT", Some(1)), ("-TERM", Some(1))] {
        let _ = fs::remove_file(&pids);
        let exec = start(&scene, &agent, &["-wait=5s", &script]);
        let running = written(&pids);
        let sent = Command::new("kill").args([name, &exec.id().to_string()]).status();
        assert!(sent.unwrap().success());
        let ran = finish(exec);
        assert_eq!((ran.code, ran.err.as_str()), (code, ""));
        running.split_whitespace().for_each(gone);
        nothing_left(&agent);
    }

    fs::remove_file(&pids).unwrap();
    let exec = start(&scene, &agent, &["-wait=5s", &script]);
    let running = written(&pids);
    agent.stop(Signal::Int);
    running.split_whitespace().for_each(gone);
    assert_ne!(finish(exec).code, Some(0));
}
