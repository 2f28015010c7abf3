//! Trust by certificates that `lictor tls` made.

use std::fs;

use crate::support::{Agent, Cluster, Modes, Scene};

/// Runs `lictor tls` with these words in a directory of the scene.
fn tls(scene: &Scene, directory: &str, words: &[&str]) {
    fs::create_dir_all(scene.path(directory)).unwrap();
    let mut all = vec!["tls"];
    all.extend(words);
    let ran = scene
        .command(&all)
        .current_dir(scene.path(directory))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

/// A configuration file that names an authority and the certificate `pair` (without its endings).
fn config(scene: &Scene, name: &str, authority: &str, pair: &str) -> String {
    let path = |file: String| scene.path(file).display().to_string();
    let defaults = serde_json::json!({
        "ca_file": path(format!("{authority}/lictor-agent-ca.pem")),
        "cert_file": path(format!("{pair}.pem")),
        "key_file": path(format!("{pair}-key.pem")),
    });
    scene.write(
        name,
        serde_json::json!({"tls": {"defaults": defaults}}).to_string(),
    )
}

/// An authority in `pki`, and configuration files for three servers, each with a certificate of its own.
fn three_configs(scene: &Scene) -> Vec<[String; 2]> {
    tls(scene, "pki", &["ca", "create"]);
    (0..3)
        .map(|number| {
            tls(scene, "pki", &["cert", "create", "-server"]);
            let pair = format!("pki/dc1-server-lictor-{number}");
            let file = config(scene, &format!("s{number}.json"), "pki", &pair);
            ["-config-file".to_owned(), file]
        })
        .collect()
}

/// The arguments of a server that wants to join the one on host 1.
fn joining(scene: &Scene, data: &str, config: &str) -> Vec<String> {
    let data = scene.path(data).display().to_string();
    let contact = scene.ip(1).to_string();
    [
        "-server",
        "-data-dir",
        &data,
        "-retry-join",
        &contact,
        "-config-file",
        config,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn agent(scene: &Scene, host: u8, arguments: &[String]) -> Agent {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    Agent::new(scene, host, &arguments)
}

#[test]
fn three_servers_with_certificates() {
    let scene = Scene::new();
    let configs = three_configs(&scene);
    let mut cluster = Cluster::prepare(&scene, 3, |host| &configs[usize::from(host) - 1]);
    cluster.start();
    for server in &cluster.servers {
        assert!(
            server.log().contains("trusting certificate files"),
            "{}",
            server.log()
        );
        server.put(&server.name, "1");
    }
    for server in &cluster.servers {
        assert_eq!(server.value("n1", Modes::Consistent).as_deref(), Some("1"));
    }
    cluster.kill_all();
    cluster.start();
    assert_eq!(cluster.settle("").as_array().unwrap().len(), 3);
}

#[test]
fn another_authority() {
    let scene = Scene::new();
    let configs = three_configs(&scene);
    let mut cluster = Cluster::prepare(&scene, 3, |host| &configs[usize::from(host) - 1]);
    cluster.start();
    tls(&scene, "foreign", &["ca", "create"]);
    tls(&scene, "foreign", &["cert", "create", "-server"]);
    let whole = config(&scene, "whole.json", "foreign", "foreign/dc1-server-lictor-0");
    let mut stranger = agent(&scene, 9, &joining(&scene, "whole", &whole));
    stranger.start();
    let words = ["WARN", "is -encrypt (or ca_file) the same on both?"];
    stranger.wait_log(&words);
    cluster[0].wait_log(&[&words[..], &[&stranger.ip.to_string()]].concat());
    let read = stranger.get("/v1/kv/a?stale");
    assert_eq!((read.status, read.text()), (500, "No cluster leader"));
    cluster[0].put("goes", "on");
}

/// Files that do not belong together are refused before anybody else has to.
#[test]
fn mixed_files() {
    let scene = Scene::new();
    for directory in ["pki", "foreign"] {
        tls(&scene, directory, &["ca", "create"]);
        tls(&scene, directory, &["cert", "create", "-server"]);
    }
    let pair = "dc1-server-lictor-0";
    let file = config(&scene, "mixed.json", "pki", &format!("foreign/{pair}"));
    let refused = |file: &str, words: [&str; 3]| {
        let ran = agent(&scene, 1, &joining(&scene, "data", file)).run_to_end();
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        let line = ran.err.lines().last().unwrap();
        for word in words {
            assert!(line.contains(word), "no {word:?} in: {line}");
        }
    };
    refused(
        &file,
        [
            "foreign/dc1-server-lictor-0.pem",
            "no authority in",
            "pki/lictor-agent-ca.pem",
        ],
    );
    let key = |directory: &str| scene.path(format!("{directory}/{pair}-key.pem"));
    fs::copy(key("pki"), key("foreign")).unwrap();
    let file = config(&scene, "key.json", "foreign", &format!("foreign/{pair}"));
    refused(
        &file,
        [
            "foreign/dc1-server-lictor-0-key.pem",
            "not the key of",
            "foreign/dc1-server-lictor-0.pem",
        ],
    );
}

#[test]
fn a_clients_certificate_makes_no_server() {
    let scene = Scene::new();
    tls(&scene, "pki", &["ca", "create"]);
    tls(&scene, "pki", &["cert", "create", "-client"]);
    let file = config(&scene, "client.json", "pki", "pki/dc1-client-lictor-0");
    let refused = agent(&scene, 1, &joining(&scene, "data", &file)).run_to_end();
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    let line = refused.err.lines().last().unwrap();
    assert!(line.contains("dc1-client-lictor-0.pem"), "{line}");
    assert!(line.contains("lictor tls cert create"), "{line}");
}

#[test]
fn a_certificate_is_for_one_data_center() {
    let scene = Scene::new();
    tls(&scene, "pki", &["ca", "create"]);
    tls(&scene, "pki", &["cert", "create", "-server", "-dc", "mars"]);
    let file = config(&scene, "mars.json", "pki", "pki/mars-server-lictor-0");
    let refused = agent(&scene, 1, &joining(&scene, "data", &file)).run_to_end();
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    let line = refused.err.lines().last().unwrap();
    assert!(
        line.contains("mars-server-lictor-0.pem") && line.contains("dc1"),
        "{line}"
    );
}
