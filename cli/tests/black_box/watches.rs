//! The watches of an agent's configuration: programs and addresses that are told what changes.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::support::{Agent, PATIENCE, Scene, Signal, eventually, holds};

/// Listens, and passes on what requests say: their first line, the versions in their headers, and their bodies.
fn listen() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, heard) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert!(stream.read_until(b'\n', &mut head).unwrap() > 0);
            }
            let head = String::from_utf8(head).unwrap();
            let header = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map_or("", |(_, value)| value).to_owned()
            };
            let mut body = vec![0; header("Content-Length").parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            let line = head.lines().next().unwrap();
            let index = header("X-Consul-Index");
            if tell.send(format!("{line}|{index}|{body}")).is_err() {
                return;
            }
            let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            stream.get_mut().write_all(answer).unwrap();
        }
    });
    (address, heard)
}

/// Waits until a file says this.
fn wait_text(file: &Path, wanted: &str) {
    eventually(&format!("{} says {wanted:?}", file.display()), || {
        let text = fs::read_to_string(file).unwrap_or_default();
        holds(text == wanted, text)
    });
}

#[test]
fn programs_and_addresses_are_told_what_changes_and_a_reload_changes_who_is() {
    let scene = Scene::new();
    let (address, heard) = listen();
    fs::create_dir(scene.path("conf")).unwrap();
    let (told, other) = (scene.path("told"), scene.path("other"));
    let key = format!(
        r#"{{"type": "key", "key": "app/limit", "args": ["sh", "-c", "echo \"$CONSUL_INDEX\" > {0}.index; cat >> {0}"]}}"#,
        told.display()
    );
    scene.write(
        "conf/a.json",
        format!(
            r#"{{"watches": [{key}, {{"type": "service", "service": "web", "handler_type": "http",
                "http_handler_config": {{"path": "http://{address}/hook", "method": "PUT"}}}}]}}"#
        ),
    );
    let conf = scene.path("conf").display().to_string();
    let mut agent = Agent::dev(&scene, 1, &["-config-dir", &conf]);
    wait_text(&told, "null\n");
    let first = heard.recv_timeout(PATIENCE).unwrap();
    assert!(
        first.starts_with("PUT /hook HTTP/1.1|") && first.ends_with("|[]\n"),
        "{first}"
    );

    agent.put("app/limit", "5");
    let entry = |index: &str, value: &str| {
        format!(
            "{{\"Key\":\"app/limit\",\"CreateIndex\":{0},\"ModifyIndex\":{index},\"LockIndex\":0,\"Flags\":0,\"Value\":\"{value}\",\"Session\":\"\"}}\n",
            agent.get("/v1/kv/app/limit").json()[0]["CreateIndex"]
        )
    };
    let index = agent.get("/v1/kv/app/limit").json()[0]["ModifyIndex"].to_string();
    let mut wanted = format!("null\n{}", entry(&index, "NQ=="));
    wait_text(&told, &wanted);
    wait_text(&scene.path("told.index"), &format!("{index}\n"));
    agent.call(
        "PUT",
        "/v1/agent/service/register",
        br#"{"Name": "web", "Port": 80}"#,
    );
    let second = heard.recv_timeout(PATIENCE).unwrap();
    assert!(
        second.contains("\"Service\":\"web\",") && second.contains("\"Port\":80,"),
        "{second}"
    );

    // The watch of the key is left alone, that of the service ends, and others begin.
    scene.write("conf/a.json", format!(r#"{{"watches": [{key}]}}"#));
    scene.write(
        "conf/b.json",
        format!(
            r#"{{"watches": [{{"type": "keyprefix", "prefix": "app/", "handler": "cat > {}"}},
                {{"type": "service", "service": "web", "handler_type": "http",
                "http_handler_config": {{"path": "http://{address}/after"}}}}]}}"#,
            other.display()
        ),
    );
    agent.signal(Signal::Hup);
    wait_text(&other, &format!("[{}]\n", entry(&index, "NQ==").trim_end()));
    assert_eq!(fs::read_to_string(&told).unwrap(), wanted);
    agent.put("app/limit", "6");
    let index = agent.get("/v1/kv/app/limit").json()[0]["ModifyIndex"].to_string();
    wanted.push_str(&entry(&index, "Ng=="));
    wait_text(&told, &wanted);
    wait_text(&other, &format!("[{}]\n", entry(&index, "Ng==").trim_end()));

    // What cannot be used changes nothing.
    scene.write("conf/b.json", r#"{"watches": [{"type": "key", "args": ["x"]}]}"#);
    agent.signal(Signal::Hup);
    agent.wait_log(&["watches[1]: Failed to parse watch: Must specify a single key to watch"]);
    agent.put("app/limit", "7");
    let index = agent.get("/v1/kv/app/limit").json()[0]["ModifyIndex"].to_string();
    wait_text(&other, &format!("[{}]\n", entry(&index, "Nw==").trim_end()));

    // Of the service only those hear who are in the configuration now. The first time another one may be late, the second time not.
    for port in [80, 81, 82] {
        if port > 80 {
            let service = format!(r#"{{"Name": "web", "Port": {port}}}"#);
            agent.call("PUT", "/v1/agent/service/register", service.as_bytes());
        }
        let news = heard.recv_timeout(PATIENCE).unwrap();
        assert!(
            news.starts_with("POST /after ") && news.contains(&format!("\"Port\":{port},")),
            "{news}"
        );
    }
    agent.stop(Signal::Int);
    assert_eq!(heard.try_recv().ok(), None, "nobody else watches the service");
}

#[test]
fn an_agent_that_listens_to_nobody_watches_too_and_leaves_no_program_behind() {
    let scene = Scene::new();
    let pids = scene.path("pids");
    let file = scene.write(
        "a.json",
        format!(
            r#"{{"watches": [{{"type": "nodes", "args": ["sh", "-c", "sleep 1000 & echo $$ $! > {}; wait"]}}]}}"#,
            pids.display()
        ),
    );
    let mut agent = Agent::new(&scene, 1, &["-dev", "-http-port=-1", "-config-file", &file]);
    agent.start();
    let pids = eventually("the program runs", || {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        if text.ends_with('\n') {
            Ok(text)
        } else {
            Err(agent.log())
        }
    });
    assert_eq!(pids.split_whitespace().count(), 2);
    agent.stop(Signal::Int);
    for pid in pids.split_whitespace() {
        eventually("the program has ended", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            holds(
                stat.as_ref().map_or(true, |stat| stat.contains(") Z ")),
                stat.unwrap_or_default(),
            )
        });
    }
}

#[test]
fn what_is_no_watch_is_refused_before_anything_starts() {
    let scene = Scene::new();
    let file = scene.write(
        "a.json",
        r#"{"data_dir": "d", "bind_addr": "127.0.0.1", "watches": [{"type": "bogus", "args": ["x"]}, {"type": "nodes"}]}"#,
    );
    let problems = "2 errors occurred:\n\t* watches[0]: Failed to parse watch: Unsupported watch type: bogus\n\t* watches[1]: Must define a watch handler\n";
    let judged = scene.run(&["validate", &file]);
    assert_eq!(judged.code, Some(1));
    assert_eq!(judged.err, format!("Config validation failed: {problems}"));
    let ran = Agent::new(&scene, 1, &["-dev", "-config-file", &file]).run_to_end();
    assert_eq!((ran.code, ran.err), (Some(1), format!("==> {problems}")));
}
