//! Calls: answers, deadlines, and what a failure says about the request.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail"
)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Agent, PATIENCE, client, echo, run, runtimes, server, soon, until};
use futures_lite::FutureExt as _;
use futures_lite::future::poll_once;
use lictor_machine::NodeId;
use lictor_runtime::Task;
use lictor_transport_quic::{CallError, CallFailure, Event, Limits, Options, Plane, ReplyHandle, Target};

#[test]
fn a_call_is_answered_on_every_runtime() {
    for runtime in runtimes() {
        runtime.clone().block_on(async {
            let caller = Agent::start(Options {
                runtime: runtime.clone(),
                ..client(1)
            });
            let callee = Agent::start(Options {
                runtime: runtime.clone(),
                ..server(2)
            });
            caller.knows(&callee);
            let address = Target::Address(callee.address());
            let callee = echo(callee);
            for target in [Target::Node(NodeId(2)), address] {
                for length in [0, 1, 3000, 3_000_000] {
                    let request = Bytes::from(vec![length as u8; length]);
                    let called = caller
                        .transport
                        .call(target, Plane::Rpc, request.clone(), PATIENCE)
                        .await;
                    let (peer, answer) = called.unwrap();
                    assert_eq!(peer.identity, *callee.identity());
                    assert_eq!(answer, request);
                }
            }
            assert_eq!(callee.stats().calls_taken, 8);
            assert_eq!(caller.transport.stats().calls_made, 8);
        });
    }
}

#[test]
fn more_calls_than_streams_all_get_their_answer() {
    run(async {
        let limits = Limits {
            calls_per_connection: 4,
            ..Limits::default()
        };
        let callee = Agent::start(Options { limits, ..server(2) });
        let caller = Agent::start(client(1));
        caller.knows(&callee);
        let _callee = echo(callee);
        let runtime = lictor_runtime_smol::runtime();
        let calls: Vec<_> = (0..100_u8)
            .map(|n| {
                let transport = caller.transport.clone();
                runtime.spawn(async move {
                    let request = Bytes::from(vec![n; 100]);
                    let answer = transport
                        .call(NodeId(2), Plane::Rpc, request.clone(), PATIENCE)
                        .await;
                    assert_eq!(answer.unwrap().1, request);
                })
            })
            .collect();
        for call in calls {
            call.await;
        }
        assert_eq!(caller.transport.stats().handshakes, 1, "they share a connection");
    });
}

#[test]
fn a_request_that_nobody_got_was_not_sent() {
    run(async {
        let limits = Limits {
            message_bytes: 100,
            ..Limits::default()
        };
        let caller = Agent::start(Options { limits, ..client(1) });
        let call = |node, length| {
            caller.transport.call(
                node,
                Plane::Rpc,
                vec![0; length].into(),
                Duration::from_millis(300),
            )
        };
        let error = call(NodeId(9), 1).await.unwrap_err();
        assert!(
            matches!(error, CallError::NotSent(CallFailure::Connect(_))),
            "{error}"
        );
        let error = call(NodeId(9), 101).await.unwrap_err();
        assert_eq!(
            error,
            CallError::NotSent(CallFailure::TooLarge {
                length: 101,
                limit: 100
            })
        );
        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        caller
            .transport
            .set_address(NodeId(8), nobody.local_addr().unwrap());
        let error = call(NodeId(8), 1).await.unwrap_err();
        assert_eq!(error, CallError::NotSent(CallFailure::Deadline));
    });
}

#[test]
fn a_caller_that_gives_up_is_noticed_and_cannot_know() {
    run(async {
        let caller = Agent::start(client(1));
        let mut callee = Agent::start(server(2));
        caller.knows(&callee);
        let first = async {
            if let Event::Call { reply, .. } = callee.next().await {
                reply.send(Bytes::new());
            }
        };
        let connecting = caller
            .transport
            .call(NodeId(2), Plane::Rpc, Bytes::new(), PATIENCE);
        futures_lite::future::zip(connecting, first).await.0.unwrap();
        let request = Bytes::from_static(b"wait");
        // On a connection that is there, the deadline runs out only once the callee has the request.
        let calling = caller
            .transport
            .call(NodeId(2), Plane::Rpc, request, Duration::from_secs(2));
        let taking = async {
            let Event::Call { request, reply, .. } = callee.next().await else {
                panic!("no call")
            };
            assert_eq!(request, "wait");
            soon("the caller gives up", reply.abandoned()).await;
            assert!(reply.is_abandoned());
            assert!(!reply.send(Bytes::new()), "nobody would see it");
        };
        let (called, ()) = futures_lite::future::zip(calling, taking).await;
        assert_eq!(called.unwrap_err(), CallError::MaybeSent(CallFailure::Deadline));
    });
}

#[test]
fn a_dropped_call_is_abandoned() {
    run(async {
        let caller = Agent::start(client(1));
        let mut callee = Agent::start(server(2));
        caller.knows(&callee);
        let calling = async {
            let _ = caller
                .transport
                .call(NodeId(2), Plane::Rpc, Bytes::new(), PATIENCE)
                .await;
            panic!("nobody answers");
        };
        let taking = async {
            let Event::Call { reply, .. } = callee.next().await else {
                panic!("no call")
            };
            reply
        };
        let reply = taking.or(calling).await;
        soon("the caller gives up", reply.abandoned()).await;
    });
}

#[test]
fn a_call_without_an_answer_ends() {
    run(async {
        let caller = Agent::start(client(1));
        let limits = Limits {
            message_bytes: 100,
            answer_bytes: 100,
            ..Limits::default()
        };
        let mut callee = Agent::start(Options { limits, ..server(2) });
        caller.knows(&callee);
        let call = || {
            caller
                .transport
                .call(NodeId(2), Plane::Rpc, Bytes::from_static(b"x"), PATIENCE)
        };

        let taking = async { drop(callee.next().await) };
        let (called, ()) = futures_lite::future::zip(call(), taking).await;
        assert_eq!(called.unwrap_err(), CallError::MaybeSent(CallFailure::NoReply));

        let taking = async {
            let Event::Call { reply, .. } = callee.next().await else {
                panic!("no call")
            };
            assert!(reply.send(vec![0; 101].into()));
        };
        let (called, ()) = futures_lite::future::zip(call(), taking).await;
        assert_eq!(
            called.unwrap_err(),
            CallError::MaybeSent(CallFailure::ReplyTooLarge)
        );

        let taking = async {
            let Event::Call { reply, .. } = callee.next().await else {
                panic!("no call")
            };
            callee.transport.clone().close().await;
            drop(reply);
        };
        let (called, ()) = futures_lite::future::zip(call(), taking).await;
        let error = called.unwrap_err();
        assert!(
            matches!(error, CallError::MaybeSent(CallFailure::Connect(_))),
            "{error}"
        );
    });
}

#[test]
fn connections_that_nobody_uses_are_closed_and_made_again() {
    run(async {
        let limits = Limits {
            idle_timeout: Duration::from_millis(200),
            ..Limits::default()
        };
        let caller = Agent::start(Options { limits, ..server(1) });
        let mut callee = Agent::start(server(2));
        caller.knows(&callee);
        caller
            .transport
            .send(NodeId(2), Plane::Raft, 0, Bytes::from_static(b"stays"))
            .unwrap();
        assert_eq!(callee.frame().await.1, "stays");
        let callee = echo(callee);
        let call = || {
            caller
                .transport
                .call(NodeId(2), Plane::Rpc, Bytes::new(), PATIENCE)
        };
        call().await.unwrap();
        until("only the Raft plane is left", || {
            caller.transport.stats().outgoing == 1 && callee.stats().incoming == 1
        })
        .await;
        call().await.unwrap();
        assert_eq!(caller.transport.stats().handshakes, 3);
    });
}

#[test]
fn the_cache_is_bounded_and_drops_what_was_not_used_for_longest() {
    run(async {
        let limits = Limits {
            links: 2,
            ..Limits::default()
        };
        let caller = Agent::start(Options { limits, ..client(1) });
        let callees: Vec<_> = (2..5).map(|node| Agent::start(server(node))).collect();
        for callee in &callees {
            caller.knows(callee);
        }
        let callees: Vec<_> = callees.into_iter().map(echo).collect();
        let call = |node| {
            caller
                .transport
                .call(NodeId(node), Plane::Rpc, Bytes::new(), PATIENCE)
        };
        for node in [2, 3] {
            call(node).await.unwrap();
        }
        // 2 is used again, so 3 has to go for 4.
        call(2).await.unwrap();
        call(4).await.unwrap();
        until("3 is closed", || callees[1].stats().incoming == 0).await;
        assert_eq!(caller.transport.stats().outgoing, 2);
        assert_eq!(callees[0].stats().incoming, 1);
        call(3).await.unwrap();
    });
}

#[test]
fn a_closed_transport_says_so() {
    run(async {
        let mut agent = Agent::start(client(1));
        let other = agent.transport.clone();
        agent.transport.close().await;
        assert!(soon("the end", agent.incoming.next()).await.is_none());
        let error = other.send(NodeId(2), Plane::Gossip, 0, Bytes::new()).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
        let address: std::net::SocketAddr = "127.0.0.1:9".parse().unwrap();
        let error = other
            .call(address, Plane::Rpc, Bytes::new(), PATIENCE)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
    });
}

/// The next event, which must be a call: its length, and the way back.
async fn taken(callee: &mut Agent) -> (usize, ReplyHandle) {
    match callee.next().await {
        Event::Call { request, reply, .. } => (request.len(), reply),
        other => panic!("expected a call, got {other:?}"),
    }
}

/// A call that goes on by itself.
fn calling(caller: &Agent, length: usize) -> Task<Result<usize, CallError>> {
    let transport = caller.transport.clone();
    lictor_runtime_smol::runtime().spawn(async move {
        let request = Bytes::from(vec![1; length]);
        let called = transport.call(NodeId(2), Plane::Rpc, request, PATIENCE).await;
        called.map(|(_, answer)| answer.len())
    })
}

#[test]
fn large_requests_wait_for_those_before_them_and_small_ones_do_not() {
    run(async {
        let limits = Limits {
            request_bytes: 100_000,
            ..Limits::default()
        };
        let caller = Agent::start(Options { limits, ..client(1) });
        let mut callee = Agent::start(server(2));
        caller.knows(&callee);
        let mut calls = Vec::new();
        for _ in 0..4 {
            calls.push(calling(&caller, 60_000));
        }
        // Larger than all that may be open: it goes alone.
        calls.push(calling(&caller, 1_000_000));
        for _ in 0..5 {
            let (length, large) = taken(&mut callee).await;
            assert!(length >= 60_000);
            let small = calling(&caller, 10);
            let (length, reply) = taken(&mut callee).await;
            assert_eq!(length, 10, "the others wait");
            assert!(reply.send(Bytes::new()));
            assert_eq!(small.await, Ok(0));
            assert!(large.send(Bytes::new()));
        }
        for call in calls {
            assert_eq!(call.await, Ok(0));
        }
    });
}

#[test]
fn what_was_given_up_before_its_turn_was_not_sent() {
    run(async {
        let limits = Limits {
            request_bytes: 100_000,
            ..Limits::default()
        };
        let caller = Agent::start(Options { limits, ..client(1) });
        let mut callee = Agent::start(server(2));
        caller.knows(&callee);
        let first = calling(&caller, 60_000);
        let (_, reply) = taken(&mut callee).await;
        let given_up = || CallFailure::GivenUp("it took too long".into());
        // It stands in line behind the first one, however long.
        let moment = async {
            lictor_runtime_smol::runtime()
                .sleep(Duration::from_millis(200))
                .await;
            given_up()
        };
        let request = Bytes::from(vec![1; 60_000]);
        let call = caller
            .transport
            .call_until(NodeId(2), Plane::Rpc, request, moment);
        assert_eq!(call.await.unwrap_err(), CallError::NotSent(given_up()));
        // What is short does not; this one is taken before it is given up.
        let take = async {
            let (length, _reply) = taken(&mut callee).await;
            assert_eq!(length, 1000, "the other one never came");
            given_up()
        };
        let request = Bytes::from(vec![1; 1000]);
        let call = caller.transport.call_until(NodeId(2), Plane::Rpc, request, take);
        let failed = call.await.unwrap_err();
        assert_eq!(failed, CallError::MaybeSent(given_up()));
        assert!(reply.send(Bytes::new()));
        assert_eq!(first.await, Ok(0));
    });
}

#[test]
fn a_peer_has_no_more_open_on_many_connections_than_on_one() {
    run(async {
        let limits = Limits {
            request_bytes: 50_000,
            ..Limits::default()
        };
        let mut callee = Agent::start(Options { limits, ..server(2) });
        let connections = [client(1), client(1), client(3)].map(Agent::start);
        for caller in &connections {
            caller.knows(&callee);
        }
        let [one, other, stranger] = connections;
        let first = calling(&one, 60_000);
        let (_, reply) = taken(&mut callee).await;
        let refused = calling(&other, 60_000).await;
        assert_eq!(refused, Err(CallError::NotSent(CallFailure::Busy)));
        let admitted = calling(&stranger, 60_000);
        assert!(taken(&mut callee).await.1.send(Bytes::new()));
        assert_eq!(admitted.await, Ok(0));
        assert!(reply.send(Bytes::new()));
        assert_eq!(first.await, Ok(0));
        let again = calling(&other, 60_000);
        assert!(taken(&mut callee).await.1.send(Bytes::new()));
        assert_eq!(again.await, Ok(0));
    });
}

#[test]
fn a_peer_that_has_too_much_open_is_refused_the_rest() {
    run(async {
        let limited = |request_bytes| Limits {
            request_bytes,
            ..Limits::default()
        };
        let caller = Agent::start(Options {
            limits: limited(usize::MAX),
            ..client(1)
        });
        let mut callee = Agent::start(Options {
            limits: limited(50_000),
            ..server(2)
        });
        caller.knows(&callee);
        let first = calling(&caller, 60_000);
        let (_, reply) = taken(&mut callee).await;
        for length in [60_000, 5_000_000] {
            let refused = calling(&caller, length).await;
            assert_eq!(refused, Err(CallError::NotSent(CallFailure::Busy)));
        }
        let small = calling(&caller, 1000);
        assert!(taken(&mut callee).await.1.send(Bytes::new()));
        assert_eq!(small.await, Ok(0));
        assert!(reply.send(Bytes::new()));
        assert_eq!(first.await, Ok(0));
        let again = calling(&caller, 60_000);
        assert!(taken(&mut callee).await.1.send(Bytes::new()));
        assert_eq!(again.await, Ok(0));
    });
}

#[test]
fn there_is_no_room_for_answers_while_the_peer_takes_none() {
    run(async {
        let limits = Limits {
            unsent_bytes: 100_000,
            ..Limits::default()
        };
        let caller = Agent::start(client(1));
        let mut callee = Agent::start(Options { limits, ..server(2) });
        caller.knows(&callee);
        // More than fits on the way, to one that does not look until it is told to.
        let request = Bytes::from_static(b"much");
        let mut slow = Box::pin(caller.transport.call(NodeId(2), Plane::Rpc, request, PATIENCE));
        let asking = async {
            let answered = (&mut slow).await;
            panic!("nobody has answered: {answered:?}")
        };
        let (_, reply) = taken(&mut callee).or(asking).await;
        assert!(reply.send(Bytes::from(vec![2; 12_000_000])));
        let other = calling(&caller, 10);
        let (_, reply) = taken(&mut callee).await;
        drop(soon("what is short", reply.room_for(4000)).await);
        {
            let mut room = Box::pin(reply.room_for(50_000));
            assert!(poll_once(&mut room).await.is_none());
            let (_, answer) = slow.await.unwrap();
            assert_eq!(answer.len(), 12_000_000);
            soon("room", room).await;
        }
        assert!(reply.send(Bytes::new()));
        assert_eq!(other.await, Ok(0));
    });
}
