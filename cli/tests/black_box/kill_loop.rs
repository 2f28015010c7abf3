//! Servers killed again and again while clients write: nothing that was acknowledged is lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::Duration;

use crate::support::{Cluster, Modes, Scene, Signal, eventually, holds};

/// Rounds, unless the environment asks for others.
const ROUNDS: usize = 6;
const WRITERS: usize = 4;

/// What one writer knows of its writes: number N wrote `N` to its register, and to a key of its own.
#[derive(Default)]
struct Written {
    /// The numbers whose write was acknowledged.
    acknowledged: Vec<usize>,
    /// The last number that was tried. Between here and what was acknowledged, nobody knows.
    tried: usize,
}

#[test]
fn no_acknowledged_write_is_lost() {
    let rounds = std::env::var("LICTOR_KILL_ROUNDS").map_or(ROUNDS, |rounds| {
        rounds.parse().expect("LICTOR_KILL_ROUNDS is a number")
    });
    kill_loop(rounds);
}

/// Each round kills one, two or all of three servers at their work, and starts them again.
fn kill_loop(rounds: usize) {
    let scene = Scene::new();
    // A log so short that servers come back to a snapshot now and then.
    let file = scene.write(
        "cluster.json",
        r#"{"raft_trailing_logs": 50, "log_level": "warn"}"#,
    );
    let cluster = Cluster::of_three(&scene, &["-config-file", &file]);
    cluster[0].put("start", "1");

    let done = AtomicBool::new(false);
    let acknowledged = AtomicUsize::new(0);
    let written: Vec<Mutex<Written>> = (0..WRITERS).map(|_| Mutex::default()).collect();
    let cluster = RwLock::new(cluster);
    thread::scope(|scope| {
        // Whatever happens here, the writers must learn that it is over.
        let _done = SetOnDrop(&done);
        for (writer, written) in written.iter().enumerate() {
            let (cluster, done, acknowledged) = (&cluster, &done, &acknowledged);
            scope.spawn(move || {
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    number += 1;
                    written.lock().unwrap().tried = number;
                    if write(cluster, writer, number) {
                        written.lock().unwrap().acknowledged.push(number);
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for round in 0..rounds {
            // Writers work between kills, so that each round has something to lose.
            let before = acknowledged.load(Ordering::Relaxed);
            eventually("writes go on", || {
                let now = acknowledged.load(Ordering::Relaxed);
                holds(now >= before + 50, format!("{} in round {round}", now - before))
            });
            let victims = match round % 3 {
                0 => vec![cluster.read().unwrap().leader()],
                1 => vec![round % 3, (round + 1) % 3],
                _ => vec![0, 1, 2],
            };
            for victim in &victims {
                cluster.read().unwrap()[*victim].signal(Signal::Kill);
            }
            let mut cluster = cluster.write().unwrap();
            for victim in victims {
                cluster[victim].wait();
                cluster[victim].start();
            }
        }
    });

    let mut cluster = cluster.into_inner().unwrap();
    cluster.start();
    let entries = cluster.settle("");
    let found: std::collections::BTreeMap<&str, &str> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["Key"].as_str().unwrap(), entry["Value"].as_str().unwrap()))
        .collect();
    for (writer, written) in written.into_iter().enumerate() {
        let written = written.into_inner().unwrap();
        let lost: Vec<_> = written
            .acknowledged
            .iter()
            .filter(|number| !found.contains_key(&*own_key(writer, **number)))
            .collect();
        assert!(
            lost.is_empty(),
            "writer {writer} lost {lost:?} of {} acknowledged writes",
            written.acknowledged.len()
        );
        let last = *written.acknowledged.last().expect("every writer got through");
        let register = cluster[writer % 3]
            .value(&register(writer), Modes::Consistent)
            .unwrap();
        let register: usize = register.parse().unwrap();
        assert!(
            (last..=written.tried).contains(&register),
            "writer {writer}: {register} is not from {last} to {}",
            written.tried
        );
    }
}

fn register(writer: usize) -> String {
    format!("register/{writer}")
}

fn own_key(writer: usize, number: usize) -> String {
    format!("own/{writer}/{number:06}")
}

/// Writes both in one transaction, through whichever server answers first in turn. Whether it was acknowledged.
fn write(cluster: &RwLock<Cluster>, writer: usize, number: usize) -> bool {
    use base64::Engine as _;
    let value = base64::engine::general_purpose::STANDARD.encode(number.to_string());
    let set = |key: String| serde_json::json!({"KV": {"Verb": "set", "Key": key, "Value": value}});
    let body = serde_json::json!([set(register(writer)), set(own_key(writer, number))]).to_string();
    let cluster = cluster.read().unwrap();
    let server = &cluster[(writer + number) % 3];
    let answer = server.try_call_for(Duration::from_secs(10), "PUT", "/v1/txn", body.as_bytes());
    answer.is_ok_and(|answer| answer.status == 200)
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
