//! Archives, a piece at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::AsyncReadExt as _;
use futures_lite::io::Cursor;
use lictor_http::{Archive, Backend, Failure, ReadOptions, WriteOptions};
use lictor_machine::{Index, NodeId};
use lictor_transport_quic::Plane;

use super::agents::Agent;
use super::fake::{Does, Fake};
use super::{run, runtime};
use crate::rpc::wire::Question;
use crate::snapshot::passing::{self, ArchiveQuestion, Desk, Ticket};

/// More than a few pieces, none of which is like another.
fn large() -> Bytes {
    (0..3_000_000_u32).map(|at| (at / 251) as u8 ^ at as u8).collect()
}

async fn content(mut archive: Archive<'_>) -> Vec<u8> {
    let mut content = Vec::new();
    archive.read_to_end(&mut content).await.unwrap();
    content
}

fn serving(value: &Bytes) -> Arc<Fake> {
    Fake::with_value(&vec![Does::Answers("a"); 8], value.clone())
}

#[test]
fn a_client_agent_passes_them_on_both_ways() {
    run(async {
        let (one, two) = (serving(&large()), serving(&large()));
        let servers = [Agent::serving(1, "dc1", &one), Agent::serving(2, "dc1", &two)];
        let client = Agent::client();
        for server in &servers {
            client.knows(server);
        }
        let caller = client.caller(Plane::Rpc);
        let saved = passing::save(&caller, None, ReadOptions::default())
            .await
            .unwrap();
        assert_eq!(
            (saved.index, saved.known_leader, saved.last_contact),
            (Index(4), true, Duration::from_millis(3))
        );
        // Whoever is asked first afterwards: the one who has it goes on with it.
        client.routes.demote("dc1", NodeId(1));
        assert!(content(saved.value).await == large());
        assert_eq!((one.asked(), two.asked()), (1, 0));
        let archive = Archive::new(Cursor::new(large()));
        let restored = passing::restore(&caller, None, archive, WriteOptions::default()).await;
        assert_eq!(restored, Ok(()));
        assert!(*two.restored.lock().unwrap() == [large().to_vec()]);
        assert!(one.restored.lock().unwrap().is_empty());
    });
}

#[test]
fn they_cross_one_border() {
    run(async {
        let near = Fake::new(&[]);
        let (far, other) = (serving(&large()), serving(&large()));
        let server = Agent::serving(1, "dc1", &near);
        let others = [Agent::serving(2, "dc2", &far), Agent::serving(3, "dc2", &other)];
        for other in &others {
            server.knows(other);
        }
        let client = Agent::client();
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        let saved = passing::save(&caller, Some("dc2"), ReadOptions::default())
            .await
            .unwrap();
        server.routes.demote("dc2", NodeId(2));
        assert!(content(saved.value).await == large());
        let archive = Archive::new(Cursor::new(large()));
        let restored = passing::restore(&caller, Some("dc2"), archive, WriteOptions::default()).await;
        assert_eq!(restored, Ok(()));
        assert!(*other.restored.lock().unwrap() == [large().to_vec()]);
        assert_eq!((near.asked(), far.asked()), (0, 1));
        let nowhere = passing::save(&caller, Some("dc9"), ReadOptions::default()).await;
        assert_eq!(nowhere.unwrap_err(), Failure::NoPathToDatacenter);
    });
}

#[test]
fn what_is_wrong_with_one_is_said_where_it_came_from() {
    run(async {
        let backend = Fake::new(&[
            Does::Answers("a"),
            Does::Fails(Failure::NoLeader),
            Does::Fails(Failure::NoLeader),
        ]);
        let server = Agent::serving(1, "dc1", &backend);
        let client = Agent::client();
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        let options = WriteOptions::default;
        let short = Archive::new(Cursor::new(b"short"));
        let refused = passing::restore(&caller, None, short, options()).await;
        assert_eq!(refused, Err(Failure::Refused("too short".into())));
        // Also when it is refused before all of it has come.
        let long = Archive::new(Cursor::new(large()));
        let refused = passing::restore(&caller, None, long, options()).await;
        assert_eq!(refused, Err(Failure::NoLeader));
        let refused = passing::save(&caller, None, ReadOptions::default()).await;
        assert_eq!(refused.unwrap_err(), Failure::NoLeader);
        let unknown = Ticket {
            server: NodeId(1),
            id: 7,
        };
        let question = ArchiveQuestion::Next {
            ticket: unknown,
            number: 0,
        };
        let refused: Result<Bytes, Failure> = caller.ask(None, Question::Archive(question)).await;
        assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
        let elsewhere = ArchiveQuestion::Finish {
            ticket: Ticket {
                server: NodeId(9),
                id: 7,
            },
        };
        let refused: Result<(), Failure> = caller.ask(None, Question::Archive(elsewhere)).await;
        assert_eq!(refused, Err(Failure::NoServers));
    });
}

#[test]
fn a_piece_whose_answer_got_lost_comes_again_and_none_twice() {
    run(async {
        let backend = serving(&large());
        let api: Arc<dyn Backend> = Arc::clone(&backend) as _;
        let desk = Desk::new(NodeId(1), runtime());
        let ticket = desk.save(&api, ReadOptions::default()).await.unwrap().value;
        let first = desk.next(ticket, 0).await.unwrap();
        assert_eq!(desk.next(ticket, 0).await, Ok(first.clone()));
        let second = desk.next(ticket, 1).await.unwrap();
        assert_eq!(
            large()[..],
            [&first[..], &second[..], &large()[first.len() + second.len()..]].concat()
        );
        for wrong in [0, 3] {
            assert!(desk.next(ticket, wrong).await.is_err());
        }
        let ticket = desk.restore(&api, WriteOptions::default()).unwrap();
        for number in [0, 0, 1, 1] {
            let piece = Bytes::from(format!("piece {number}"));
            desk.piece(ticket, number, piece).await.unwrap();
        }
        for wrong in [0, 3] {
            let piece = Bytes::from_static(b"wrong");
            assert!(desk.piece(ticket, wrong, piece).await.is_err());
        }
        desk.finish(ticket).await.unwrap();
        assert_eq!(*backend.restored.lock().unwrap(), [b"piece 0piece 1".to_vec()]);
        assert!(desk.finish(ticket).await.is_err(), "it is over");
    });
}

#[test]
fn there_are_only_so_many_at_once() {
    run(async {
        let backend = Fake::new(&vec![Does::Answers("a"); 100]);
        let api: Arc<dyn Backend> = backend as _;
        let desk = Desk::new(NodeId(1), runtime());
        let mut tickets = Vec::new();
        let refused = loop {
            match desk.save(&api, ReadOptions::default()).await {
                Ok(reading) => tickets.push(reading.value),
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, Failure::Busy { .. }), "{refused:?}");
        assert!(matches!(
            desk.restore(&api, WriteOptions::default()),
            Err(Failure::Busy { .. })
        ));
        // One that has come to its end makes room.
        let mut number = 0;
        while !desk.next(tickets[0], number).await.unwrap().is_empty() {
            number += 1;
        }
        desk.save(&api, ReadOptions::default()).await.unwrap();
    });
}
