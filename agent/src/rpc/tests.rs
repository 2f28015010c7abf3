//! Agents that ask each other, over real connections, with a backend that is told what to answer.

mod agents;
mod archives;
mod choice;
mod encoding;
mod fake;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt as _;
use lictor_catalog::{Action, Execute, Found, KvPair, KvTxnOp, KvWrite, Outcome, Query, Target, TxnOp};
use lictor_http::{
    DatacenterCoordinates, Executed, Failure, RaftServer, ReadOptions, Reading, ServerRef, ServersHealth,
    UserEvent, WriteOptions,
};
use lictor_machine::Index;
use lictor_runtime::Runtime;
use lictor_transport_quic::Plane;

use self::agents::Agent;
use self::fake::{Does, Fake, address, reading};
use super::caller::Caller;
use super::wire::{self, Question};

/// Far longer than anything takes that goes well.
const PATIENCE: Duration = Duration::from_mins(1);

fn runtime() -> Runtime {
    lictor_runtime_smol::runtime()
}

fn run(test: impl Future<Output = ()>) {
    runtime().block_on(async {
        let late = async {
            async_io::Timer::after(PATIENCE).await;
            panic!("this takes far too long");
        };
        test.or(late).await;
    });
}

fn get(key: &'static str) -> Question {
    Question::Read {
        query: Query::KvGet(key.into()),
        options: ReadOptions::default(),
    }
}

fn set() -> Question {
    let pair = KvPair {
        key: "k".into(),
        value: "v".into(),
        flags: 0,
    };
    Question::Write {
        action: Action::Kv(KvWrite::Set(pair)),
        options: WriteOptions::default(),
    }
}

async fn read(caller: &Caller, datacenter: Option<&str>) -> Result<String, Failure> {
    let reading: Reading<Found> = caller.ask(datacenter, get("k")).await?;
    let Found::Entry(Some(entry)) = reading.value else {
        panic!("{reading:?}")
    };
    Ok(String::from_utf8(entry.key.to_vec()).unwrap())
}

async fn write(caller: &Caller) -> Result<Outcome, Failure> {
    caller.ask(None, set()).await
}

fn execute(name: &str) -> Execute {
    Execute {
        target: Target::Named(name.to_owned()),
        near: "_agent".to_owned(),
        agent: "n1".to_owned(),
        client: Some([10, 0, 0, 1].into()),
        connect: false,
        limit: 3,
        seed: 7,
    }
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::from_u128(5)
}

#[test]
fn every_question_gets_its_answer() {
    run(async {
        let answers = vec![Does::Answers("a"); 12];
        let backend = Fake::new(&answers);
        *backend.leader.lock().unwrap() = Some(address());
        let server = Agent::serving(1, "dc1", &backend);
        let client = Agent::client();
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        assert_eq!(read(&caller, None).await, Ok("a".into()));
        assert_eq!(read(&caller, Some("DC1")).await, Ok("a".into()));
        assert_eq!(write(&caller).await, Ok(Outcome::Done(true)));
        let ops = vec![TxnOp::Kv(KvTxnOp::Get("k".into())); 3];
        let options = ReadOptions::default();
        let txn: wire::TxnReading = caller
            .ask(None, Question::ReadTxn { ops, options })
            .await
            .unwrap();
        assert_eq!(txn.value.unwrap().len(), 3);
        let leader: Result<Option<SocketAddr>, _> = caller.ask(None, Question::Leader).await;
        assert_eq!(leader, Ok(Some(address())));
        let peers: Result<Vec<SocketAddr>, _> = caller.ask(None, Question::Peers).await;
        assert_eq!(peers, Ok(vec![address(); 2]));
        let datacenters: Result<Vec<String>, _> = caller.ask(None, Question::Datacenters).await;
        assert_eq!(datacenters, Ok(vec!["a".to_owned()]));
        let places: Vec<DatacenterCoordinates> = caller.ask(None, Question::WanCoordinates).await.unwrap();
        assert_eq!(places[0].datacenter, "a");
        let options = ReadOptions::default();
        let servers: Vec<RaftServer> = caller.ask(None, Question::RaftServers { options }).await.unwrap();
        assert_eq!((servers[0].name.as_deref(), servers[0].leader), (Some("a"), true));
        let options = ReadOptions::default();
        let health: ServersHealth = caller
            .ask(None, Question::ServersHealth { options })
            .await
            .unwrap();
        assert_eq!(health.failure_tolerance, 2);
        let server = ServerRef::Id("x".into());
        let remove = Question::RemoveRaftServer {
            server: server.clone(),
            options: WriteOptions::default(),
        };
        let removed: Result<(), _> = caller.ask(None, remove).await;
        assert_eq!(removed, Err(Failure::NoSuchServer(server)));
        let event = UserEvent {
            id: uuid(),
            name: "deploy".into(),
            payload: Bytes::from_static(b"x"),
            node_filter: String::new(),
            service_filter: String::new(),
            tag_filter: String::new(),
            time: 0,
        };
        let fire = Question::FireEvent {
            event,
            options: WriteOptions::default(),
        };
        let fired: Result<(), _> = caller.ask(None, fire).await;
        assert_eq!(fired, Ok(()));
        let question = Question::ExecuteQuery {
            execute: Box::new(execute("geo")),
            options: ReadOptions::default(),
        };
        let executed: Reading<Option<Executed>> = caller.ask(None, question).await.unwrap();
        assert_eq!(executed, reading(None));
        let seen = backend.seen.lock().unwrap().pop().unwrap();
        assert_eq!(seen.0, Query::Resolve("geo".to_owned()));
        assert_eq!(backend.asked(), 12);
    });
}

#[test]
fn requests_for_another_data_center_take_two_steps_and_no_more() {
    run(async {
        let (here, there) = (Fake::new(&[]), Fake::new(&[Does::Answers("there")]));
        let near = Agent::serving(1, "dc1", &here);
        let far = Agent::serving(2, "dc2", &there);
        near.knows(&far);
        // Whoever is far does not send it on.
        far.knows_at(1, "dc1", near.transport.local_address().unwrap());
        near.knows_at(2, "dc3", far.transport.local_address().unwrap());
        let client = Agent::client();
        client.knows(&near);
        let caller = client.caller(Plane::Rpc);
        assert_eq!(read(&caller, Some("dc2")).await, Ok("there".into()));
        assert_eq!(
            read(&caller, Some("dc3")).await,
            Err(Failure::NoPathToDatacenter),
            "the one that is asked is in dc2"
        );
        assert_eq!(read(&caller, Some("dc4")).await, Err(Failure::NoPathToDatacenter));
        assert_eq!((here.asked(), there.asked()), (0, 1));
    });
}

#[test]
fn a_blocking_query_waits_at_another_server_for_what_is_left() {
    run(async {
        let gone = Fake::new(&[
            Does::Takes(Duration::from_millis(1500)),
            Does::Fails(Failure::Stopping),
        ]);
        let backend = Fake::new(&[Does::Answers("a")]);
        let servers = [
            Agent::serving(1, "dc1", &gone),
            Agent::serving(2, "dc1", &backend),
        ];
        let client = Agent::client();
        for server in &servers {
            client.knows(server);
        }
        let question = Question::Read {
            query: Query::KvGet("k".into()),
            options: ReadOptions {
                min_index: Index(9),
                wait: Duration::from_secs(30),
                ..ReadOptions::default()
            },
        };
        let answer: Result<Reading<Found>, _> = client.caller(Plane::Rpc).ask(None, question).await;
        assert_eq!(answer.unwrap().index, Index(4));
        let waited = |fake: &Fake| fake.seen.lock().unwrap()[0].1.wait;
        assert_eq!(waited(&gone), Duration::from_secs(30));
        assert!(
            waited(&backend) <= Duration::from_millis(28_500),
            "{:?}",
            waited(&backend)
        );
    });
}

#[test]
fn answers_may_be_large() {
    run(async {
        let value = Bytes::from(vec![7; 24 << 20]);
        let backend = Fake::with_value(&[Does::Answers("a")], value.clone());
        let server = Agent::serving(1, "dc1", &backend);
        let client = Agent::client();
        client.knows(&server);
        let answer: Reading<Found> = client.caller(Plane::Rpc).ask(None, get("k")).await.unwrap();
        let Found::Entry(Some(entry)) = answer.value else {
            panic!("an entry")
        };
        assert!(entry.value == value);
    });
}

#[test]
fn many_large_answers_at_once_have_their_turn() {
    run(async {
        const MANY: usize = 12;
        // Together far more than a server keeps for a peer that has not taken it.
        let value = Bytes::from(vec![7; 8 << 20]);
        let backend = Fake::with_value(&[const { Does::Answers("a") }; MANY], value.clone());
        let server = Agent::serving(1, "dc1", &backend);
        let client = Agent::client();
        client.knows(&server);
        let caller = client.caller(Plane::Rpc);
        let asked = (0..MANY).map(|_| {
            let caller = caller.clone();
            runtime().spawn(async move { caller.ask::<Reading<Found>>(None, get("k")).await })
        });
        for answer in asked.collect::<Vec<_>>() {
            let Found::Entry(Some(entry)) = answer.await.unwrap().value else {
                panic!("an entry")
            };
            assert!(entry.value == value);
        }
    });
}
