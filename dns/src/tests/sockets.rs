//! Real sockets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use hickory_proto::rr::RecordType;

use super::*;
use crate::config::Limits;
use crate::server::{Listener, Server};

/// How long anything that should happen may take.
const PATIENCE: Duration = Duration::from_mins(1);

const NAME: &str = "web.service.consul.";

struct Running {
    world: Arc<World>,
    server: Server,
    address: SocketAddr,
    runtime: Runtime,
    metrics: Registry,
}

fn start(at: &str, configure: impl FnOnce(&mut Config)) -> Running {
    let world = World::new(true);
    for number in 0..100 {
        world.service(
            &format!("n{number}"),
            &format!("10.0.0.{number}"),
            service("web", 80),
        );
    }
    let runtime = lictor_runtime_smol::runtime();
    let mut config = Config::new("dc1");
    configure(&mut config);
    let listener = Listener::bind(at.parse().unwrap()).unwrap();
    let address = listener.address();
    let source: Arc<dyn Source> = Arc::clone(&world) as _;
    let metrics = Registry::new();
    let meters = Meters::new(&metrics, "n1");
    let server = Server::start(&runtime, vec![listener], source, config, 2, meters, 1).unwrap();
    Running {
        world,
        server,
        address,
        runtime,
        metrics,
    }
}

impl Running {
    fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind((self.address.ip(), 0)).unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn shut_down(self) {
        self.runtime.block_on(self.server.shut_down());
    }
}

fn framed(query: &[u8]) -> Vec<u8> {
    [&(query.len() as u16).to_be_bytes()[..], query].concat()
}

fn read_message(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).unwrap();
    Message::from_vec(&bytes).unwrap()
}

/// Whether the other end has closed.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[test]
fn queries_are_answered_by_udp_and_tcp() {
    for at in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
        let mut running = start(at, |_| {});
        if running.address.ip().is_unspecified() {
            running.address.set_ip(CLIENT);
        }
        let socket = running.udp();
        let mut bytes = [0; 4096];
        for _ in 0..100 {
            socket.send(&query(NAME, RecordType::A, UDP)).unwrap();
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(Message::from_vec(&bytes[..length]).unwrap().answers.len(), 3);
        }
        let mut stream = running.tcp();
        for _ in 0..3 {
            stream
                .write_all(&framed(&query(NAME, RecordType::SRV, TCP)))
                .unwrap();
            assert_eq!(read_message(&mut stream).answers.len(), 100);
        }
        let stats = running.server.stats();
        assert_eq!((stats.udp, stats.tcp, stats.connections), (100, 3, 1));
        let counted = || running.metrics.report().samples[0].total.count;
        let give_up = Instant::now() + PATIENCE;
        // That is noted when the answers have gone out.
        while counted() < 103 {
            assert!(Instant::now() < give_up, "{}", counted());
            std::thread::yield_now();
        }
        assert_eq!(counted(), 103);
        let handle = running.server.handle();
        let mut config = Config::new("dc1");
        config.a_record_limit = 1;
        handle.reconfigure(config);
        stream
            .write_all(&framed(&query(NAME, RecordType::A, TCP)))
            .unwrap();
        assert_eq!(read_message(&mut stream).answers.len(), 1);
        assert_eq!(handle.stats().unwrap().tcp, 4);
        running.shut_down();
        assert!(handle.stats().is_none());
    }
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    let running = start("127.0.0.1:0", |_| {});
    let clients: Vec<_> = (0..8)
        .map(|client: u16| {
            let socket = running.udp();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                for number in 0..500_u16 {
                    let mut query = query(NAME, RecordType::SRV, edns(1232));
                    let id = (client << 12 | number).to_be_bytes();
                    query[..2].copy_from_slice(&id);
                    socket.send(&query).unwrap();
                    let length = socket.recv(&mut bytes).unwrap();
                    assert_eq!(bytes[..2], id);
                    Message::from_vec(&bytes[..length]).unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let stats = running.server.stats();
    assert_eq!((stats.udp, stats.dropped), (4000, 0));
    assert!(stats.hits >= 3990, "{}", stats.hits);
    running.shut_down();
}

#[test]
fn queries_may_follow_each_other_without_waiting() {
    let running = start("127.0.0.1:0", |_| {});
    let mut stream = running.tcp();
    let mut all = Vec::new();
    for id in 0..200_u16 {
        let mut query = query(NAME, RecordType::SRV, TCP);
        query[..2].copy_from_slice(&id.to_be_bytes());
        all.extend_from_slice(&framed(&query));
    }
    let mut writing = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        // In pieces that end anywhere.
        for piece in all.chunks(17) {
            writing.write_all(piece).unwrap();
        }
        writing.shutdown(std::net::Shutdown::Write).unwrap();
    });
    for id in 0..200 {
        let answer = read_message(&mut stream);
        assert_eq!((answer.metadata.id, answer.answers.len()), (id, 100));
    }
    writer.join().unwrap();
    assert!(is_closed(&mut stream));
    running.shut_down();
}

#[test]
fn who_is_asked_elsewhere_does_not_hold_up_others() {
    // It takes questions and says nothing.
    let silent = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let recursor = silent.address();
    let running = start("127.0.0.1:0", |config| {
        config.recursors = vec![recursor];
        config.recursor_timeout = Duration::from_hours(1);
        config.limits.pipelined = 4;
        config.limits.stall = Duration::from_hours(1);
    });
    let (socket, mut stream) = (running.udp(), running.tcp());
    for _ in 0..3 {
        socket.send(&query("example.com.", RecordType::A, UDP)).unwrap();
        stream
            .write_all(&framed(&query("example.com.", RecordType::A, TCP)))
            .unwrap();
    }
    socket.send(&query(NAME, RecordType::A, UDP)).unwrap();
    let mut bytes = [0; 512];
    let length = socket.recv(&mut bytes).unwrap();
    assert_eq!(Message::from_vec(&bytes[..length]).unwrap().answers.len(), 3);
    stream
        .write_all(&framed(&query(NAME, RecordType::A, TCP)))
        .unwrap();
    assert_eq!(read_message(&mut stream).answers.len(), 100);
    running.shut_down();
    assert!(is_closed(&mut stream));
}

#[test]
fn clients_that_stall_are_cut_off() {
    let running = start("127.0.0.1:0", |config| {
        config.limits.stall = Duration::from_millis(50);
    });
    let mut idle = running.tcp();
    assert!(is_closed(&mut idle));
    let mut half = running.tcp();
    half.write_all(&framed(&query(NAME, RecordType::A, TCP))[..10])
        .unwrap();
    assert!(is_closed(&mut half));
    // A byte now and then is no query either.
    let mut slow = running.tcp();
    slow.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let began = Instant::now();
    while !is_closed(&mut slow) {
        assert!(began.elapsed() < PATIENCE);
        // It may be closed in between.
        let _ = slow.write_all(&[0]);
    }
    // Nor is asking and never listening.
    let mut deaf = running.tcp();
    deaf.set_write_timeout(Some(PATIENCE)).unwrap();
    let all = framed(&query(NAME, RecordType::SRV, TCP)).repeat(1000);
    let began = Instant::now();
    while deaf.write_all(&all).is_ok() {
        assert!(began.elapsed() < PATIENCE);
    }
    running.shut_down();
}

#[test]
fn connections_are_counted() {
    let running = start("127.0.0.1:0", |config| {
        config.limits = Limits {
            connections_per_client: 2,
            ..config.limits
        };
    });
    let mut first = running.tcp();
    let mut second = running.tcp();
    for stream in [&mut first, &mut second] {
        stream
            .write_all(&framed(&query(NAME, RecordType::A, TCP)))
            .unwrap();
        read_message(stream);
    }
    assert!(is_closed(&mut running.tcp()));
    assert_eq!(running.server.stats().refused_connections, 1);
    drop(first);
    let began = Instant::now();
    loop {
        let mut third = running.tcp();
        third
            .write_all(&framed(&query(NAME, RecordType::A, TCP)))
            .unwrap();
        if third.read_exact(&mut [0; 2]).is_ok() {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
    }
    running.shut_down();
}

#[test]
fn a_connection_with_something_else_on_it_is_closed() {
    let running = start("127.0.0.1:0", |_| {});
    let mut answer = query(NAME, RecordType::A, TCP);
    answer[2] |= 0x80;
    for bytes in [
        &framed(&answer)[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0],
        &[0, 3, 1, 2, 3],
    ] {
        let mut stream = running.tcp();
        stream.write_all(bytes).unwrap();
        assert!(is_closed(&mut stream), "{bytes:?}");
    }
    let mut bad = query(NAME, RecordType::A, TCP);
    bad[5] = 2;
    let mut stream = running.tcp();
    stream.write_all(&framed(&bad)).unwrap();
    assert_eq!(said(&read_message(&mut stream)), ["FormErr"]);
    running.shut_down();
}

#[test]
fn when_there_is_too_much_the_newest_are_answered() {
    let running = start("127.0.0.1:0", |config| config.limits.patience = Duration::ZERO);
    // Nothing is new enough, so nothing is answered.
    let socket = running.udp();
    socket.send(&query(NAME, RecordType::A, UDP)).unwrap();
    let began = Instant::now();
    while running.server.stats().dropped == 0 {
        assert!(began.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    running.shut_down();
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let running = start("127.0.0.1:0", |_| {});
    let error = Listener::bind(running.address).unwrap_err().to_string();
    assert!(
        error.contains(&format!("cannot listen for DNS on {}", running.address))
            && error.contains("-dns-port"),
        "{error}"
    );
    assert!(running.world.snapshot().is_some());
    running.shut_down();
}
