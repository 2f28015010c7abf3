//! Frames: order, lanes, bounds, and what happens when the other side goes.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail"
)]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Agent, PATIENCE, client, run, runtimes, server, soon, until};
use lictor_machine::NodeId;
use lictor_transport_quic::{
    Event, LANES, Limits, MAX_DATAGRAM_BYTES, Options, Plane, RefusalKind, SendError, Target,
};

const FRAMES: u32 = 3000;

fn numbered(number: u32, length: usize) -> Bytes {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(length.max(4), number as u8);
    bytes.into()
}

fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(*frame.first_chunk().unwrap())
}

/// Sends, waiting for room.
async fn push(from: &Agent, to: NodeId, lane: u8, frame: Bytes) {
    let begin = Instant::now();
    loop {
        match from.transport.send(to, Plane::Raft, lane, frame.clone()) {
            Ok(()) => return,
            Err(SendError::Full) if begin.elapsed() < PATIENCE => {
                a_moment().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn a_moment() {
    lictor_runtime_smol::runtime()
        .sleep(Duration::from_millis(1))
        .await;
}

#[test]
fn frames_arrive_in_order_on_their_lane_on_every_runtime() {
    for runtime in runtimes() {
        runtime.clone().block_on(async {
            let sender = Agent::start(Options {
                runtime: runtime.clone(),
                ..server(1)
            });
            let mut receiver = Agent::start(Options {
                runtime: runtime.clone(),
                ..server(2)
            });
            sender.knows(&receiver);
            let mut next = [0; 3];
            let sending = async {
                for n in 0..FRAMES {
                    // Short ones, long ones, and some that are longer than a batch.
                    let length = match n % 500 {
                        0 => 200_000,
                        n if n % 7 == 0 => 3000,
                        _ => 40,
                    };
                    push(&sender, NodeId(2), (n % 3) as u8, numbered(n / 3, length)).await;
                }
            };
            let receiving = async {
                for _ in 0..FRAMES {
                    let Event::Frame {
                        peer,
                        plane,
                        lane,
                        frame,
                    } = receiver.next().await
                    else {
                        panic!("only frames were sent")
                    };
                    assert_eq!((peer.node(), plane), (NodeId(1), Plane::Raft));
                    assert_eq!(peer.identity, *sender.transport.identity());
                    assert_eq!(peer.address, sender.address());
                    let next = &mut next[usize::from(lane)];
                    assert_eq!(number(&frame), *next, "lane {lane}");
                    assert!(frame[4..].iter().all(|byte| *byte == *next as u8));
                    *next += 1;
                }
            };
            soon("all frames", futures_lite::future::zip(sending, receiving)).await;
            let stats = receiver.transport.stats();
            assert_eq!(stats.frames_received, u64::from(FRAMES));
            assert_eq!((stats.incoming, stats.handshakes), (1, 1));
            until("counted", || {
                sender.transport.stats().frames_sent == u64::from(FRAMES)
            })
            .await;
        });
    }
}

#[test]
fn no_lane_starves() {
    run(async {
        let sender = Agent::start(server(1));
        let mut receiver = Agent::start(server(2));
        sender.knows(&receiver);
        // More than the windows hold, on the lane that goes first; then one frame on the lane that goes last.
        for n in 0..400 {
            push(&sender, NodeId(2), 0, numbered(n, 60_000)).await;
        }
        push(&sender, NodeId(2), LANES - 1, numbered(7, 4)).await;
        let (mut first, mut last) = (0, 0);
        while first < 400 || last < 1 {
            match receiver.frame().await {
                (0, _) => first += 1,
                (lane, frame) => {
                    assert_eq!((lane, number(&frame)), (LANES - 1, 7));
                    last += 1;
                }
            }
        }
    });
}

#[test]
fn agents_call_each_other_at_once_and_themselves() {
    run(async {
        let mut a = Agent::start(server(1));
        let mut b = Agent::start(server(2));
        a.knows(&b);
        b.knows(&a);
        a.knows(&a);
        a.transport
            .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"to b"))
            .unwrap();
        b.transport
            .send(NodeId(1), Plane::Raft, 0, Bytes::from_static(b"to a"))
            .unwrap();
        assert_eq!(b.frame().await.1, "to b");
        assert_eq!(a.frame().await.1, "to a");
        a.transport
            .send(NodeId(1), Plane::Raft, 1, Bytes::from_static(b"to myself"))
            .unwrap();
        assert_eq!(a.frame().await.1, "to myself");
    });
}

#[test]
fn datagrams_arrive() {
    run(async {
        let sender = Agent::start(client(1));
        let mut receiver = Agent::start(client(2));
        let target = Target::Address(receiver.address());
        let longest = Bytes::from(vec![9; MAX_DATAGRAM_BYTES]);
        sender
            .transport
            .datagram(target, Plane::Gossip, longest.clone())
            .unwrap();
        match receiver.next().await {
            Event::Datagram {
                peer,
                plane,
                datagram,
            } => {
                assert_eq!(
                    (peer.node(), plane, datagram),
                    (NodeId(1), Plane::Gossip, longest)
                );
            }
            other => panic!("{other:?}"),
        }
        let error = sender
            .transport
            .datagram(target, Plane::Gossip, vec![0; MAX_DATAGRAM_BYTES + 1].into());
        assert!(matches!(
            error,
            Err(SendError::TooLarge {
                limit: MAX_DATAGRAM_BYTES,
                ..
            })
        ));
    });
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() {
    run(async {
        let limits = Limits {
            raft_frame_bytes: 100,
            ..Limits::default()
        };
        let agent = Agent::start(Options { limits, ..server(1) });
        let send = |lane, length| {
            agent
                .transport
                .send(NodeId(2), Plane::Raft, lane, vec![0; length].into())
        };
        assert_eq!(
            send(0, 101),
            Err(SendError::TooLarge {
                length: 101,
                limit: 100
            })
        );
        assert_eq!(send(LANES, 1), Err(SendError::Lane(LANES)));
    });
}

#[test]
fn a_full_queue_is_an_error_and_loses_nothing() {
    run(async {
        let limits = Limits {
            queue_frames: 16,
            queue_bytes: 1000,
            event_queue: 1,
            ..Limits::default()
        };
        let sender = Agent::start(Options {
            limits: limits.clone(),
            ..server(1)
        });
        let mut receiver = Agent::start(Options { limits, ..server(2) });
        sender.knows(&receiver);
        // Nobody takes the receiver's events: first its queue fills, then the windows, then the sender's queue.
        let mut sent = 0;
        let begin = Instant::now();
        let mut full_for = 0;
        while full_for < 100 {
            assert!(begin.elapsed() < PATIENCE, "the queue is never full");
            match sender
                .transport
                .send(NodeId(2), Plane::Raft, 0, numbered(sent, 500_000))
            {
                Ok(()) => (sent, full_for) = (sent + 1, 0),
                Err(SendError::Full) => {
                    full_for += 1;
                    a_moment().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        for n in 0..sent {
            assert_eq!(number(&receiver.frame().await.1), n);
        }
    });
}

#[test]
fn a_frame_beyond_the_receivers_limit_closes_the_connection_and_says_so() {
    run(async {
        let mut sender = Agent::start(server(1));
        let limits = Limits {
            raft_frame_bytes: 1000,
            ..Limits::default()
        };
        let mut receiver = Agent::start(Options { limits, ..server(2) });
        sender.knows(&receiver);
        sender
            .transport
            .send(NodeId(2), Plane::Raft, 0, vec![1; 1000].into())
            .unwrap();
        assert_eq!(receiver.frame().await.1.len(), 1000);
        sender
            .transport
            .send(NodeId(2), Plane::Raft, 0, vec![1; 1001].into())
            .unwrap();
        let reason = sender.unreachable(NodeId(2)).await;
        assert!(
            reason.contains("a frame of 1001 bytes on the Raft plane; the limit is 1000"),
            "{reason}"
        );
        until("counted", || {
            receiver.transport.stats().refused(RefusalKind::FrameTooLarge) == 1
        })
        .await;
        // The next frame goes on a new connection.
        sender
            .transport
            .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"short"))
            .unwrap();
        assert_eq!(receiver.frame().await.1, "short");
    });
}

#[test]
fn a_peer_that_restarts_is_unreachable_and_then_back() {
    run(async {
        let mut sender = Agent::start(server(1));
        let mut receiver = Agent::start(server(2));
        let address = receiver.address();
        sender.knows(&receiver);
        sender
            .transport
            .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"one"))
            .unwrap();
        assert_eq!(receiver.frame().await.1, "one");
        receiver.transport.close().await;
        let reason = sender.unreachable(NodeId(2)).await;
        assert!(reason.contains("shutting down"), "{reason}");
        drop(receiver.incoming);

        let mut receiver = Agent::take_over(address, || server(2)).await;
        // Attempts while it was away may have left a pause.
        until("a frame is taken", || {
            sender
                .transport
                .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"two"))
                .is_ok()
        })
        .await;
        assert_eq!(receiver.frame().await.1, "two");
    });
}

#[test]
fn a_peer_that_was_never_there_is_reported_with_what_was_lost() {
    run(async {
        let limits = Limits {
            handshake_timeout: Duration::from_secs(2),
            ..Limits::default()
        };
        let mut sender = Agent::start(Options { limits, ..server(1) });
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender
            .transport
            .set_address(NodeId(2), nobody.local_addr().unwrap());
        for _ in 0..3 {
            sender
                .transport
                .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"x"))
                .unwrap();
        }
        let Event::Unreachable {
            target,
            plane,
            lost_frames,
            reason,
        } = sender.next().await
        else {
            panic!("nobody sends frames here")
        };
        assert_eq!(
            (target, plane, lost_frames),
            (Target::Node(NodeId(2)), Plane::Raft, 3),
            "{reason}"
        );
        assert_eq!(sender.transport.stats().frames_lost, 3);

        sender
            .transport
            .send(NodeId(3), Plane::Raft, 0, Bytes::from_static(b"x"))
            .unwrap();
        let reason = sender.unreachable(NodeId(3)).await;
        assert!(reason.contains("-000000000003 is not known"), "{reason}");
    });
}

#[test]
fn a_peer_that_moves_is_found_at_its_new_address() {
    run(async {
        let mut sender = Agent::start(server(1));
        let mut before = Agent::start(server(2));
        sender.knows(&before);
        sender
            .transport
            .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"one"))
            .unwrap();
        assert_eq!(before.frame().await.1, "one");
        let mut after = Agent::start(server(2));
        sender.knows(&after);
        sender.unreachable(NodeId(2)).await;
        sender
            .transport
            .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"two"))
            .unwrap();
        assert_eq!(after.frame().await.1, "two");
    });
}

/// Stands between one agent and another, which it can replace or cut off. It sees only UDP packets.
struct Relay {
    address: SocketAddr,
    /// Where packets of anybody else go to; port 0 for nowhere.
    behind: Arc<Mutex<SocketAddr>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    fn start(front: SocketAddr, behind: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let (behind, stop) = (Arc::new(Mutex::new(behind)), Arc::new(AtomicBool::new(false)));
        let (now_behind, stopped) = (behind.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else {
                    continue;
                };
                let behind = *now_behind.lock().unwrap();
                let to = if from == front { behind } else { front };
                if (from == front || from == behind) && to.port() != 0 {
                    socket.send_to(&packet[..length], to).unwrap();
                }
            }
        });
        Self {
            address,
            behind,
            stop,
            thread: Some(thread),
        }
    }

    fn lead_to(&self, behind: SocketAddr) {
        *self.behind.lock().unwrap() = behind;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_peer_that_crashed_and_restarted_says_so_at_once() {
    run(async {
        let mut sender = Agent::start(server(1));
        let mut before = Agent::start(server(2));
        let relay = Relay::start(sender.address(), before.address());
        sender.transport.set_address(NodeId(2), relay.address);
        sender
            .transport
            .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"one"))
            .unwrap();
        assert_eq!(before.frame().await.1, "one");

        // The old process is gone without a word; the new one has the same identity, and nothing else of it.
        let mut after = Agent::start(server(2));
        relay.lead_to(after.address());
        sender
            .transport
            .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"lost"))
            .unwrap();
        let reason = sender.unreachable(NodeId(2)).await;
        assert!(reason.contains("the peer has restarted"), "{reason}");
        sender
            .transport
            .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"two"))
            .unwrap();
        assert_eq!(after.frame().await.1, "two");
    });
}

#[test]
fn a_peer_that_falls_silent_is_noticed_though_nobody_sends() {
    run(async {
        let mut sender = Agent::start(server(1));
        let mut receiver = Agent::start(server(2));
        let relay = Relay::start(sender.address(), receiver.address());
        sender.transport.set_address(NodeId(2), relay.address);
        sender
            .transport
            .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"one"))
            .unwrap();
        assert_eq!(receiver.frame().await.1, "one");
        relay.lead_to("127.0.0.1:0".parse().unwrap());
        let reason = sender.unreachable(NodeId(2)).await;
        assert!(reason.contains("silent"), "{reason}");
    });
}
