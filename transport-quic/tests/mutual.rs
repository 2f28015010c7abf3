//! The planes on which either end sends on a connection, whoever made it.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail"
)]

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use bytes::Bytes;
use common::{Agent, PATIENCE, client, echo, run, runtimes, server, soon, until};
use futures_lite::future::zip;
use lictor_machine::NodeId;
use lictor_transport_quic::{
    CallError, ConnectError, Event, Limits, Options, Plane, RefusalKind, SendError, Target,
};

fn say(from: &Agent, to: &Agent, plane: Plane, words: &'static str) {
    let words = Bytes::from_static(words.as_bytes());
    from.transport.datagram(to.node(), plane, words).unwrap();
}

/// The next event, which must be a datagram: from whom, and its content.
async fn heard(agent: &mut Agent) -> (NodeId, Bytes) {
    match agent.next().await {
        Event::Datagram { peer, datagram, .. } => (peer.node(), datagram),
        other => panic!("expected a datagram, got {other:?}"),
    }
}

/// Connections that an agent has, whoever made them.
fn connections(agent: &Agent) -> usize {
    let stats = agent.transport.stats();
    stats.outgoing + stats.incoming
}

fn idle_after(timeout: Duration) -> Limits {
    Limits {
        idle_timeout: timeout,
        ..Limits::default()
    }
}

#[test]
fn who_was_called_answers_on_the_same_connection_on_every_runtime() {
    for runtime in runtimes() {
        runtime.clone().block_on(async {
            for plane in [Plane::Gossip, Plane::Wan] {
                let with_runtime = |options| Options {
                    runtime: runtime.clone(),
                    ..options
                };
                let mut a = Agent::start(with_runtime(server(1)));
                let mut b = Agent::start(with_runtime(server(2)));
                a.knows(&b);
                b.knows(&a);
                say(&a, &b, plane, "ping");
                assert_eq!(heard(&mut b).await, (NodeId(1), "ping".into()));
                say(&b, &a, plane, "ack");
                assert_eq!(heard(&mut a).await, (NodeId(2), "ack".into()));
                let calling = b
                    .transport
                    .call(NodeId(1), plane, Bytes::from_static(b"state?"), PATIENCE);
                let answering = async {
                    let Event::Call {
                        peer, request, reply, ..
                    } = a.next().await
                    else {
                        panic!("no call")
                    };
                    assert_eq!((peer.node(), request), (NodeId(2), "state?".into()));
                    assert!(reply.send(Bytes::from_static(b"state")));
                };
                let (called, ()) = zip(calling, answering).await;
                let (peer, answer) = called.unwrap();
                assert_eq!((peer.node(), answer), (NodeId(1), "state".into()));
                for agent in [&a, &b] {
                    let stats = agent.transport.stats();
                    assert_eq!((stats.handshakes, connections(agent)), (1, 1), "{plane}");
                }
            }
        });
    }
}

#[test]
fn other_planes_have_a_connection_for_each_direction() {
    run(async {
        let a = Agent::start(server(1));
        let b = Agent::start(server(2));
        a.knows(&b);
        b.knows(&a);
        let (a, b) = (echo(a), echo(b));
        for (from, to) in [(&a, 2), (&b, 1)] {
            from.call(NodeId(to), Plane::Rpc, Bytes::new(), PATIENCE)
                .await
                .unwrap();
        }
        assert_eq!((a.stats().outgoing, a.stats().incoming), (1, 1));
    });
}

#[test]
fn a_connection_made_to_join_by_address_serves_the_node_that_is_found_there() {
    run(async {
        let mut a = Agent::start(client(1));
        let b = Agent::start(client(2));
        b.knows(&a);
        let (node, address) = (b.node(), b.address());
        let b = echo(b);
        let (peer, _) = a
            .transport
            .call(Target::Address(address), Plane::Gossip, Bytes::new(), PATIENCE)
            .await
            .unwrap();
        assert_eq!((peer.node(), peer.address), (node, address));
        a.transport.set_address(node, address);
        a.transport
            .call(node, Plane::Gossip, Bytes::new(), PATIENCE)
            .await
            .unwrap();
        b.datagram(NodeId(1), Plane::Gossip, Bytes::from_static(b"hello"))
            .unwrap();
        assert_eq!(heard(&mut a).await.1, "hello");
        assert_eq!(a.transport.stats().handshakes, 1);
    });
}

#[test]
fn agents_that_call_each_other_at_once_lose_nothing_and_settle_on_one_connection() {
    run(async {
        let with_limits = |options| Options {
            limits: idle_after(Duration::from_secs(2)),
            ..options
        };
        let mut a = Agent::start(with_limits(client(1)));
        let mut b = Agent::start(with_limits(client(2)));
        a.knows(&b);
        b.knows(&a);
        // Both begin before either can have heard of the other.
        say(&a, &b, Plane::Gossip, "0");
        say(&b, &a, Plane::Gossip, "0");
        let mut rounds = 1;
        while rounds < 50 || connections(&a) > 1 || connections(&b) > 1 {
            let (to_b, to_a) = zip(heard(&mut b), heard(&mut a)).await;
            assert_eq!((to_b.0, to_a.0), (NodeId(1), NodeId(2)));
            lictor_runtime_smol::runtime()
                .sleep(Duration::from_millis(10))
                .await;
            say(&a, &b, Plane::Gossip, "next");
            say(&b, &a, Plane::Gossip, "next");
            rounds += 1;
            assert!(rounds < 10_000, "there are still two connections");
        }
        for agent in [&a, &b] {
            let stats = agent.transport.stats();
            assert_eq!(stats.datagrams_dropped, 0);
            assert!(stats.handshakes <= 2, "nobody dials again: {stats:?}");
        }
    });
}

#[test]
fn a_connection_that_only_the_other_end_uses_is_not_idle() {
    run(async {
        let with_limits = |options| Options {
            limits: idle_after(Duration::from_secs(1)),
            ..options
        };
        let mut a = Agent::start(with_limits(client(1)));
        let mut b = Agent::start(with_limits(client(2)));
        a.knows(&b);
        b.knows(&a);
        say(&a, &b, Plane::Gossip, "only this");
        heard(&mut b).await;
        // For several times the timeout only who was called sends.
        for _ in 0..30 {
            say(&b, &a, Plane::Gossip, "again");
            heard(&mut a).await;
            lictor_runtime_smol::runtime()
                .sleep(Duration::from_millis(100))
                .await;
        }
        assert_eq!(b.transport.stats().handshakes, 1);
        until("nobody uses it, and it is closed", || {
            connections(&a) == 0 && connections(&b) == 0
        })
        .await;
        say(&b, &a, Plane::Gossip, "on a new one");
        assert_eq!(heard(&mut a).await.1, "on a new one");
    });
}

#[test]
fn a_node_may_be_elsewhere_for_other_data_centers() {
    run(async {
        let (mut near, mut far) = (Agent::start(server(2)), Agent::start(server(2)));
        let a = Agent::start(server(1));
        a.transport.set_address(NodeId(2), near.address());
        a.transport.set_wan_address(NodeId(2), far.address());
        for _ in 0..2 {
            say(&a, &near, Plane::Gossip, "near");
            say(&a, &far, Plane::Wan, "far");
            assert_eq!(heard(&mut near).await.1, "near");
            assert_eq!(heard(&mut far).await.1, "far");
        }
        assert_eq!(a.transport.stats().handshakes, 2);
        a.transport.forget_wan(NodeId(2));
        say(&a, &near, Plane::Gossip, "still near");
        assert_eq!(heard(&mut near).await.1, "still near");
        say(&a, &far, Plane::Wan, "nowhere");
        until("it is dropped", || a.transport.stats().datagrams_dropped == 1).await;
    });
}

#[test]
fn nobody_is_sent_what_is_for_the_node_at_another_address() {
    run(async {
        let mut holder = Agent::start(client(2));
        let copy = Agent::start(client(2));
        let mut a = Agent::start(client(1));
        a.knows(&holder);
        copy.knows(&a);
        say(&copy, &a, Plane::Gossip, "I am 2");
        heard(&mut a).await;
        say(&a, &holder, Plane::Gossip, "to 2");
        assert_eq!(heard(&mut holder).await, (NodeId(1), "to 2".into()));
        assert_eq!(copy.transport.stats().frames_received, 0);
    });
}

#[test]
fn a_peer_that_restarted_is_answered_on_its_new_connection() {
    run(async {
        let limits = Limits {
            handshake_timeout: Duration::from_millis(500),
            ..Limits::default()
        };
        let with_limits = |options| Options {
            limits: limits.clone(),
            ..options
        };
        // The lower id has made the first connection, and would choose it again if it were new.
        let mut a = Agent::start(with_limits(client(1)));
        let mut b = Agent::start(with_limits(client(2)));
        a.knows(&b);
        say(&a, &b, Plane::Gossip, "one");
        heard(&mut b).await;
        let address = b.address();
        lictor_runtime_smol::runtime()
            .sleep(Duration::from_millis(600))
            .await;
        b.transport.close().await;
        drop(b.incoming);
        let mut b = Agent::take_over(address, || with_limits(client(2))).await;
        b.knows(&a);
        until("it is reached", || {
            say(&b, &a, Plane::Gossip, "back");
            matches!(a.incoming.try_next(), Some(Event::Datagram { .. }))
        })
        .await;
        say(&a, &b, Plane::Gossip, "two");
        assert_eq!(heard(&mut b).await.1, "two");
    });
}

#[test]
fn a_dead_peer_costs_a_few_packets_and_no_words() {
    run(async {
        let limits = Limits {
            handshake_timeout: Duration::from_millis(300),
            reconnect_min: Duration::from_mins(10),
            reconnect_max: Duration::from_mins(10),
            ..Limits::default()
        };
        let mut a = Agent::start(Options { limits, ..client(1) });
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
        a.transport.set_address(NodeId(2), nobody.local_addr().unwrap());
        let send = || {
            a.transport
                .datagram(NodeId(2), Plane::Gossip, Bytes::from_static(b"?"))
        };
        for _ in 0..100 {
            send().unwrap();
        }
        // All but the last few are dropped at once, and those when the attempt has failed.
        assert!(a.transport.stats().datagrams_dropped >= 80);
        until("the rest is dropped", || {
            a.transport.stats().datagrams_dropped == 100
        })
        .await;
        let error = send().unwrap_err();
        assert!(
            matches!(error, SendError::Unreachable(ConnectError::BackingOff { .. })),
            "{error}"
        );
        let stats = a.transport.stats();
        assert_eq!(
            (stats.failed_dials, stats.frames_sent, stats.frames_lost),
            (1, 0, 0)
        );
        assert!(a.incoming.try_next().is_none(), "nothing is reported");
    });
}

#[test]
fn only_so_many_connections_are_begun_for_datagrams() {
    run(async {
        let limits = Limits {
            max_dials: 2,
            ..Limits::default()
        };
        let a = Agent::start(Options { limits, ..client(1) });
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
        for node in 2..10 {
            a.transport
                .set_address(NodeId(node), nobody.local_addr().unwrap());
            a.transport
                .datagram(NodeId(node), Plane::Gossip, Bytes::from_static(b"?"))
                .unwrap();
        }
        assert_eq!(a.transport.stats().datagrams_dropped, 6);
        until("the attempts are over", || {
            a.transport.stats().datagrams_dropped == 8
        })
        .await;
        assert_eq!(a.transport.stats().failed_dials, 2);
        // Both have failed, so now there is room for one.
        let mut b = Agent::start(client(20));
        a.knows(&b);
        say(&a, &b, Plane::Gossip, "there is room");
        heard(&mut b).await;
    });
}

#[test]
fn a_datagram_that_waited_too_long_is_dropped() {
    run(async {
        let a = Agent::start(client(1));
        let mut b = Agent::start(client(2));
        // Nobody answers for longer than a datagram keeps; then the agent does that is meant.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let relay = silent.local_addr().unwrap();
        a.transport.set_address(NodeId(2), relay);
        a.transport
            .datagram(NodeId(2), Plane::Gossip, Bytes::from_static(b"stale"))
            .unwrap();
        lictor_runtime_smol::runtime()
            .sleep(Duration::from_millis(1200))
            .await;
        let front = a.address();
        let behind = b.address();
        silent.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 2048];
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok((length, from)) = silent.recv_from(&mut packet) {
                    let to = if from == front { behind } else { front };
                    silent.send_to(&packet[..length], to).unwrap();
                }
            }
        });
        until("it is connected", || a.transport.stats().outgoing == 1).await;
        until("it is dropped", || a.transport.stats().datagrams_dropped == 1).await;
        a.transport
            .datagram(NodeId(2), Plane::Gossip, Bytes::from_static(b"fresh"))
            .unwrap();
        assert_eq!(heard(&mut b).await.1, "fresh");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        thread.join().unwrap();
    });
}

#[test]
fn a_flood_of_datagrams_drops_datagrams_and_holds_up_nothing_else() {
    run(async {
        let limits = Limits {
            datagram_queue: 10,
            datagrams_per_connection: 4,
            ..Limits::default()
        };
        let mut receiver = Agent::start(Options { limits, ..server(3) });
        let (flood, other) = (Agent::start(server(1)), Agent::start(server(2)));
        flood.knows(&receiver);
        other.knows(&receiver);
        until("most are dropped", || {
            say(&flood, &receiver, Plane::Gossip, "flood");
            receiver.transport.stats().datagrams_overrun > 100
        })
        .await;
        // Another peer still has room, and what is no datagram does not wait behind them.
        say(&other, &receiver, Plane::Gossip, "other");
        until("it has come", || receiver.transport.stats().frames_received == 5).await;
        other
            .transport
            .send(NodeId(3), Plane::Raft, 0, Bytes::from_static(b"frame"))
            .unwrap();
        until("the frame has come", || {
            receiver.transport.stats().frames_received == 6
        })
        .await;
        let mut events = Vec::new();
        while let Some(event) = receiver.incoming.try_next() {
            events.push(match event {
                Event::Datagram { peer, .. } => (peer.node(), "datagram"),
                Event::Frame { peer, .. } => (peer.node(), "frame"),
                other => panic!("{other:?}"),
            });
        }
        assert!(events.iter().take(2).any(|event| *event == (NodeId(2), "frame")));
        let from = |node| {
            events
                .iter()
                .filter(|event| **event == (NodeId(node), "datagram"))
                .count()
        };
        assert_eq!(from(2), 1);
        assert!(from(1) >= 4, "what the flood had queued was not dropped again");
    });
}

#[test]
fn streams_that_a_peer_may_open_are_bounded() {
    run(async {
        let mut callee = Agent::start(client(2));
        let caller = Agent::start(client(1));
        caller.knows(&callee);
        let runtime = lictor_runtime_smol::runtime();
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let transport = caller.transport.clone();
                runtime.spawn(async move {
                    transport
                        .call(NodeId(2), Plane::Gossip, Bytes::new(), PATIENCE)
                        .await
                })
            })
            .collect();
        let mut replies = Vec::new();
        // One of sixteen streams was for the greeting, and need not be back yet.
        for _ in 0..15 {
            let Event::Call { reply, .. } = callee.next().await else {
                panic!("no call")
            };
            replies.push(reply);
        }
        // No more come until one of these is answered, and that holds up nothing else.
        caller
            .transport
            .datagram(NodeId(2), Plane::Gossip, Bytes::from_static(b"still here"))
            .unwrap();
        assert_eq!(heard(&mut callee).await.1, "still here");
        assert!((15..=16).contains(&callee.transport.stats().calls_taken));
        for reply in replies {
            reply.send(Bytes::new());
        }
        let _callee = echo(callee);
        for call in calls {
            call.await.unwrap();
        }
    });
}

#[test]
fn the_allowance_of_calls_grows_with_their_number_up_to_the_limit() {
    run(async {
        let limits = Limits {
            calls_per_connection: 200,
            ..Limits::default()
        };
        let mut callee = Agent::start(Options { limits, ..server(2) });
        let caller = Agent::start(client(1));
        caller.knows(&callee);
        let runtime = lictor_runtime_smol::runtime();
        let calls: Vec<_> = (0..300)
            .map(|_| {
                let transport = caller.transport.clone();
                runtime.spawn(async move {
                    transport
                        .call(NodeId(2), Plane::Rpc, Bytes::new(), PATIENCE)
                        .await
                })
            })
            .collect();
        let mut replies = Vec::new();
        while replies.len() < 200 {
            let Event::Call { reply, .. } = callee.next().await else {
                panic!("no call")
            };
            replies.push(reply);
        }
        assert_eq!(callee.transport.stats().calls_taken, 200);
        for reply in replies {
            reply.send(Bytes::new());
        }
        let _callee = echo(callee);
        for call in calls {
            call.await.unwrap();
        }
    });
}

#[test]
fn clients_are_refused_on_the_wan_plane_and_the_far_on_the_gossip_plane() {
    run(async {
        let a = Agent::start(client(1));
        let b = Agent::start(server(2));
        a.knows(&b);
        let error = a
            .transport
            .call(NodeId(2), Plane::Wan, Bytes::new(), PATIENCE)
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::NotSent(_)), "{error}");
        until("it is counted", || {
            a.transport.stats().refused(RefusalKind::Role) + b.transport.stats().refused(RefusalKind::Role)
                > 0
        })
        .await;
        let far = Agent::start(common::options(
            common::identity(3, lictor_transport_quic::Role::Server, "dc2"),
            common::key(7),
        ));
        far.knows(&b);
        say(&far, &b, Plane::Gossip, "let me in");
        until("it is refused", || {
            far.transport.stats().refused(RefusalKind::Datacenter)
                + b.transport.stats().refused(RefusalKind::Datacenter)
                > 0
        })
        .await;
        soon("it is dropped", async {
            until("it is dropped", || far.transport.stats().datagrams_dropped == 1).await;
        })
        .await;
        assert_eq!(b.transport.stats().frames_received, 0);
    });
}
