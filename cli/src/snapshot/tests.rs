use std::fs;
use std::path::Path;

use crate::console::testing::{Ran, run, run_with};
use crate::fake::Fake;

/// A snapshot of a state with the key `k`, as an agent made it, in base64.
const WHOLE: &str = include_str!("tests/whole.b64");

fn whole() -> Vec<u8> {
    use base64::Engine as _;
    let text: String = WHOLE.split_whitespace().collect();
    base64::prelude::BASE64_STANDARD.decode(text).unwrap()
}

/// Runs a command against an agent that gives every request this answer.
fn ask(status: u16, body: &[u8], line: &[&str]) -> (Ran, Fake) {
    let body = body.to_vec();
    let fake = Fake::start(move |_| (status, body.clone()));
    let ran = run_with(line, b"", &[("CONSUL_HTTP_ADDR", &fake.address)]);
    (ran, fake)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_snapshot_is_saved_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.snap");
    fs::write(&file, "an older one").unwrap();
    let (ran, fake) = ask(200, &whole(), &["snapshot", "save", text(&file)]);
    assert_eq!(ran, Ran::ok("Saved and verified snapshot to index 7\n"));
    assert_eq!(fake.lines(), ["GET /v1/snapshot"]);
    assert_eq!(fs::read(&file).unwrap(), whole());
    assert_eq!(names(directory.path()), ["backup.snap"]);
}

#[test]
fn whom_to_ask_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x");
    let line = ["snapshot", "save", "-stale", "-datacenter=dc2", text(&file)];
    let (ran, fake) = ask(200, &whole(), &line);
    assert_eq!(ran.code, 0);
    assert_eq!(fake.lines(), ["GET /v1/snapshot?dc=dc2&stale="]);
}

#[test]
fn what_is_not_whole_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.snap");
    fs::write(&file, "an older one").unwrap();
    let whole = whole();
    for (body, why) in [
        (
            &whole[..whole.len() / 2],
            "failed to read snapshot file: failed to read or write snapshot data: unexpected EOF",
        ),
        (b"", "failed to decompress snapshot: EOF; it is no snapshot"),
        (
            b"<html>a proxy's page</html>",
            "failed to decompress snapshot: gzip: invalid header; it is no snapshot",
        ),
    ] {
        let (ran, _) = ask(200, body, &["snapshot", "save", text(&file)]);
        assert_eq!(ran, Ran::error(&format!("Error verifying snapshot file: {why}")));
        assert_eq!(fs::read(&file).unwrap(), b"an older one");
        assert_eq!(names(directory.path()), ["backup.snap"]);
    }
    let (ran, _) = ask(500, b"No cluster leader", &["snapshot", "save", text(&file)]);
    let expected = "Error saving snapshot: Unexpected response code: 500 (No cluster leader)";
    assert_eq!(ran, Ran::error(expected));
    let (ran, _) = ask(200, &whole, &["snapshot", "save", "/nodir/x"]);
    let expected = "Error writing unverified snapshot file: open /nodir/x: no such file or directory";
    assert_eq!(ran, Ran::error(expected));
    assert_eq!(names(directory.path()), ["backup.snap"]);
}

#[test]
fn a_snapshot_is_restored() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.snap");
    fs::write(&file, whole()).unwrap();
    let restore = |status: u16| {
        let fake = Fake::keeping_answers(move |seen| match seen.line.as_str() {
            "GET /v1/agent/self" => (200, "{}"),
            _ => (status, "No cluster leader"),
        });
        let line = ["snapshot", "restore", text(&file)];
        let ran = run_with(&line, b"", &[("CONSUL_HTTP_ADDR", &fake.address)]);
        (ran, fake)
    };
    let (ran, fake) = restore(200);
    assert_eq!(ran, Ran::ok("Restored snapshot\n"));
    assert_eq!(fake.lines(), ["GET /v1/agent/self", "PUT /v1/snapshot"]);
    assert_eq!(fake.seen()[1].body, whole());
    let (ran, _) = restore(500);
    let expected = "Error restoring snapshot: Unexpected response code: 500 (No cluster leader)";
    assert_eq!(ran, Ran::error(expected));
}

/// It would take it in, and end.
#[test]
fn an_agent_of_consul_is_sent_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.snap");
    fs::write(&file, whole()).unwrap();
    let (ran, fake) = ask(200, b"{}", &["snapshot", "restore", text(&file)]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(
        ran.err
            .starts_with("Error restoring snapshot: the agent is not one of Lictor"),
        "{}",
        ran.err
    );
    assert_eq!(fake.lines(), ["GET /v1/agent/self"]);
}

#[test]
fn only_files_are_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "an older one").unwrap();
    std::os::unix::fs::symlink(at("nothing"), at("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let (here, link, socket) = (directory.path().to_owned(), at("link"), at("socket"));
    for (path, what) in [
        (Path::new("/dev/null"), "a device"),
        (&here, "a directory"),
        (&link, "a symbolic link that leads to nothing"),
        (&socket, "a socket"),
    ] {
        let (ran, fake) = ask(200, &whole(), &["snapshot", "save", text(path)]);
        let expected = format!("Error saving snapshot: {} is {what}, ", path.display());
        assert_eq!((ran.code, ran.out.as_str()), (1, ""));
        assert!(ran.err.starts_with(&expected), "{}", ran.err);
        assert!(fake.lines().is_empty());
    }
    assert_eq!(fs::read(at("file")).unwrap(), b"an older one");
    assert_eq!(names(directory.path()).len(), 3);
}

#[test]
fn a_link_stays_and_the_file_that_it_leads_to_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("elsewhere")).unwrap();
    fs::write(at("elsewhere/file"), "an older one").unwrap();
    std::os::unix::fs::symlink("elsewhere/file", at("link")).unwrap();
    let (ran, _) = ask(200, &whole(), &["snapshot", "save", text(&at("link"))]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("elsewhere/file"));
    assert_eq!(fs::read(at("elsewhere/file")).unwrap(), whole());
    assert_eq!(names(&at("elsewhere")), ["file"]);
    std::os::unix::fs::symlink("/dev/null", at("device")).unwrap();
    let (ran, _) = ask(200, &whole(), &["snapshot", "save", text(&at("device"))]);
    assert!(ran.err.contains("is a device, "), "{}", ran.err);
}

#[test]
fn what_is_not_whole_is_not_even_sent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.snap");
    fs::write(&file, b"something else").unwrap();
    let (ran, fake) = ask(200, b"", &["snapshot", "restore", text(&file)]);
    let expected =
        "Error restoring snapshot: failed to decompress snapshot: gzip: invalid header; it is no snapshot";
    assert_eq!(ran, Ran::error(expected));
    assert!(fake.lines().is_empty());
    let (ran, _) = ask(200, b"", &["snapshot", "restore", "/nofile"]);
    let expected = "Error opening snapshot file: open /nofile: no such file or directory";
    assert_eq!(ran, Ran::error(expected));
}

#[test]
fn a_snapshot_is_inspected_without_an_agent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.snap");
    fs::write(&file, whole()).unwrap();
    let ran = run(&["snapshot", "inspect", text(&file)]);
    let expected = "\
ID           2-7-1795296710357
Size         49
Index        7
Term         2
Version      1

";
    assert_eq!(ran, Ran::ok(expected));
    fs::write(&file, &whole()[..100]).unwrap();
    let ran = run(&["snapshot", "inspect", text(&file)]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("Error verifying snapshot: "), "{}", ran.err);
}

#[test]
fn each_takes_one_file() {
    for command in ["save", "restore", "inspect"] {
        let ran = run(&["snapshot", command]);
        assert_eq!(ran, Ran::error("Missing FILE argument"));
        let ran = run(&["snapshot", command, "a", "b"]);
        assert_eq!(ran, Ran::error("Too many arguments (expected 1, got 2)"));
    }
}
