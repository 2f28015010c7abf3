//! The agent behind the API: what it says of itself, of its pools, and of what runs on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use lictor_gossip::{Coordinate, Incarnation, Member, MemberState};
use lictor_http::{About, EventLog, Failure, Host, LogReaders, Pool, Settings, ThisAgent};
use lictor_local::LocalView;
use lictor_machine::NodeId;
use lictor_metrics::Registry;

use super::memory::{Memory, Waiting};

/// The agent's id.
pub(crate) const ME: NodeId = NodeId(0x603577f4_8b5a_2e6a_ad92_5a6ea4f8c8de);

/// A coordinate whose numbers show how numbers are written.
pub(crate) const POSITION: Coordinate = Coordinate {
    vector: [0.0, 0.1, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    error: 1.5,
    adjustment: 0.0,
    height: 0.00001,
};

/// A member of a pool.
pub(crate) fn member(id: NodeId, name: &str, state: MemberState) -> Arc<Member> {
    let tags = [("role", "consul"), ("dc", "dc1"), ("build", "1.8.7:")];
    Arc::new(Member {
        id,
        name: name.to_owned(),
        address: SocketAddr::from(([127, 0, 0, 1], 8300)),
        tags: tags
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        incarnation: Incarnation(1),
        state,
    })
}

/// Those who read along what an agent logs.
pub(crate) struct Log(Arc<LogReaders>);

impl Default for Log {
    fn default() -> Self {
        Self(Arc::new(LogReaders::new(|| {})))
    }
}

impl std::ops::Deref for Log {
    type Target = Arc<LogReaders>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[async_trait]
impl ThisAgent for Memory {
    fn about(&self) -> Result<About, Failure> {
        self.check()?;
        let address = SocketAddr::from(([127, 0, 0, 1], 8300));
        let stats = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        Ok(About {
            datacenter: "dc1".to_owned(),
            node_name: "n1".to_owned(),
            node_id: ME,
            server: true,
            settings: Settings {
                advertise: Some(address),
                bind: Some(address),
                http: vec![SocketAddr::from(([127, 0, 0, 1], 8500))],
                bootstrap_expect: 3,
                data_dir: Some("/data".into()),
                log_level: "INFO".to_owned(),
                primary_datacenter: "dc1".to_owned(),
                retry_join: vec!["10.0.0.2".to_owned()],
                retry_join_interval: Duration::from_secs(30),
                skip_leave_on_interrupt: true,
                ..Settings::default()
            },
            coordinate: (!self.client.load(Ordering::SeqCst)).then_some(POSITION),
            member: member(ME, "n1", MemberState::Alive),
            stats: [("agent".to_owned(), stats(&[("checks", "0"), ("services", "<1>")]))].into(),
            meta: [("rack".to_owned(), "1".to_owned())].into(),
        })
    }

    fn members(&self, pool: Pool) -> Option<Vec<Arc<Member>>> {
        match pool {
            Pool::Lan => Some(vec![
                member(NodeId(5), "n5", MemberState::Failed),
                member(NodeId(2), "n2", MemberState::Suspect),
                member(ME, "n1", MemberState::Alive),
                member(NodeId(4), "n4", MemberState::Left),
                member(NodeId(3), "n3", MemberState::Leaving),
            ]),
            Pool::Wan if self.client.load(Ordering::SeqCst) => None,
            Pool::Wan => Some(vec![member(ME, "n1.dc1", MemberState::Alive)]),
        }
    }

    async fn join(&self, pool: Pool, address: &str) -> Result<(), Failure> {
        self.ask(format!("join {pool:?} {address}"))
    }

    async fn leave(&self) -> Result<(), Failure> {
        self.ask("leave".to_owned())
    }

    async fn force_leave(&self, pool: Pool, name: &str, prune: bool) -> Result<(), Failure> {
        self.ask(format!("force-leave {pool:?} {name} {prune}"))
    }

    fn events(&self) -> &EventLog {
        &self.events
    }

    fn metrics(&self) -> &Registry {
        &self.metrics
    }

    fn log(&self) -> &Arc<LogReaders> {
        &self.log
    }

    async fn host(&self) -> Host {
        self.host.lock().unwrap().clone()
    }

    fn running(&self) -> Arc<LocalView> {
        self.running.view()
    }

    async fn running_after(&self, seen: &Arc<LocalView>) -> Arc<LocalView> {
        loop {
            let changed = self.changed.listen();
            let now = self.running.view();
            if !Arc::ptr_eq(&now, seen) {
                return now;
            }
            let _waiting = Waiting::new(&self.waiting);
            changed.await;
        }
    }

    async fn change(&self, request: lictor_local::Request) -> Result<(), Failure> {
        self.check()?;
        let changed = self.running.change(request);
        self.changed.notify(usize::MAX);
        changed
    }

    async fn reload(&self) -> Result<(), Failure> {
        self.ask("reload".to_owned())
    }
}
