//! `lictor lock`, with real programs and signals.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Agent, Ran, Scene, eventually, holds};

fn start(scene: &Scene, agent: &Agent, words: &[&str]) -> Child {
    let mut command: Command = scene.command(&[&["lock", "-verbose"], words].concat());
    let command = command.env("LICTOR_HTTP_ADDR", format!("{}:8500", agent.ip));
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// An agent whose node is in the catalog, as sessions need it.
fn ready(scene: &Scene) -> Agent {
    let agent = Agent::dev(scene, 1, &[]);
    eventually("the node is known to be alive", || {
        let passing = agent.get("/v1/health/state/passing").json();
        let known = passing.as_array().unwrap().iter();
        let alive = known.filter(|check| check["CheckID"] == "serfHealth").count() == 1;
        holds(alive, passing.to_string())
    });
    agent
}

fn finish(lock: Child) -> Ran {
    Ran::from(lock.wait_with_output().unwrap())
}

/// What a file says once it ends with a line.
fn written(path: &Path) -> String {
    eventually(&format!("{} is written", path.display()), || {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') { Ok(text) } else { Err(text) }
    })
}

fn end_sessions(agent: &Agent) {
    for session in agent.get("/v1/session/list").json().as_array().unwrap() {
        let path = format!("/v1/session/destroy/{}", session["ID"].as_str().unwrap());
        assert_eq!(agent.call("PUT", &path, b"").status, 200);
    }
}

fn signal(lock: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &lock.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

#[test]
fn holders_take_turns_and_each_has_a_higher_fence() {
    let scene = Scene::new();
    let agent = ready(&scene);
    let (first, second, go) = (scene.path("first"), scene.path("second"), scene.path("go"));
    let hold = format!(
        "echo $CONSUL_LOCK_HELD $LICTOR_LOCK_FENCE > '{}'; until test -e '{}'; do sleep 0.05; done",
        first.display(),
        go.display()
    );
    let holder = start(&scene, &agent, &["a", &hold]);
    let fence = |text: &str| {
        text.strip_prefix("true ")
            .unwrap()
            .trim_end()
            .parse::<u64>()
            .unwrap()
    };
    let before = fence(&written(&first));
    let entry = agent.get("/v1/kv/a/.lock?fence").json();
    assert_eq!(entry[0]["LictorFence"], before);

    let refused = finish(start(&scene, &agent, &["-timeout=200ms", "a", "true"]));
    assert_eq!(
        (refused.code, refused.err.as_str()),
        (Some(1), "Shutdown triggered or timeout during lock acquisition\n")
    );
    let script = format!(
        "echo $CONSUL_LOCK_HELD $LICTOR_LOCK_FENCE > '{}'",
        second.display()
    );
    let waiting = start(&scene, &agent, &["a", &script]);
    assert!(!second.exists());
    fs::write(&go, "").unwrap();
    finish(holder).ok();
    finish(waiting).ok();
    assert!(fence(&written(&second)) > before);
    assert_eq!(agent.get("/v1/session/list").json(), serde_json::json!([]));
    assert_eq!(agent.get("/v1/kv/a/.lock").status, 404, "the last one cleans up");
}

#[test]
fn a_program_that_lost_its_lock_is_ended() {
    let scene = Scene::new();
    let agent = ready(&scene);
    for (words, stubborn) in [(&[][..], false), (&["-n=2"], false), (&["-n=1"], true)] {
        let pid = scene.path("pid");
        let _ = fs::remove_file(&pid);
        let trap = if stubborn { "trap '' TERM; " } else { "" };
        let script = format!("{trap}echo $$ > '{}'; exec sleep 1000", pid.display());
        let name = if words == ["-n=2"] { "s" } else { "l" };
        let lock = start(
            &scene,
            &agent,
            &[words, &["-child-exit-code", name, &script]].concat(),
        );
        let child = written(&pid);
        end_sessions(&agent);
        let ran = finish(lock);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(
            ran.out
                .contains("Lock lost, killing child\nTerminating child pid "),
            "{ran:?}"
        );
        let how = if stubborn { "killed" } else { "terminated" };
        assert_eq!(ran.err, format!("Error running handler: signal: {how}\n"));
        assert_eq!(ran.out.contains("grace period"), stubborn, "{ran:?}");
        assert!(!Path::new(&format!("/proc/{}", child.trim())).exists());
        // The keys are kept from everybody for a while.
        agent.call("DELETE", "/v1/kv/l?recurse", b"");
        agent.call("DELETE", "/v1/kv/s?recurse", b"");
    }
}

#[test]
fn who_is_interrupted_gives_back_what_it_holds() {
    let scene = Scene::new();
    let agent = ready(&scene);
    let pid = scene.path("pid");
    for name in ["-TERM", "-INT"] {
        let _ = fs::remove_file(&pid);
        let script = format!("echo $$ > '{}'; exec sleep 1000", pid.display());
        let lock = start(&scene, &agent, &["a", &script]);
        let child = written(&pid);
        let waiting = start(&scene, &agent, &["a", "true"]);
        eventually("both have sessions", || {
            let sessions = agent.get("/v1/session/list").json();
            holds(sessions.as_array().unwrap().len() == 2, sessions.to_string())
        });
        signal(&waiting, name);
        signal(&lock, name);
        let ran = finish(lock);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.contains("Shutdown triggered, killing child\n"), "{ran:?}");
        assert!(!Path::new(&format!("/proc/{}", child.trim())).exists());
        drop(finish(waiting));
        assert_eq!(agent.get("/v1/session/list").json(), serde_json::json!([]));
    }
}

#[test]
fn a_holder_does_not_trust_an_agent_that_says_nothing() {
    let scene = Scene::new();
    let agent = ready(&scene);
    let pid = scene.path("pid");
    let script = format!("echo $$ > '{}'; exec sleep 1000", pid.display());
    let lock = start(&scene, &agent, &["a", &script]);
    let child = written(&pid);
    agent.signal(crate::support::Signal::Stop);
    eventually("the child is ended", || {
        let alive = fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        holds(alive.is_err(), alive.unwrap_or_default())
    });
    agent.signal(crate::support::Signal::Cont);
    let ran = finish(lock);
    assert!(ran.out.contains("Lock lost, killing child\n"), "{ran:?}");
}
