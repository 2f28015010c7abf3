use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};

use lictor_node::local::Probe;

use super::*;

fn check(shell: &str, args: &[&str]) -> Probe {
    Probe::Docker {
        container: "web/1".to_owned(),
        shell: shell.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
    }
}

/// Something that looks like Docker: it answers one connection after the other with `answers`. What is asked can be looked at.
fn docker(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, Prober, Receiver<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, requests) = channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _): (UnixStream, _) = listener.accept().unwrap();
            sender.send(read_request(&mut stream)).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    (dir, Prober::new(path), requests)
}

fn json(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn output(frames: &[(u8, &str)]) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n".to_vec();
    for (stream, said) in frames {
        answer.extend([*stream, 0, 0, 0]);
        answer.extend((said.len() as u32).to_be_bytes());
        answer.extend(said.as_bytes());
    }
    answer
}

fn run(code: i64, frames: &[(u8, &str)], probe: &Probe, output_max: usize) -> (Outcome, Vec<String>) {
    let (_dir, prober, requests) = docker(vec![
        json("201 Created", r#"{"Id":"exec1"}"#),
        output(frames),
        json(
            "200 OK",
            &format!(r#"{{"ID":"exec1","Running":false,"ExitCode":{code}}}"#),
        ),
    ]);
    let found = block_on(prober.probe(probe, PATIENCE, output_max));
    (found, requests.iter().collect())
}

#[test]
fn a_program_is_run_in_a_container() {
    let (found, requests) = run(
        0,
        &[(1, "out\n"), (2, "err\n"), (1, "")],
        &check("", &["a", "b c"]),
        4096,
    );
    assert_eq!(found, passing("out\nerr\n"));
    let [create, start, inspect] = requests.try_into().unwrap();
    assert!(
        create.starts_with("POST /containers/web%2F1/exec HTTP/1.1\r\n"),
        "{create}"
    );
    assert!(create.contains(r#""Cmd":["a","b c"]"#), "{create}");
    assert!(
        start.starts_with("POST /exec/exec1/start HTTP/1.1\r\n"),
        "{start}"
    );
    assert!(
        inspect.starts_with("GET /exec/exec1/json HTTP/1.1\r\n"),
        "{inspect}"
    );
}

#[test]
fn the_exit_code_in_a_container_says_how_it_is() {
    let said = [(1, "so so")];
    assert_eq!(run(1, &said, &check("", &["x"]), 4096).0, warning("so so"));
    assert_eq!(run(137, &said, &check("", &["x"]), 4096).0, critical("so so"));
}

#[test]
fn a_line_is_read_by_the_shell_if_there_is_one() {
    let command = |shell, args: &[&str]| run(0, &[], &check(shell, args), 4096).1[0].clone();
    assert!(command("/bin/sh", &["a && b"]).contains(r#""Cmd":["/bin/sh","-c","a && b"]"#));
    assert!(command("/bin/sh", &["a", "b"]).contains(r#""Cmd":["a","b"]"#));
    assert!(command("", &["a && b"]).contains(r#""Cmd":["a && b"]"#));
}

#[test]
fn of_a_flood_from_a_container_the_end_is_kept() {
    let long = "x".repeat(100_000);
    let (found, _) = run(0, &[(1, &long), (2, "end")], &check("", &["x"]), 5);
    assert_eq!(found, passing("Captured 5 of 100003 bytes\n...\n\nxxend"));
}

#[test]
fn what_docker_says_against_it_is_told() {
    let answer = json("404 Not Found", r#"{"message":"No such container: web/1"}"#);
    let (_dir, prober, _requests) = docker(vec![answer]);
    let found = block_on(prober.probe(&check("", &["x"]), PATIENCE, 4096));
    let why =
        r#"create exec failed for container web/1: 404 Not Found: {"message":"No such container: web/1"}"#;
    assert_eq!(found, critical(why));

    let (_dir, prober, _requests) = docker(vec![json("201 Created", "nonsense")]);
    let found = block_on(prober.probe(&check("", &["x"]), PATIENCE, 4096));
    let why = "create exec failed for container web/1: cannot read what Docker answers to /containers/web%2F1/exec: ";
    assert!(found.output.starts_with(why), "{}", found.output);
    assert_eq!(found.status, Status::Critical);
}

#[test]
fn where_no_docker_runs_that_is_said() {
    let prober = Prober::new("/no/such/docker.sock".into());
    let found = block_on(prober.probe(&check("", &["x"]), PATIENCE, 4096));
    let why = "create exec failed for container web/1: dial unix /no/such/docker.sock: connect: no such file or directory: \
               Docker checks need Docker, and a user who may use its socket";
    assert_eq!(found, critical(why));
}

#[test]
fn a_program_in_a_container_may_take_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let _silent = UnixListener::bind(&path).unwrap();
    let found = block_on(Prober::new(path).probe(&check("", &["x"]), SOON, 4096));
    assert_eq!(found, critical("Timed out (300ms) running check\n\n"));
}
