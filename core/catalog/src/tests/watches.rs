//! The registry of watchers.

use super::*;
use crate::{Interest, Touch, Touched, Watches, WatchesFull};

fn key(text: &str) -> Interest {
    Interest::KvKey(bytes(text))
}

fn prefix(text: &str) -> Interest {
    Interest::KvPrefix(bytes(text))
}

fn touched(keys: &[&str]) -> Touched {
    Touched::These(keys.iter().map(|key| Touch::Kv(bytes(key))).collect())
}

fn wake(watches: &mut Watches<&'static str>, touched: &Touched) -> Vec<&'static str> {
    let mut woken = Vec::new();
    watches.take_touched(touched, &mut woken);
    woken
}

#[test]
fn a_change_wakes_its_key_its_prefixes_and_the_table() {
    let mut watches = Watches::new(100);
    for (interest, name) in [
        (key("a/b"), "key"),
        (key("a/b"), "key again"),
        (key("a"), "shorter key"),
        (key("a/bc"), "longer key"),
        (prefix("a/b"), "prefix itself"),
        (prefix("a/"), "prefix"),
        (prefix("b"), "other prefix"),
        (prefix("a/bc"), "longer prefix"),
        (prefix(""), "empty prefix"),
        (Interest::KvTable, "table"),
    ] {
        watches.subscribe(interest, name).unwrap();
    }
    assert_eq!(wake(&mut watches, &touched(&[])), [""; 0]);
    let woken = wake(&mut watches, &touched(&["a/b", "a/b", "a/x"]));
    assert_eq!(
        woken,
        [
            "key",
            "key again",
            "prefix itself",
            "prefix",
            "empty prefix",
            "table"
        ]
    );
    assert_eq!(watches.len(), 4);
    assert_eq!(wake(&mut watches, &touched(&["a/b"])), [""; 0]);
    assert_eq!(wake(&mut watches, &touched(&["a/bcd"])), ["longer prefix"]);
    assert_eq!(
        wake(&mut watches, &Touched::All),
        ["shorter key", "longer key", "other prefix"]
    );
    assert!(watches.is_empty());
}

#[test]
fn a_cancelled_watch_is_gone_once() {
    let mut watches = Watches::new(100);
    let mut ids = Vec::new();
    for interest in [key("a"), key("a"), prefix("a"), prefix("a"), Interest::KvTable] {
        ids.push(watches.subscribe(interest, "watcher").unwrap());
    }
    for id in ids.drain(..).step_by(2) {
        assert_eq!(watches.cancel(id), Some("watcher"));
        assert_eq!(watches.cancel(id), None);
    }
    assert_eq!(watches.len(), 2);
    assert_eq!(wake(&mut watches, &touched(&["a"])).len(), 2);
    let id = watches.subscribe(prefix("abc"), "watcher").unwrap();
    wake(&mut watches, &touched(&["abcd"]));
    assert_eq!(watches.cancel(id), None);
    let id = watches.subscribe(key("abc"), "watcher").unwrap();
    wake(&mut watches, &Touched::All);
    assert_eq!(watches.cancel(id), None);
}

#[test]
fn there_is_a_limit() {
    let mut watches = Watches::new(2);
    let first = watches.subscribe(key("a"), "1").unwrap();
    watches.subscribe(key("b"), "2").unwrap();
    assert_eq!(watches.subscribe(key("c"), "3"), Err(WatchesFull { limit: 2 }));
    assert_eq!(watches.len(), 2);
    watches.cancel(first);
    assert!(watches.subscribe(key("c"), "3").is_ok());
}

#[test]
fn a_watch_does_not_hold_the_request_that_it_came_with() {
    let mut watches = Watches::new(100);
    let request = Bytes::from(vec![b'x'; 1 << 20]);
    watches
        .subscribe(Interest::KvKey(request.slice(..1)), "key")
        .unwrap();
    watches
        .subscribe(Interest::KvPrefix(request.slice(1..2)), "prefix")
        .unwrap();
    assert!(request.is_unique());
    assert_eq!(wake(&mut watches, &touched(&["x"])).len(), 2);
}

#[test]
fn nothing_is_left_behind_by_watchers_that_have_gone() {
    let mut watches = Watches::new(100);
    for round in 0..1000 {
        let name = format!("{round:0round$}", round = round % 50);
        let ids = [prefix(&name), key(&name)].map(|interest| watches.subscribe(interest, "watcher").unwrap());
        if round % 2 == 0 {
            for id in ids {
                assert!(watches.cancel(id).is_some());
            }
        } else {
            wake(&mut watches, &touched(&[&name]));
        }
    }
    let inside = format!("{watches:?}");
    assert!(
        inside.ends_with("watchers: {}, plain: {}, prefixes: {} }"),
        "{inside}"
    );
}
