//! Agents in client mode, other data centers, leaving, and clusters that lost their quorum.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Agent, Cluster, Modes, STOPPED, Scene, Signal, eventually, holds};

/// A client agent of the cluster's key that knows one address; waits until it has found the servers.
pub(crate) fn client(scene: &Scene, host: u8, of: &Agent) -> Agent {
    let data = scene.path(format!("data{host}")).display().to_string();
    let join = of.ip.to_string();
    let mut client = Agent::new(
        scene,
        host,
        &["-data-dir", &data, "-encrypt", Cluster::KEY, "-retry-join", &join],
    );
    client.start_and_lead();
    client
}

/// How an agent sees the member `name` of a pool: 1 is alive, 3 left, 4 failed.
fn status_of(agent: &Agent, name: &str, pool: &str) -> Result<u64, String> {
    let members = agent
        .try_call("GET", &format!("/v1/agent/members{pool}"), b"")?
        .json();
    let found = members
        .as_array()
        .unwrap()
        .iter()
        .find(|member| member["Name"] == name);
    let status = found.and_then(|member| member["Status"].as_u64());
    status.ok_or_else(|| format!("{name} is not known: {members}"))
}

fn wait_status(agent: &Agent, name: &str, pool: &str, status: u64) {
    eventually(&format!("{} sees {name} as {status}", agent.name), || {
        let seen = status_of(agent, name, pool)?;
        holds(seen == status, format!("it sees {seen}"))
    });
}

#[test]
fn a_client_agent_passes_requests_on_whoever_dies() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    let client = client(&scene, 9, &cluster[0]);
    client.put("a", "1");
    for mode in Modes::ALL {
        eventually("the value is read", || {
            let value = client.value("a", mode);
            holds(value.as_deref() == Some("1"), format!("{mode:?}: {value:?}"))
        });
    }
    assert_eq!(cluster[1].value("a", Modes::Consistent).as_deref(), Some("1"));
    let about = client.get("/v1/agent/self").json();
    assert_eq!(about["Config"]["Server"], false);
    assert_eq!(client.get("/v1/status/peers").json().as_array().unwrap().len(), 3);

    // A blocking query at the client wakes for a write at a server, and for nothing else.
    let index = client.get("/v1/kv/a").index.unwrap();
    let answer = client.get_during(&format!("/v1/kv/a?index={index}&wait=10m"), || {
        cluster[2].put("b", "x");
        cluster[2].put("a", "2");
    });
    assert_eq!(answer.json()[0]["Value"], "Mg==");

    // Each server dies once, and comes back. Reads never fail for it.
    for server in 0..3 {
        cluster[server].stop(Signal::Kill);
        let key = format!("without/{server}");
        client.put_in_the_end(&key, "x");
        assert_eq!(client.value(&key, Modes::Default).as_deref(), Some("x"));
        cluster.start();
    }
    cluster.settle("");
}

#[test]
fn a_client_agent_without_servers_says_so() {
    let scene = Scene::new();
    let data = scene.path("data").display().to_string();
    let mut client = Agent::new(&scene, 1, &["-data-dir", &data, "-encrypt", Cluster::KEY]);
    client.start();
    let answer = eventually("it answers", || client.try_call("GET", "/v1/kv/a", b""));
    assert_eq!((answer.status, answer.text()), (500, "No known Consul servers"));
    assert_eq!(client.get("/v1/agent/self").json()["Config"]["Server"], false);
    // A client agent leaves when it is told to stop.
    assert_eq!(client.stop(Signal::Term).code(), Some(0));
    let log = client.log();
    assert!(log.contains("Graceful exit completed"), "{log}");
}

#[test]
fn a_list_beyond_any_message_comes_through() {
    let scene = Scene::new();
    let mut server = Agent::new(
        &scene,
        1,
        &[
            "-server",
            "-bootstrap",
            "-data-dir",
            "data1",
            "-encrypt",
            Cluster::KEY,
        ],
    );
    server.start_and_lead();
    let client = client(&scene, 2, &server);
    let value = "x".repeat(500 << 10);
    for key in 0..40 {
        client.put(&format!("large/{key}"), &value);
    }
    let direct = server.get("/v1/kv/large/?recurse");
    let through = client.get("/v1/kv/large/?recurse");
    assert!(direct.body.len() > 20 << 20);
    assert!(direct.body == through.body);
}

/// Servers of another data center: `servers` of them, on the hosts from `first` on.
fn far(scene: &Scene, first: u8, servers: u8, wan: &Agent) -> Vec<Agent> {
    let expect = servers.to_string();
    let (near, wan) = (scene.ip(first).to_string(), wan.ip.to_string());
    let mut found: Vec<_> = (first..first + servers)
        .map(|host| {
            let data = scene.path(format!("data{host}")).display().to_string();
            let arguments = [
                "-server",
                "-datacenter=far",
                "-bootstrap-expect",
                &expect,
                "-data-dir",
                &data,
                "-encrypt",
                Cluster::KEY,
                "-retry-join",
                &near,
                "-retry-join-wan",
                &wan,
            ];
            Agent::new(scene, host, &arguments)
        })
        .collect();
    found.iter_mut().for_each(Agent::start);
    found.iter_mut().for_each(Agent::wait_leader);
    found
}

#[test]
fn requests_reach_other_data_centers_until_those_are_lost() {
    let scene = Scene::new();
    let cluster = Cluster::of_three(&scene, &[]);
    let client = client(&scene, 9, &cluster[0]);
    let mut far = far(&scene, 21, 3, &cluster[0]);
    let datacenters = |agent: &Agent| agent.get("/v1/catalog/datacenters").text().to_owned();
    for agent in cluster.servers.iter().chain([&client]) {
        eventually(&format!("{} knows both data centers", agent.name), || {
            let known = datacenters(agent);
            holds(known == r#"["dc1","far"]"#, known)
        });
    }
    let written = client.call("PUT", "/v1/kv/x?dc=far", b"there");
    assert_eq!((written.status, written.text()), (200, "true"));
    client.put("x", "here");
    assert_eq!(client.get("/v1/kv/x?raw&dc=far").text(), "there");
    assert_eq!(client.get("/v1/kv/x?raw&dc=dc1").text(), "here");
    for server in &far {
        assert_eq!(server.value("x", Modes::Consistent).as_deref(), Some("there"));
        assert_eq!(server.get("/v1/kv/x?raw&dc=dc1").text(), "here");
    }
    let leader = client.get("/v1/status/leader?dc=far").text().to_owned();
    assert!(
        far.iter()
            .any(|server| leader == format!("\"{}:8300\"", server.ip)),
        "{leader}"
    );
    // A query that blocks there.
    let index = client.get("/v1/kv/x?dc=far").index.unwrap();
    let answer = client.get_during(&format!("/v1/kv/x?dc=far&index={index}&wait=10m"), || {
        far[1].put("x", "changed");
    });
    assert_eq!(answer.json()[0]["Value"], "Y2hhbmdlZA==");

    let unknown = client.get("/v1/kv/x?dc=nowhere");
    assert_eq!((unknown.status, unknown.text()), (500, "No path to datacenter"));
    for server in &mut far {
        server.stop(Signal::Kill);
    }
    for (method, body) in [("GET", &b""[..]), ("PUT", b"x")] {
        let begun = Instant::now();
        let lost = client.call(method, "/v1/kv/x?dc=far", body);
        assert_eq!(lost.status, 500, "{method}: {lost:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{method}: {:?}",
            begun.elapsed()
        );
    }
    // Here nothing has changed.
    client.put("y", "1");
    assert_eq!(client.value("x", Modes::Default).as_deref(), Some("here"));
}

#[test]
fn who_leaves_is_not_taken_for_failed() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    let mut clients: Vec<_> = (11..=13).map(|host| client(&scene, host, &cluster[0])).collect();
    assert_eq!(clients[0].stop(Signal::Int).code(), Some(0));
    wait_status(&cluster[1], "n11", "", 3);
    clients[1].stop(Signal::Kill);
    wait_status(&cluster[1], "n12", "", 4);

    // A server that leaves is taken out of the cluster; one that stops is expected back.
    let gone = (cluster.leader() + 1) % 3;
    let (name, address) = (cluster[gone].name.clone(), cluster[gone].ip.to_string());
    let left = scene.run(&["leave", "-http-addr", &format!("{address}:8500")]);
    assert_eq!(left.ok(), "Graceful leave complete\n");
    assert_eq!(cluster[gone].wait().code(), Some(0));
    let witness = (gone + 1) % 3;
    wait_status(&cluster[witness], &name, "", 3);
    wait_status(&cluster[witness], &format!("{name}.dc1"), "?wan=1", 3);
    let peers = cluster[witness].get("/v1/status/peers").json();
    assert_eq!(peers.as_array().unwrap().len(), 2, "{peers}");
    clients[2].put("a", "1");

    assert_eq!(cluster[witness].stop(Signal::Term).code(), STOPPED);
    let last = (gone + 2) % 3;
    wait_status(&cluster[last], &format!("n{}", witness + 1), "", 4);
    cluster[witness].start();
    wait_status(&cluster[last], &format!("n{}", witness + 1), "", 1);
    clients[2].put_in_the_end("b", "1");
}

#[test]
fn a_second_signal_ends_a_leave_at_once() {
    let scene = Scene::new();
    let cluster = Cluster::of_three(&scene, &["-bootstrap-expect=3"]);
    let data = scene.path("data9").display().to_string();
    let join = cluster[0].ip.to_string();
    let file = scene.write(
        "slow.json",
        r#"{"gossip_lan": {"gossip_interval": "1h", "probe_interval": "1h"}}"#,
    );
    let mut client = Agent::new(
        &scene,
        9,
        &[
            "-data-dir",
            &data,
            "-encrypt",
            Cluster::KEY,
            "-retry-join",
            &join,
            "-config-file",
            &file,
        ],
    );
    client.start_and_lead();
    client.signal(Signal::Term);
    client.wait_log(&["shutting down agent"]);
    client.signal(Signal::Term);
    let status = client.wait();
    let log = client.log();
    // It may have been quick enough to leave in between.
    let at_once = log.contains("Caught second signal");
    assert_eq!(status.code(), Some(i32::from(at_once)), "{log}");
}

#[test]
fn a_cluster_that_lost_its_quorum_goes_on_with_whom_peers_json_names() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    cluster[1].put("kept", "1");
    cluster.settle("");
    let leader = cluster.leader();
    let id = |host: usize| {
        let file = scene.path(format!("data{host}/node-id"));
        fs::read_to_string(file).unwrap().trim().to_owned()
    };
    let survivor = (leader + 1) % 3;
    let ids = [id(survivor + 1)];
    cluster.kill_all();
    let peers = scene.path(format!("data{}/raft/peers.json", survivor + 1));
    fs::write(&peers, format!("[\"{}:8300\"]", cluster[survivor].ip)).unwrap();
    let refused = cluster[survivor].run_to_end();
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("Raft protocol 2"), "{}", refused.err);

    fs::write(
        &peers,
        format!(
            r#"[{{"id": "{}", "address": "{}:8300"}}]"#,
            ids[0], cluster[survivor].ip
        ),
    )
    .unwrap();
    cluster[survivor].start_and_lead();
    assert!(!peers.exists());
    let log = cluster[survivor].log();
    assert!(log.contains("==> RECOVERY") && log.contains(&ids[0]), "{log}");
    cluster[survivor].put("after", "2");
    assert_eq!(
        cluster[survivor].value("kept", Modes::Consistent).as_deref(),
        Some("1")
    );
    let configuration = cluster[survivor].get("/v1/operator/raft/configuration").json();
    assert_eq!(
        configuration["Servers"].as_array().unwrap().len(),
        1,
        "{configuration}"
    );
}

#[test]
fn a_lost_node_id_is_found_again() {
    let scene = Scene::new();
    let mut agent = Agent::new(
        &scene,
        1,
        &[
            "-server",
            "-bootstrap",
            "-data-dir",
            "data",
            "-encrypt",
            Cluster::KEY,
        ],
    );
    agent.start_and_lead();
    agent.put("a", "1");
    agent.stop(Signal::Term);
    let file = scene.path("data/node-id");
    let id = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    agent.start_and_lead();
    assert_eq!(fs::read_to_string(&file).unwrap(), id);
    assert_eq!(agent.value("a", Modes::Default).as_deref(), Some("1"));
}
