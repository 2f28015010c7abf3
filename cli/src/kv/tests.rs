//! Whole command lines against a server that says what the API would.

use crate::console::testing::{Ran, run, run_with};
use crate::fake::{Fake, ask};

const HELLO: &str = r#"{"LockIndex":1,"Key":"dir/x","Flags":7,"Value":"aGVsbG8=","CreateIndex":15,"ModifyIndex":18446744073709551615,"Session":"5efa"}"#;
const EMPTY: &str =
    r#"{"LockIndex":0,"Key":"dir/y","Flags":0,"Value":null,"CreateIndex":16,"ModifyIndex":17}"#;

/// Runs `lictor kv <line>` against a server that gives every request the same answer.
fn against(status: u16, body: &str, line: &[&str]) -> (Ran, Vec<String>) {
    ask(status, body, &[&["kv"], line].concat())
}

fn ok(out: &str) -> Ran {
    Ran::ok(out)
}

fn error(err: &str) -> Ran {
    Ran::error(err)
}

#[test]
fn get_prints_values() {
    let one = format!("[{HELLO}]");
    let both = format!("[{HELLO},{EMPTY}]");
    let detailed = "CreateIndex      15\nFlags            7\nKey              dir/x\nLockIndex        1\n\
                    ModifyIndex      18446744073709551615\nSession          5efa\nValue            ";
    let bare = "CreateIndex      16\nFlags            0\nKey              dir/y\nLockIndex        0\n\
                ModifyIndex      17\nSession          -\nValue\n";
    for (body, line, target, out) in [
        (
            &one,
            &["get", "dir/x"][..],
            "GET /v1/kv/dir/x",
            "hello\n".to_owned(),
        ),
        (&one, &["get", "/dir/x"], "GET /v1/kv/dir/x", "hello\n".to_owned()),
        (
            &one,
            &["get", "-base64", "dir/x"],
            "GET /v1/kv/dir/x",
            "aGVsbG8=\n".to_owned(),
        ),
        (
            &one,
            &["get", "-detailed", "dir/x"],
            "GET /v1/kv/dir/x",
            format!("{detailed}hello\n"),
        ),
        (
            &one,
            &["get", "-detailed", "-base64", "dir/x"],
            "GET /v1/kv/dir/x",
            format!("{detailed}aGVsbG8=\n"),
        ),
        (
            &both,
            &["get", "-recurse", "dir"],
            "GET /v1/kv/dir?recurse=",
            "dir/x:hello\ndir/y:\n".to_owned(),
        ),
        (
            &both,
            &["get", "-recurse", "-base64", "dir"],
            "GET /v1/kv/dir?recurse=",
            "dir/x:aGVsbG8=\ndir/y:\n".to_owned(),
        ),
        (
            &both,
            &["get", "-recurse", "-detailed"],
            "GET /v1/kv/?recurse=",
            format!("{detailed}hello\n\n{bare}"),
        ),
        (
            &one,
            &["get", "-stale", "-datacenter", "d 1", "a"],
            "GET /v1/kv/a?dc=d%201&stale=",
            "hello\n".to_owned(),
        ),
        (
            &one,
            &["get", "sp ace/%41\u{e9}?x"],
            "GET /v1/kv/sp%20ace/%2541%C3%A9%3Fx",
            "hello\n".to_owned(),
        ),
        (&one, &["get", "a//b/"], "GET /v1/kv/a//b/", "hello\n".to_owned()),
    ] {
        assert_eq!(
            against(200, body, line),
            (ok(&out), vec![target.to_owned()]),
            "{line:?}"
        );
    }
}

#[test]
fn get_prints_keys() {
    for (line, target) in [
        (&["get", "-keys"][..], "GET /v1/kv/?keys=&separator=%2F"),
        (
            &["get", "-keys", "-recurse", "-detailed", "p"],
            "GET /v1/kv/p?keys=&separator=%2F",
        ),
        (&["get", "-keys", "-separator=", "p"], "GET /v1/kv/p?keys="),
        (
            &["get", "-keys", "-separator=y z", "p"],
            "GET /v1/kv/p?keys=&separator=y%20z",
        ),
    ] {
        assert_eq!(
            against(200, r#"["a","dir/"]"#, line),
            (ok("a\ndir/\n"), vec![target.to_owned()])
        );
    }
}

#[test]
fn get_fails_in_known_words() {
    assert_eq!(
        against(404, "", &["get", "nope"]).0,
        error("Error! No key exists at: nope")
    );
    assert_eq!(against(404, "", &["get", "-recurse", "nope"]).0, ok(""));
    assert_eq!(against(404, "", &["get", "-keys", "nope"]).0, ok(""));
    for line in [
        &["get", "a"][..],
        &["get", "-keys", "a"],
        &["get", "-recurse", "a"],
    ] {
        assert_eq!(
            against(500, "No cluster leader", line).0,
            error("Error querying Lictor agent: Unexpected response code: 500 (No cluster leader)"),
        );
    }
    for body in ["", "{}", "[5]", r#"[{"Key":"a"}]"#] {
        let (ran, _) = against(200, body, &["get", "a"]);
        assert!(
            ran.err
                .starts_with("Error querying Lictor agent: cannot understand its answer: "),
            "{}",
            ran.err
        );
    }
    let damaged = format!("[{}]", HELLO.replace("aGVsbG8=", "!!"));
    assert_eq!(
        against(200, &damaged, &["get", "a"]).0,
        error("Error querying Lictor agent: value of dir/x: illegal base64 data at input byte 0")
    );
}

#[test]
fn put_sends_data() {
    for (line, target) in [
        (&["put", "a", "1"][..], "PUT /v1/kv/a"),
        (&["put", "-flags", "0x10", "a", "1"], "PUT /v1/kv/a?flags=16"),
        (
            &["put", "-session", "s", "-modify-index=3", "a", "1"],
            "PUT /v1/kv/a",
        ),
        (
            &["put", "-cas", "-modify-index=3", "-flags=1", "a", "1"],
            "PUT /v1/kv/a?cas=3&flags=1",
        ),
        (
            &[
                "put",
                "-cas",
                "-modify-index=3",
                "-acquire",
                "-session=s",
                "a",
                "1",
            ],
            "PUT /v1/kv/a?cas=3",
        ),
        (&["put", "-token", "t", "a", "1"], "PUT /v1/kv/a"),
    ] {
        assert_eq!(
            against(200, "true", line),
            (ok("Success! Data written to: a\n"), vec![target.to_owned()])
        );
    }
    let locked = against(200, "true", &["put", "-acquire", "-session", "s&1", "a", "1"]);
    assert_eq!(
        locked,
        (
            ok("Success! Lock acquired on: a\n"),
            vec!["PUT /v1/kv/a?acquire=s%261".to_owned()]
        )
    );
    let released = against(200, "true\n", &["put", "-release", "-session=s", "a"]);
    assert_eq!(
        released,
        (
            ok("Success! Lock released on: a\n"),
            vec!["PUT /v1/kv/a?release=s".to_owned()]
        )
    );
}

#[test]
fn put_reads_data_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data");
    std::fs::write(&file, [0, 255, b'\n']).unwrap();
    let file = format!("@{}", file.display());
    for (line, body) in [
        (&["kv", "put", "a", "text"][..], &b"text"[..]),
        (&["kv", "put", "a"], b""),
        (&["kv", "put", "a", ""], b""),
        (&["kv", "put", "a", "-"], b"from stdin"),
        (&["kv", "put", "a", &file], &[0, 255, b'\n']),
        (&["kv", "put", "-base64", "a", "aGVsbG8="], b"hello"),
        (&["kv", "put", "--", "-a", "-b"], b"-b"),
    ] {
        let fake = Fake::start(|_| (200, "true".to_owned()));
        let ran = run_with(line, b"from stdin", &[("LICTOR_HTTP_ADDR", &fake.address)]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(fake.seen()[0].body, body, "{line:?}");
    }
}

#[test]
fn put_fails_in_known_words() {
    for (line, message) in [
        (
            &["put", "-cas", "-modify-index=3", "a", "b"][..],
            "Error! Did not write to a: CAS failed",
        ),
        (
            &["put", "-acquire", "-session=s", "a"],
            "Error! Did not acquire lock",
        ),
        (
            &["put", "-release", "-session=s", "a"],
            "Error! Did not release lock",
        ),
        (&["put", "a"], "Error! Did not write to a"),
    ] {
        assert_eq!(against(200, "false", line).0, error(message));
    }
    for (line, message) in [
        (
            &["put", "a"][..],
            "Error! Failed writing data: Unexpected response code: 500 (No path to datacenter)",
        ),
        (
            &["put", "-cas", "-modify-index=1", "a"],
            "Error! Did not write to a: Unexpected response code: 500 (No path to datacenter)",
        ),
    ] {
        assert_eq!(against(500, "No path to datacenter", line).0, error(message));
    }
}

#[test]
fn delete_removes_keys_and_prefixes() {
    for (line, target, out) in [
        (
            &["delete", "k"][..],
            "DELETE /v1/kv/k",
            "Success! Deleted key: k\n",
        ),
        (&["delete", "/k"], "DELETE /v1/kv/k", "Success! Deleted key: k\n"),
        (
            &["delete", "-cas", "-modify-index=4", "k"],
            "DELETE /v1/kv/k?cas=4",
            "Success! Deleted key: k\n",
        ),
        (
            &["delete", "-recurse", "dir"],
            "DELETE /v1/kv/dir?recurse=",
            "Success! Deleted keys with prefix: dir\n",
        ),
        (
            &["delete", "-recurse"],
            "DELETE /v1/kv/?recurse=",
            "Success! Deleted keys with prefix: \n",
        ),
    ] {
        assert_eq!(against(200, "true", line), (ok(out), vec![target.to_owned()]));
    }
    for (status, body, line, message) in [
        (
            200,
            "false",
            &["delete", "-cas", "-modify-index=4", "f"][..],
            "Error! Did not delete key f: CAS failed",
        ),
        (
            500,
            "x",
            &["delete", "-cas", "-modify-index=4", "f"],
            "Error! Did not delete key f: Unexpected response code: 500 (x)",
        ),
        (
            500,
            "x",
            &["delete", "f"],
            "Error deleting key f: Unexpected response code: 500 (x)",
        ),
        (
            500,
            "x",
            &["delete", "-recurse", "f"],
            "Error! Did not delete prefix f: Unexpected response code: 500 (x)",
        ),
        (
            200,
            "false",
            &["delete", "f"],
            "Error deleting key f: the agent answered that it did not",
        ),
        (
            200,
            "false",
            &["delete", "-recurse", "f"],
            "Error! Did not delete prefix f",
        ),
    ] {
        assert_eq!(against(status, body, line).0, error(message));
    }
}

#[test]
fn export_prints_a_tree() {
    let body = format!("[{HELLO},{EMPTY}]");
    let (ran, lines) = against(200, &body, &["export", "dir"]);
    assert_eq!(lines, ["GET /v1/kv/dir?recurse="]);
    assert_eq!(
        ran,
        ok(
            "[\n\t{\n\t\t\"key\": \"dir/x\",\n\t\t\"flags\": 7,\n\t\t\"value\": \"aGVsbG8=\"\n\t},\n\t{\n\t\t\"key\": \"dir/y\",\n\t\t\"flags\": 0,\n\t\t\"value\": \"\"\n\t}\n]\n"
        )
    );
    assert_eq!(
        against(404, "", &["export"]),
        (ok("[]\n"), vec!["GET /v1/kv/?recurse=".to_owned()])
    );
    assert_eq!(
        against(500, "x", &["export"]).0,
        error("Error querying Lictor agent: Unexpected response code: 500 (x)")
    );
}

#[test]
fn import_sets_every_key_over_one_connection() {
    let fake = Fake::start(|_| (200, "true".to_owned()));
    let many: Vec<_> = (0..500)
        .map(|n| format!(r#"{{"key":"imp/{n}","flags":{n},"value":"aGk="}}"#))
        .collect();
    let data = format!("[{}]", many.join(","));
    let ran = run_with(
        &["kv", "import", "-"],
        data.as_bytes(),
        &[("CONSUL_HTTP_ADDR", &fake.address)],
    );
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let expected: Vec<_> = (0..500).map(|n| format!("Imported: imp/{n}")).collect();
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected);
    let seen = fake.seen();
    assert_eq!(seen.len(), 500);
    assert_eq!(
        (seen[0].line.as_str(), seen[499].line.as_str()),
        ("PUT /v1/kv/imp/0", "PUT /v1/kv/imp/499?flags=499")
    );
    assert!(seen.iter().all(|seen| seen.body == b"hi" && seen.connection == 0));
}

/// However large it is, applications have room for the answers to their keyed changes.
#[test]
fn import_takes_no_room_of_answers_under_keys() {
    let fake = Fake::keeping_answers(|_| (500, "leadership lost; it may have happened, or not".to_owned()));
    let data = r#"[{"key":"a"},{"key":"b"}]"#;
    let ran = run(&["kv", "import", "-http-addr", &fake.address, data]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(
        ran.err.contains("for key a") && ran.err.contains("it may have happened"),
        "{}",
        ran.err
    );
    let seen = fake.seen();
    assert_eq!(seen.len(), 1, "what may have happened is not asked for again");
    assert_eq!(seen[0].header("lictor-idempotency-key"), None);
}

#[test]
fn import_reads_what_export_wrote() {
    let (exported, _) = against(200, &format!("[{HELLO},{EMPTY}]"), &["export"]);
    let (ran, lines) = against(200, "true", &["import", &exported.out]);
    assert_eq!(ran, ok("Imported: dir/x\nImported: dir/y\n"));
    assert_eq!(lines, ["PUT /v1/kv/dir/x?flags=7", "PUT /v1/kv/dir/y"]);
    assert_eq!(against(200, "true", &["import", "[]"]), (ok(""), vec![]));
    assert_eq!(
        against(200, "true", &["import", r#"[{"key":"a"}]"#]).0,
        ok("Imported: a\n")
    );
}

#[test]
fn import_stops_at_the_first_error() {
    let fake = Fake::start(|seen| {
        if seen.line.ends_with("/b") {
            (500, "No cluster leader".to_owned())
        } else {
            (200, "true".to_owned())
        }
    });
    let ran = run(&[
        "kv",
        "import",
        "-http-addr",
        &fake.address,
        r#"[{"key":"a"},{"key":"b"},{"key":"c"}]"#,
    ]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "Imported: a\n"));
    assert_eq!(
        ran.err,
        "Error! Failed writing data for key b: Unexpected response code: 500 (No cluster leader)\n"
    );
    assert_eq!(fake.lines().len(), 2);
}

#[test]
fn misuse_is_found_before_anything_is_sent() {
    for (line, message) in [
        (&["get"][..], "Error! Missing KEY argument"),
        (&["get", ""], "Error! Missing KEY argument"),
        (&["get", "a", "-keys"], "Too many arguments (expected 1, got 2)"),
        (&["put"], "Error! Missing KEY argument"),
        (
            &["put", "a", "b", "c"],
            "Error! Too many arguments (expected 1 or 2, got 3)",
        ),
        (
            &["put", "/lead", "x"],
            "Error! Failed writing data: Invalid key. Key must not begin with a '/': /lead",
        ),
        (
            &["put", "-cas", "a", "b"],
            "Must specify -modify-index with -cas!",
        ),
        (
            &["put", "-cas", "-modify-index", "0", "a", "b"],
            "Must specify -modify-index with -cas!",
        ),
        (
            &["put", "-acquire", "a", "b"],
            "Error! Missing -session (required with -acquire and -release)",
        ),
        (
            &["put", "-release", "a", "b"],
            "Error! Missing -session (required with -acquire and -release)",
        ),
        (
            &["put", "f", "@/nofile"],
            "Error! Failed to read file: open /nofile: no such file or directory",
        ),
        (
            &["put", "-base64", "k", "!!"],
            "Error! Cannot base 64 decode data: illegal base64 data at input byte 0",
        ),
        (&["delete"], "Error! Missing KEY argument"),
        (&["delete", "/"], "Error! Missing KEY argument"),
        (&["delete", "a", "b"], "Too many arguments (expected 1, got 2)"),
        (&["delete", "-cas", "a"], "Must specify -modify-index with -cas!"),
        (
            &["delete", "-cas", "-recurse", "a"],
            "Must specify -modify-index with -cas!",
        ),
        (
            &["delete", "-cas", "-recurse", "-modify-index=4", "a"],
            "Cannot specify both -cas and -recurse!",
        ),
        (
            &["delete", "-modify-index=4", "a"],
            "Cannot specify -modify-index without -cas!",
        ),
        (&["export", "a", "b"], "Too many arguments (expected 1, got 2)"),
        (&["import"], "Error! Missing DATA argument"),
        (&["import", ""], "Error! Empty DATA argument"),
        (
            &["import", "a", "b"],
            "Error! Too many arguments (expected 1, got 2)",
        ),
        (
            &["import", "{"],
            "Cannot unmarshal data: unexpected end of JSON input",
        ),
        (
            &["import", "@/nope"],
            "Error! Failed to read file: open /nope: no such file or directory",
        ),
        (
            &["import", r#"[{"key":"a","value":"!!"}]"#],
            "Error base 64 decoding value for key a: illegal base64 data at input byte 0",
        ),
        (
            &["import", r#"[{"key":"/a"}]"#],
            "Error! Failed writing data for key /a: Invalid key. Key must not begin with a '/': /a",
        ),
    ] {
        assert_eq!(against(200, "true", line), (error(message), vec![]), "{line:?}");
    }
    let (ran, lines) = against(200, "true", &["import", r#"[{"key":5}]"#]);
    assert!(
        ran.err
            .starts_with("Cannot unmarshal data: invalid type: integer `5`, expected a"),
        "{}",
        ran.err
    );
    assert_eq!(lines, [""; 0]);
    let (ran, _) = against(200, "true", &["get", "-namespace=x", "a"]);
    assert!(ran.err.starts_with("flag -namespace is not supported yet\n"));
}
