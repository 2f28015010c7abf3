use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// What a check asks for, but for its URL.
#[derive(Default)]
struct Ask {
    method: &'static str,
    headers: &'static [(&'static str, &'static [&'static str])],
    body: &'static str,
    disable_redirects: bool,
    tls: ProbeTls,
}

impl Ask {
    fn at(&self, url: impl ToString) -> Probe {
        let headers = self.headers.iter().map(|(name, values)| {
            let values = values.iter().map(|value| (*value).to_owned());
            ((*name).to_owned(), values.collect())
        });
        Probe::Http {
            url: url.to_string(),
            method: self.method.to_owned(),
            headers: headers.collect(),
            body: self.body.to_owned(),
            disable_redirects: self.disable_redirects,
            tls: self.tls.clone(),
        }
    }
}

fn get(url: impl ToString) -> Probe {
    Ask::default().at(url)
}

/// Answers each request by what `answer` makes of its path; the requests can be looked at.
fn answering(answer: impl Fn(&str) -> String + Send + 'static) -> (String, Receiver<String>) {
    let (sender, requests) = channel();
    let sender = Mutex::new(sender);
    let address = serve(move |mut stream| {
        let request = read_request(&mut stream);
        let path = request.split(' ').nth(1).unwrap_or_default();
        let answer = answer(path);
        // Nobody may want to look, or to hear it all.
        let _ = sender.lock().unwrap().send(request);
        let _ = stream.write_all(answer.as_bytes());
    });
    (format!("http://{address}"), requests)
}

fn always(answer: &'static str) -> String {
    answering(move |_| answer.to_owned()).0
}

#[test]
fn the_status_says_how_it_is() {
    let cases = [
        ("200 OK", Status::Passing),
        ("204 No Content", Status::Passing),
        ("299 Odd Reason", Status::Passing),
        ("300 Multiple Choices", Status::Critical),
        ("404 Not Found", Status::Critical),
        ("429 Too Many Requests", Status::Warning),
        ("503 Service Unavailable", Status::Critical),
    ];
    let url = answering(|path| format!("HTTP/1.1 {}\r\n\r\n", path[1..].replace('_', " "))).0;
    for (line, status) in cases {
        let url = format!("{url}/{}", line.replace(' ', "_"));
        let output = format!("HTTP GET {url}: {line} Output: ");
        assert_eq!(probe(&get(&url)), Outcome { status, output });
    }
}

#[test]
fn the_body_is_shown_however_it_is_framed() {
    let framings = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello",
        // One that promises more than it sends.
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ];
    for framing in framings {
        let url = always(framing);
        let output = format!("HTTP GET {url}: 200 OK Output: hello");
        assert_eq!(probe(&get(&url)), passing(output), "{framing}");
    }
}

#[test]
fn the_request_is_what_consul_sends() {
    let (url, requests) = answering(|_| "HTTP/1.1 200 OK\r\n\r\n".to_owned());
    probe(&get(format!("{url}/a/b?c=d#e")));
    let request = requests.recv().unwrap();
    let host = url.strip_prefix("http://").unwrap();
    assert!(request.starts_with("GET /a/b?c=d HTTP/1.1\r\n"), "{request}");
    let mut lines: Vec<_> = request.trim_end().lines().skip(1).collect();
    lines.sort_unstable();
    let expected = [
        "accept: text/plain, text/*, */*",
        "connection: close",
        &format!("host: {host}"),
        "user-agent: Consul Health Check",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn method_headers_and_body_are_those_of_the_check() {
    let (url, requests) = answering(|_| "HTTP/1.1 200 OK\r\n\r\n".to_owned());
    let ask = Ask {
        method: "PUT",
        headers: &[
            ("X-Two", &["1", "2"]),
            ("Host", &["other.example"]),
            ("User-Agent", &["mine"]),
            ("Content-Length", &["999"]),
            ("Transfer-Encoding", &["chunked"]),
        ],
        body: "{\"a\":1}",
        ..Ask::default()
    };
    let output = format!("HTTP PUT {url}: 200 OK Output: ");
    assert_eq!(probe(&ask.at(&url)), passing(output));
    let request = requests.recv().unwrap();
    for line in [
        "x-two: 1\r\n",
        "x-two: 2\r\n",
        "host: other.example\r\n",
        "user-agent: mine\r\n",
        "content-length: 7\r\n",
    ] {
        assert_eq!(request.matches(line).count(), 1, "{line} in {request}");
    }
    assert!(!request.contains("transfer-encoding"));
    assert!(request.ends_with("\r\n\r\n{\"a\":1}"));

    let ask = Ask {
        method: "POST",
        ..Ask::default()
    };
    probe(&ask.at(&url));
    assert!(requests.recv().unwrap().contains("content-length: 0\r\n"));
    let ask = Ask {
        body: "even so",
        ..Ask::default()
    };
    probe(&ask.at(&url));
    let request = requests.recv().unwrap();
    assert!(request.starts_with("GET ") && request.ends_with("\r\n\r\neven so"));
}

#[test]
fn redirects_are_followed_as_by_go() {
    let (url, requests) = answering(|path| match path {
        "/end" => "HTTP/1.1 200 OK\r\n\r\nthere".to_owned(),
        path => format!("HTTP/1.1 {} Go\r\nLocation: /end\r\n\r\n", &path[1..]),
    });
    for (status, line, has_body) in [
        (301, "GET /end", false),
        (302, "GET /end", false),
        (303, "GET /end", false),
        (307, "POST /end", true),
        (308, "POST /end", true),
    ] {
        let ask = Ask {
            method: "POST",
            headers: &[("Authorization", &["secret"])],
            body: "body",
            ..Ask::default()
        };
        let begin = format!("{url}/{status}");
        assert_eq!(
            probe(&ask.at(&begin)),
            passing(format!("HTTP POST {begin}: 200 OK Output: there"))
        );
        requests.recv().unwrap();
        let second = requests.recv().unwrap();
        assert!(second.starts_with(line), "{second}");
        assert_eq!(second.ends_with("\r\n\r\nbody"), has_body, "{second}");
        assert!(second.contains(&format!("referer: {begin}\r\n")), "{second}");
        assert!(second.contains("authorization: secret\r\n"), "{second}");
    }
}

#[test]
fn other_hosts_are_not_told_secrets() {
    let (other, requests) = answering(|_| "HTTP/1.1 200 OK\r\n\r\n".to_owned());
    let other = other.replace("127.0.0.1", "localhost");
    let to = other.clone();
    let (url, _) = answering(move |_| format!("HTTP/1.1 302 Found\r\nLocation: {to}/x\r\n\r\n"));
    let ask = Ask {
        headers: &[
            ("Authorization", &["secret"]),
            ("Cookie", &["secret"]),
            ("Host", &["mine.example"]),
            ("X-Mine", &["kept"]),
        ],
        ..Ask::default()
    };
    let url = url.replace("http://", "http://user:secret@");
    assert_eq!(probe(&ask.at(&url)).status, Status::Passing);
    let request = requests.recv().unwrap();
    assert!(request.contains("x-mine: kept\r\n"));
    assert!(request.contains(&other.replace("http://", "host: ")), "{request}");
    assert!(!request.contains("secret"), "{request}");
}

#[test]
fn a_password_in_the_url_is_sent_and_not_shown() {
    let (url, requests) = answering(|_| "HTTP/1.1 302 Found\r\n\r\n".to_owned());
    let found = probe(&get(url.replace("http://", "http://user:secret@")));
    assert!(found.output.contains("//user:***@127"), "{}", found.output);
    // user:secret in base 64
    assert!(
        requests
            .recv()
            .unwrap()
            .contains("authorization: Basic dXNlcjpzZWNyZXQ=\r\n")
    );
}

#[test]
fn redirects_that_lead_nowhere_are_critical() {
    let (url, requests) = answering(|path| match path {
        "/loop" => "HTTP/1.1 302 Found\r\nLocation: loop\r\n\r\n".to_owned(),
        "/302" => "HTTP/1.1 302 Found\r\n\r\nnoloc".to_owned(),
        _ => "HTTP/1.1 307 Temporary Redirect\r\n\r\nnoloc".to_owned(),
    });
    let failed = |path: &str, why: &str| critical(format!("Get \"{url}{path}\": {why}"));
    assert_eq!(
        probe(&get(format!("{url}/loop"))),
        failed("/loop", "stopped after 10 redirects")
    );
    assert_eq!(requests.try_iter().count(), 11);
    let missing = "302 response missing Location header";
    assert_eq!(probe(&get(format!("{url}/302"))), failed("/302", missing));
    let answer = format!("HTTP GET {url}/307: 307 Temporary Redirect Output: noloc");
    assert_eq!(probe(&get(format!("{url}/307"))), critical(answer));
}

#[test]
fn a_redirect_may_be_the_answer() {
    let url = always("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n");
    let ask = Ask {
        disable_redirects: true,
        ..Ask::default()
    };
    let output = format!("HTTP GET {url}: 302 Found Output: ");
    assert_eq!(probe(&ask.at(&url)), critical(output));
}

#[test]
fn what_cannot_be_asked_is_critical() {
    let closed = format!("http://{}/x", closed());
    let address = closed.trim_start_matches("http://").trim_end_matches("/x");
    let refused = format!("Get \"{closed}\": dial tcp {address}: connect: connection refused");
    assert_eq!(probe(&get(&closed)), critical(refused));
    let scheme = "Get \"ftp://a/x\": unsupported protocol scheme \"ftp\"";
    assert_eq!(probe(&get("ftp://a/x")), critical(scheme));
    let output = probe(&get("127.0.0.1:1/x")).output;
    assert!(output.starts_with("parse \"127.0.0.1:1/x\": "), "{output}");
    let ask = Ask {
        method: "a b",
        ..Ask::default()
    };
    assert_eq!(
        probe(&ask.at("http://a")),
        critical("net/http: invalid method \"a b\"")
    );
    let ask = Ask {
        headers: &[("a b", &["c"])],
        ..Ask::default()
    };
    let name = "net/http: invalid header field name \"a b\"";
    assert_eq!(probe(&ask.at("http://a")), critical(name));
}

#[test]
fn answers_that_are_no_http_are_critical() {
    for answer in [
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ] {
        let url = always(answer);
        let found = probe(&get(&url));
        assert_eq!(found.status, Status::Critical, "{answer}");
        assert!(
            found
                .output
                .starts_with(&format!("Get \"{url}/\": malformed HTTP: ")),
            "{}",
            found.output
        );
    }
    let url = always("HTTP/1.1 200 OK\r\nX: ");
    assert_eq!(probe(&get(&url)), critical(format!("Get \"{url}/\": EOF")));
}

#[test]
fn a_head_without_end_is_cut_off() {
    let url = always(Box::leak(
        format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1_000_000)).into_boxed_str(),
    ));
    let found = probe(&get(&url));
    let why = format!("Get \"{url}/\": the response has headers of more than 65536 bytes");
    assert_eq!(found, critical(why));
}

#[test]
fn of_a_body_without_end_the_beginning_is_kept() {
    let address = serve(|mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let found = block_on(prober().probe(&get(format!("http://{address}")), PATIENCE, 10));
    assert_eq!(
        found,
        passing(format!("HTTP GET http://{address}: 200 OK Output: xxxxxxxxxx"))
    );
}

#[test]
fn who_does_not_answer_in_time_is_critical() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    assert_eq!(probe_soon(&get(&url)), critical(format!("Get \"{url}\": {why}")));
}

#[test]
fn who_has_said_the_status_need_not_end() {
    let address = serve(|mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        // Until the other side has had enough.
        let _ = stream.read(&mut [0]);
    });
    let output = format!("HTTP GET http://{address}: 200 OK Output: half");
    // Long enough for the head to have come.
    let check = get(format!("http://{address}"));
    let found = block_on(prober().probe(&check, Duration::from_secs(8), 4096));
    assert_eq!(found, passing(output));
}

#[test]
fn certificates_are_looked_at_unless_they_are_not_to_be() {
    let authority = authority("localhost", &[]);
    let address = authority.serve("HTTP/1.1 200 OK\r\n\r\nsecure");
    let by_name = format!("https://localhost:{}/", address.port());
    let by_ip = format!("https://{address}/");
    let found = |url: &str, tls| {
        let ask = Ask {
            tls,
            ..Ask::default()
        };
        block_on(authority.prober().probe(&ask.at(url), PATIENCE, 4096))
    };
    let good = |url: &str| passing(format!("HTTP GET {url}: 200 OK Output: secure"));
    assert_eq!(found(&by_name, tls(false, "")), good(&by_name));
    assert_eq!(found(&by_ip, tls(false, "localhost")), good(&by_ip));
    assert_eq!(found(&by_ip, tls(true, "")), good(&by_ip));
    let why = "x509: certificate is not valid for 127.0.0.1";
    assert_eq!(
        found(&by_ip, tls(false, "")),
        critical(format!("Get \"{by_ip}\": {why}"))
    );
}

#[test]
fn a_server_without_tls_is_told_from_one_with() {
    let address = serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        // Until the other side has had enough.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let url = format!("https://{address}");
    let ask = Ask {
        tls: tls(true, ""),
        ..Ask::default()
    };
    let found = probe(&ask.at(&url));
    assert_eq!(
        found,
        critical(format!(
            "Get \"{url}/\": tls: first record does not look like a TLS handshake"
        ))
    );
}

#[test]
fn the_last_status_decides_between_warning_and_failure() {
    let url = always("HTTP/1.1 429 Too Many Requests\r\n\r\nslow");
    let output = format!("HTTP GET {url}: 429 Too Many Requests Output: slow");
    assert_eq!(probe(&get(&url)), warning(&output));
}
