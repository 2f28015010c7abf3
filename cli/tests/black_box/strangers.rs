//! Servers that do not belong to a cluster: they stay outside, and both sides say why.

use crate::support::{Agent, Cluster, Modes, Scene, eventually, holds};

/// A cluster of one, and a server that tries to join it.
fn meet(scene: &Scene, inside: &[&str], outside: &[&str]) -> (Agent, Agent) {
    let host = scene.ip(1).to_string();
    let data: Vec<_> = (1..=2)
        .map(|n| scene.path(format!("data{n}")).display().to_string())
        .collect();
    let alone = ["-server", "-bootstrap-expect", "1", "-data-dir", &data[0]];
    let mut member = Agent::new(scene, 1, &[&alone[..], inside].concat());
    member.start_and_lead();
    member.put("secret", "1");
    let join = ["-server", "-data-dir", &data[1], "-retry-join", &host];
    let mut stranger = Agent::new(scene, 2, &[&join[..], outside].concat());
    stranger.start();
    (member, stranger)
}

/// The stranger knows neither a leader nor anything else, and the member goes on.
fn stays_outside(member: &Agent, stranger: &Agent) {
    eventually("the stranger's API answers", || {
        let leader = stranger.try_call("GET", "/v1/status/leader", b"")?;
        assert_eq!(leader.text().trim_end(), "\"\"");
        Ok(())
    });
    let read = stranger.get("/v1/kv/secret?stale");
    assert_eq!((read.status, read.text()), (500, "No cluster leader"));
    member.put("secret", "2");
    assert_eq!(member.get("/v1/status/peers").json().as_array().unwrap().len(), 1);
}

const OTHER_KEY: &str = "bGljdG9yLXBlcmYtaGFybmVzcy1rZXktMzItYnl0ZXM=";

#[test]
fn another_key() {
    let scene = Scene::new();
    let (member, stranger) = meet(&scene, &["-encrypt", Cluster::KEY], &["-encrypt", OTHER_KEY]);
    for (side, other) in [(&stranger, member.ip), (&member, stranger.ip)] {
        side.wait_log(&[
            "WARN",
            "is -encrypt (or ca_file) the same on both?",
            &other.to_string(),
        ]);
    }
    stays_outside(&member, &stranger);
}

#[test]
fn no_key() {
    let scene = Scene::new();
    let (member, stranger) = meet(&scene, &["-encrypt", Cluster::KEY], &[]);
    for (side, other) in [(&stranger, member.ip), (&member, stranger.ip)] {
        side.wait_log(&[
            "WARN",
            "is -encrypt (or ca_file) the same on both?",
            &other.to_string(),
        ]);
    }
    stays_outside(&member, &stranger);
}

#[test]
fn another_data_center() {
    let scene = Scene::new();
    let key = ["-encrypt", Cluster::KEY];
    let (member, stranger) = meet(&scene, &key, &[&key[..], &["-datacenter", "mars"]].concat());
    for (side, other) in [(&stranger, member.ip), (&member, stranger.ip)] {
        let line = side.wait_log(&["WARN", "does not cross data centers", &other.to_string()]);
        assert!(line.contains("mars") && line.contains("dc1"), "{line}");
    }
    stays_outside(&member, &stranger);
}

/// Without keys, agents of one user trust each other.
#[test]
fn agents_of_one_user_need_no_key() {
    let scene = Scene::new();
    let mut cluster = Cluster::prepare::<&str>(&scene, 3, |_| &[]);
    cluster.start();
    cluster[1].put("a", "1");
    assert_eq!(cluster[2].value("a", Modes::Default).as_deref(), Some("1"));
}

/// One that has the key, and came after the cluster was founded, is no stranger.
#[test]
fn a_fourth_of_three() {
    let scene = Scene::new();
    let cluster = Cluster::of_three(&scene, &[]);
    cluster[0].put("a", "1");
    let data = scene.path("data4").display().to_string();
    let contact = cluster[0].ip.to_string();
    let mut fourth = Agent::new(
        &scene,
        4,
        &[
            "-server",
            "-bootstrap-expect=3",
            "-data-dir",
            &data,
            "-encrypt",
            Cluster::KEY,
            "-retry-join",
            &contact,
        ],
    );
    fourth.start();
    eventually("it votes", || {
        let configuration = cluster[0].get("/v1/operator/raft/configuration").json();
        let servers = configuration["Servers"].as_array().unwrap();
        let voters = servers.iter().filter(|server| server["Voter"] == true).count();
        holds(voters == 4, configuration.to_string())
    });
    assert_eq!(fourth.value("a", Modes::Default).as_deref(), Some("1"));
    fourth.put("b", "2");
    assert_eq!(cluster[0].value("b", Modes::Consistent).as_deref(), Some("2"));
}
