//! Files that are not what they should be: the agent names them, says what to do, and touches nothing.

use std::fs;
use std::path::Path;

use crate::support::{Agent, Cluster, Ran, STOPPED, Scene, Signal};

/// A server that founds a cluster alone, with its data in `data`.
fn server(scene: &Scene, arguments: &[&str]) -> Agent {
    let data = scene.path("data").display().to_string();
    let alone = ["-server", "-bootstrap-expect", "1", "-data-dir", &data];
    Agent::new(scene, 1, &[&alone[..], arguments].concat())
}

/// A data directory in which a cluster of one has kept a few keys; the path of the log's file, and the state's.
fn filled(scene: &Scene) -> [std::path::PathBuf; 2] {
    let mut agent = server(scene, &[]);
    agent.start_and_lead();
    for key in 0..50 {
        agent.put(&format!("key{key}"), &"x".repeat(1000));
    }
    assert_eq!(agent.stop(Signal::Term).code(), STOPPED);
    ["raft", "state"].map(|part| scene.path("data").join(part).join("data.mdb"))
}

/// The agent ended at once with exit code 1 and one last line that holds all of `words`, and did not panic.
#[track_caller]
fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    let line = ran.err.lines().rfind(|line| line.starts_with("==> ")).unwrap();
    for word in words {
        assert!(line.contains(word), "no {word:?} in: {line}");
    }
}

/// Replaces `from` by `to`, of the same length, wherever it stands in the file.
fn patch(path: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let mut content = fs::read(path).unwrap();
    let places: Vec<_> = content
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "{} holds no {from:?}", path.display());
    for at in places {
        content[at..at + to.len()].copy_from_slice(to);
    }
    fs::write(path, content).unwrap();
}

#[test]
fn a_file_that_is_no_store() {
    for part in 0..2 {
        let scene = Scene::new();
        let file = &filled(&scene)[part];
        fs::write(file, "Dear diary, ".repeat(2000)).unwrap();
        let ran = server(&scene, &[]).run_to_end();
        let name = file.display().to_string();
        refused(
            &ran,
            &[&name, "not an LMDB file", "restore this server from a backup"],
        );
        assert_eq!(fs::read(file).unwrap(), "Dear diary, ".repeat(2000).into_bytes());
    }
}

#[test]
fn another_programs_store() {
    let scene = Scene::new();
    let [log, _] = filled(&scene);
    // As if the tables were somebody else's.
    patch(&log, b"staged", b"dinner");
    let ran = server(&scene, &[]).run_to_end();
    let name = log.display().to_string();
    refused(
        &ran,
        &[&name, "not one of Lictor's", "restore this server from a backup"],
    );
}

#[test]
fn a_newer_format() {
    for (part, kind) in [(0, b'L'), (1, b'S')] {
        let scene = Scene::new();
        let file = &filled(&scene)[part];
        let sealed = |version: u8| {
            let mut header = b"LICTOR".to_vec();
            header.extend([kind, 0, 0, 0, version]);
            header.extend(crc32c::crc32c(&header).to_be_bytes());
            header
        };
        patch(file, &sealed(1), &sealed(9));
        let ran = server(&scene, &[]).run_to_end();
        let name = file.display().to_string();
        refused(&ran, &[&name, "format 9 is newer", "start the newer version"]);
    }
}

/// However much of a file is missing, the agent never goes on without what it had, and says what happened.
#[test]
fn a_truncated_file() {
    let scene = Scene::new();
    for file in filled(&scene) {
        let whole = fs::read(&file).unwrap();
        let name = file.display().to_string();
        for left in [1, 100, 4096, 2 * 4096, 12 * 4096] {
            fs::write(&file, &whole[..left]).unwrap();
            let ran = server(&scene, &[]).run_to_end();
            let complaint = if left < 4096 {
                "not an LMDB file".into()
            } else {
                format!("cut off: {left} of ")
            };
            refused(&ran, &[&name, &complaint, "restore this server from a backup"]);
            assert_eq!(fs::metadata(&file).unwrap().len(), left as u64, "{name}");
        }
        fs::write(&file, &whole).unwrap();
    }
    let mut agent = server(&scene, &[]);
    agent.start_and_lead();
    let kept = agent.get("/v1/kv/?recurse&consistent");
    assert_eq!(kept.json().as_array().unwrap().len(), 50);
}

/// A bit that flipped in a value is found before anybody is told it.
#[test]
fn a_flipped_bit() {
    let scene = Scene::new();
    let [_, state] = filled(&scene);
    patch(&state, &[b'x'; 900], &[&[b'x'; 899][..], b"y"].concat());
    let ran = server(&scene, &[]).run_to_end();
    let name = state.display().to_string();
    refused(
        &ran,
        &[&name, "wrong checksum", "restore this server from a backup"],
    );
}

#[test]
fn half_of_the_data_is_gone() {
    let scene = Scene::new();
    let [log, state] = filled(&scene);
    let keep = fs::read(&log).unwrap();
    fs::remove_file(&log).unwrap();
    let ran = server(&scene, &[]).run_to_end();
    refused(&ran, &["data", "restore this server from a backup"]);
    // The other half can be made anew from the log, if that goes back far enough; this one does.
    fs::write(&log, keep).unwrap();
    fs::remove_file(&state).unwrap();
    let mut agent = server(&scene, &[]);
    agent.start_and_lead();
    let kept = agent.get("/v1/kv/?keys");
    assert_eq!(kept.json().as_array().unwrap().len(), 50);
}

#[test]
fn a_node_id_of_garbage() {
    let scene = Scene::new();
    filled(&scene);
    let file = scene.path("data/node-id");
    for garbage in ["", "not an id", "\u{1b}[31m", &"f".repeat(100_000)] {
        fs::write(&file, garbage).unwrap();
        let ran = server(&scene, &[]).run_to_end();
        refused(&ran, &[&file.display().to_string(), "is not a node id", "UUID"]);
        assert!(ran.err.len() < 5000, "{} bytes of complaint", ran.err.len());
        assert!(!ran.err.contains('\u{1b}'), "terminals are not to be steered");
    }
    fs::write(&file, [0xff, 0xfe, 0]).unwrap();
    let ran = server(&scene, &[]).run_to_end();
    refused(&ran, &[&file.display().to_string(), "UTF-8"]);
}

#[test]
fn another_node_id() {
    let scene = Scene::new();
    filled(&scene);
    let other = "8c2a9c44-6c2b-4b0e-9d53-6c1f0f6f2a11";
    let ran = server(&scene, &["-node-id", other]).run_to_end();
    refused(
        &ran,
        &[
            other,
            "belongs to one node",
            &scene.path("data/node-id").display().to_string(),
        ],
    );
}

/// Two servers of one cluster with the same id would be one voter that votes twice.
#[test]
fn the_node_id_of_another_server() {
    let scene = Scene::new();
    let mut cluster = Cluster::of_three(&scene, &[]);
    cluster.kill_all();
    let [mine, other] = ["data1", "data2"].map(|data| scene.path(data).join("node-id"));
    let kept = [&mine, &other].map(|file| fs::read_to_string(file).unwrap());
    fs::copy(&other, &mine).unwrap();
    let ran = cluster[0].run_to_end();
    refused(
        &ran,
        &[kept[0].trim(), kept[1].trim(), "was a node-id file copied?"],
    );
    // Nothing was lost by it.
    fs::write(&mine, &kept[0]).unwrap();
    cluster.start();
}

#[test]
fn a_data_directory_that_is_a_file() {
    let scene = Scene::new();
    fs::write(scene.path("data"), "mine").unwrap();
    let ran = server(&scene, &[]).run_to_end();
    refused(
        &ran,
        &[&scene.path("data").display().to_string(), "is not a directory"],
    );
    assert_eq!(fs::read_to_string(scene.path("data")).unwrap(), "mine");
}

#[test]
fn no_data_directory() {
    let scene = Scene::new();
    let ran = Agent::new(&scene, 1, &["-server"]).run_to_end();
    refused(&ran, &["data_dir cannot be empty"]);
}

#[test]
fn certificate_files_that_are_not_there_or_not_that() {
    let scene = Scene::new();
    for words in [
        &["tls", "ca", "create"][..],
        &["tls", "cert", "create", "-server"],
    ] {
        let ran = scene.run(words);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    scene.write("garbage.pem", "-----BEGIN GARBAGE-----");
    let good = [
        "lictor-agent-ca.pem",
        "dc1-server-lictor-0.pem",
        "dc1-server-lictor-0-key.pem",
    ];
    for wrong in 0..3 {
        for (name, complaint) in [("nowhere.pem", "No such file"), ("garbage.pem", "")] {
            let mut files = good;
            files[wrong] = name;
            let [ca, cert, key] = files.map(|file| scene.path(file).display().to_string());
            let defaults = serde_json::json!({"ca_file": ca, "cert_file": cert, "key_file": key});
            let config = scene.write(
                "c.json",
                serde_json::json!({"tls": {"defaults": defaults}}).to_string(),
            );
            let ran = server(&scene, &["-config-file", &config]).run_to_end();
            refused(&ran, &[&scene.path(name).display().to_string(), complaint]);
        }
    }
}

#[test]
fn keys_of_the_wrong_length_or_alphabet() {
    let scene = Scene::new();
    for (key, complaint) in [
        ("c2hvcnQ=", "key size must be 16, 24 or 32 bytes"),
        ("not base64!", "illegal base64 data"),
    ] {
        let ran = server(&scene, &["-encrypt", key]).run_to_end();
        refused(&ran, &["encrypt", complaint]);
        assert!(!ran.err.contains(key), "a secret, even a wrong one, is not shown");
    }
    assert!(!scene.path("data").exists(), "nothing was made");
}

#[test]
fn config_files() {
    let scene = Scene::new();
    for (content, complaint) in [
        ("{", "EOF while parsing"),
        (r#"{"bogus": 1}"#, "invalid config key bogus"),
        (r#"{"server": "yes"}"#, "'server' expected type 'bool'"),
    ] {
        let file = scene.write("agent.json", content);
        let ran = server(&scene, &["-config-file", &file]).run_to_end();
        assert_eq!(ran.code, Some(1));
        assert!(
            ran.err.contains(&file) && ran.err.contains(complaint),
            "{}",
            ran.err
        );
    }
    let missing = scene.path("missing.json").display().to_string();
    let ran = server(&scene, &["-config-file", &missing]).run_to_end();
    refused(&ran, &[&missing, "no such file"]);
}
