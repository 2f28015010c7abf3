use std::net::UdpSocket;

use futures_lite::future::block_on;

use super::*;

fn tcp(address: impl ToString, tls: Option<ProbeTls>) -> Probe {
    Probe::Tcp {
        address: address.to_string(),
        tls,
    }
}

fn udp(address: impl ToString) -> Probe {
    Probe::Udp {
        address: address.to_string(),
    }
}

#[test]
fn an_open_port_passes_and_a_closed_one_does_not() {
    let open = serve(drop);
    assert_eq!(
        probe(&tcp(open, None)),
        passing(format!("TCP connect {open}: Success"))
    );
    let closed = closed();
    let refused = format!("dial tcp {closed}: connect: connection refused");
    assert_eq!(probe(&tcp(closed, None)), critical(refused));
}

#[test]
fn without_a_host_it_is_this_machine() {
    let port = serve(drop).port();
    let address = format!(":{port}");
    assert_eq!(
        probe(&tcp(&address, None)),
        passing(format!("TCP connect {address}: Success"))
    );
}

#[test]
fn addresses_that_are_none_are_named() {
    let missing = "dial tcp: address nohost: missing port in address";
    assert_eq!(probe(&tcp("nohost", None)), critical(missing));
    let missing = "dial udp: address nohost: missing port in address";
    assert_eq!(probe(&udp("nohost")), critical(missing));
}

#[test]
fn a_port_may_have_to_speak_tls() {
    let authority = authority("web.example", &[]);
    let address = authority.serve("");
    let found = |tls| block_on(authority.prober().probe(&tcp(address, Some(tls)), PATIENCE, 4096));
    let success = passing(format!("TCP connect {address}: Success"));
    assert_eq!(found(tls(false, "web.example")), success);
    assert_eq!(found(tls(true, "")), success);
    assert_eq!(
        found(tls(false, "")),
        critical("x509: certificate is not valid for 127.0.0.1")
    );
    let no_name = "tls: \"a b\" is neither a name nor an address that a certificate can have";
    assert_eq!(found(tls(false, "a b")), critical(no_name));
    let stranger = block_on(super::authority("web.example", &[]).prober().probe(
        &tcp(address, Some(tls(false, "web.example"))),
        PATIENCE,
        4096,
    ));
    assert_eq!(
        stranger,
        critical("x509: certificate signed by unknown authority")
    );
}

#[test]
fn a_port_that_accepts_and_says_nothing_does_not_speak_tls() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let found = probe_soon(&tcp(address, Some(tls(true, ""))));
    assert_eq!(found, critical(format!("dial tcp {address}: i/o timeout")));
}

#[test]
fn udp_passes_when_there_is_an_answer_or_silence() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let success = passing(format!("UDP connect {address}: Success"));
    assert_eq!(probe_soon(&udp(address)), success);
    let answering = thread::spawn(move || {
        // The first is from the probe before.
        for _ in 0..2 {
            let mut piece = [0; 16];
            let (length, peer) = server.recv_from(&mut piece).unwrap();
            server.send_to(&piece[..length], peer).unwrap();
        }
    });
    assert_eq!(probe(&udp(address)), success);
    answering.join().unwrap();
}

#[test]
fn udp_fails_when_nobody_listens() {
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = format!("read udp {address}: connection refused");
    assert_eq!(probe(&udp(address)), critical(refused));
}
