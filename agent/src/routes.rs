//! Which servers there are, and which of them to ask next.
//!
//! An agent asks the same server until that one fails, so that connections are few and caches warm; now and then it
//! moves on by itself, so that servers which came later get their share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lictor_gossip::{MemberEvent, MemberState};
use lictor_machine::{NodeId, Rng};
use lictor_node::ClusterId;
use lictor_node::agent::{Pool, ServerFacts};

use crate::home::Home;

/// How long an agent of a small data center stays with one server.
const STAY: (Duration, Duration) = (Duration::from_mins(2), Duration::from_mins(3));

/// How many agents may move to another server in a second, for each server: in large data centers they stay longer.
const MOVES_PER_SECOND: usize = 64;

/// A server that requests may be passed to.
#[derive(Debug)]
pub(crate) struct Server {
    /// Who.
    pub(crate) id: NodeId,
    /// Its name, for people.
    pub(crate) name: String,
    /// Where it is, as gossip says.
    address: SocketAddr,
    /// The cluster that it is in, as it says itself.
    cluster: Option<ClusterId>,
    /// Whether gossip believes that it is well.
    well: AtomicBool,
    /// When it answered last, and when it last did not answer a ping: nanoseconds after `epoch`, 0 for never.
    heard: AtomicU64,
    silent: AtomicU64,
    /// How many nanoseconds that ping had.
    patience: AtomicU64,
    epoch: Instant,
    /// Held while it is asked whether it is there, so that nobody asks meanwhile.
    pub(crate) pinging: async_lock::Mutex<()>,
}

impl Server {
    fn new(facts: ServerFacts) -> Self {
        Self {
            id: facts.id,
            name: facts.name,
            address: facts.address,
            cluster: facts.cluster,
            well: AtomicBool::new(facts.state.is_well()),
            heard: AtomicU64::new(0),
            silent: AtomicU64::new(0),
            patience: AtomicU64::new(0),
            epoch: Instant::now(),
            pinging: async_lock::Mutex::new(()),
        }
    }

    fn now(&self) -> u64 {
        // Never 0, which is never.
        u64::try_from(self.epoch.elapsed().as_nanos()).map_or(u64::MAX, |nanos| nanos.max(1))
    }

    /// Takes note that it has just answered something.
    pub(crate) fn note_answer(&self) {
        self.heard.store(self.now(), Ordering::Relaxed);
    }

    /// Takes note that it has not answered a ping in this time. To be called by who holds `pinging`.
    pub(crate) fn note_silence(&self, patience: Duration) {
        let nanos = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        self.patience.store(nanos, Ordering::Relaxed);
        self.silent.store(self.now(), Ordering::Relaxed);
    }

    /// Whether it answered something in the last `span`.
    pub(crate) fn answered_within(&self, span: Duration) -> bool {
        self.is_within(self.heard.load(Ordering::Relaxed), span)
    }

    /// Whether a ping went unanswered in the last `span` that had at least this much time. To be called by who holds `pinging`.
    pub(crate) fn silent_within(&self, span: Duration, patience: Duration) -> bool {
        u128::from(self.patience.load(Ordering::Relaxed)) >= patience.as_nanos()
            && self.is_within(self.silent.load(Ordering::Relaxed), span)
    }

    fn is_within(&self, at: u64, span: Duration) -> bool {
        at != 0 && u128::from(self.now().saturating_sub(at)) <= span.as_nanos()
    }

    fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }
}

/// The servers of every data center that this agent knows of, each data center's in the order in which to ask them.
#[derive(Debug)]
pub(crate) struct Routes {
    datacenter: String,
    /// On a client: whose servers alone are asked.
    home: Option<Arc<Home>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    groups: BTreeMap<String, Vec<Arc<Server>>>,
    rng: Rng,
}

impl Routes {
    /// No routes yet, for an agent of `datacenter`. With a `home`, servers of this data center that are not of that cluster are asked nothing.
    pub(crate) fn new(datacenter: String, home: Option<Arc<Home>>, seed: u64) -> Self {
        Self {
            datacenter,
            home,
            inner: Mutex::new(Inner {
                groups: BTreeMap::new(),
                rng: Rng::new(seed),
            }),
        }
    }

    /// This agent's data center.
    pub(crate) fn datacenter(&self) -> &str {
        &self.datacenter
    }

    /// Learns from gossip. The servers of this data center are known from its own pool, those of others from the WAN's.
    pub(crate) fn observe(&self, pool: Pool, event: &MemberEvent) {
        let Some(facts) = ServerFacts::from_member(event.member()) else {
            return;
        };
        let near = facts.datacenter == self.datacenter;
        match (pool, near) {
            (Pool::Lan, true) | (Pool::Wan, false) => {}
            (Pool::Lan, false) | (Pool::Wan, true) => return,
        }
        let gone = matches!(event, MemberEvent::Reaped(_)) || facts.state == MemberState::Left;
        if gone {
            self.lock().forget(&facts.datacenter, facts.id);
        } else {
            let datacenter = facts.datacenter.clone();
            self.lock().set(datacenter, Server::new(facts));
        }
    }

    /// The servers of a data center, best first. Of this one also those that are believed to have failed, last: to ask
    /// them is better than not to ask. Of others only those that are well, so that a data center that is lost costs
    /// nobody any time.
    pub(crate) fn servers(&self, datacenter: &str) -> Vec<Arc<Server>> {
        let inner = self.lock();
        let Some(group) = inner.groups.get(datacenter) else {
            return Vec::new();
        };
        let near = datacenter == self.datacenter;
        let ours = || group.iter().filter(|server| !near || self.is_ours(server));
        let well = ours().filter(|server| server.is_well());
        let failed = ours().filter(|server| !server.is_well() && near);
        well.chain(failed).cloned().collect()
    }

    /// Why servers of this data center are asked nothing though they are well, if there are such, and none that may be asked.
    pub(crate) fn refusal(&self) -> Option<String> {
        let home = self.home.as_ref()?;
        let inner = self.lock();
        let well = || {
            let group = inner.groups.get(&self.datacenter).into_iter().flatten();
            group.filter(|server| server.is_well())
        };
        if well().any(|server| self.is_ours(server)) {
            return None;
        }
        well().find_map(|server| home.refusal(&server.name, server.cluster))
    }

    fn is_ours(&self, server: &Server) -> bool {
        self.home.as_ref().is_none_or(|home| home.admits(server.cluster))
    }

    /// The server of this data center at an address.
    pub(crate) fn server_at(&self, address: SocketAddr) -> Option<NodeId> {
        let inner = self.lock();
        let group = inner.groups.get(&self.datacenter)?;
        let found = group
            .iter()
            .find(|server| server.address == address && self.is_ours(server));
        found.map(|server| server.id)
    }

    /// Asks this one after all others from now on: it did not answer.
    pub(crate) fn demote(&self, datacenter: &str, id: NodeId) {
        let mut inner = self.lock();
        if let Some(group) = inner.groups.get_mut(datacenter)
            && let Some(at) = group.iter().position(|server| server.id == id)
        {
            let server = group.remove(at);
            group.push(server);
        }
    }

    /// Moves on to other servers now and then, for ever. One task of the agent runs this. `members`: how many agents there
    /// are in this data center.
    pub(crate) async fn keep_balanced(self: Arc<Self>, members: impl Fn() -> usize + Send) {
        loop {
            let stay = self.stay(members());
            async_io::Timer::after(stay).await;
            self.shuffle();
        }
    }

    /// How long to stay with the servers of today, in a data center of so many agents.
    fn stay(&self, members: usize) -> Duration {
        let mut inner = self.lock();
        let servers = inner.groups.get(&self.datacenter).map_or(1, Vec::len).max(1);
        let usual = inner.rng.between(STAY.0, STAY.1);
        let crowded = members / (MOVES_PER_SECOND * servers);
        usual.max(Duration::from_secs(crowded as u64))
    }

    fn shuffle(&self) {
        let Inner { groups, rng } = &mut *self.lock();
        for group in groups.values_mut() {
            rng.shuffle(group);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Sound after any step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn set(&mut self, datacenter: String, server: Server) {
        let group = self.groups.entry(datacenter).or_default();
        match group.iter_mut().find(|known| known.id == server.id) {
            Some(known)
                if known.name == server.name
                    && known.address == server.address
                    && known.cluster == server.cluster =>
            {
                known.well.store(server.is_well(), Ordering::Relaxed);
            }
            Some(known) => *known = Arc::new(server),
            None => {
                // Anywhere but in front of who is asked now.
                let behind = group.len().min(1) as u64;
                let at = behind + self.rng.below(group.len() as u64 + 1 - behind);
                group.insert(at as usize, Arc::new(server));
            }
        }
    }

    fn forget(&mut self, datacenter: &str, id: NodeId) {
        if let Some(group) = self.groups.get_mut(datacenter) {
            group.retain(|server| server.id != id);
            if group.is_empty() {
                self.groups.remove(datacenter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lictor_gossip::{Incarnation, Member, Tags};
    use lictor_node::agent::{CLUSTER, DATACENTER, ROLE, SERVER};

    use super::*;

    fn member(id: u128, role: &str, datacenter: &str, state: MemberState) -> Arc<Member> {
        let tag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Arc::new(Member {
            id: NodeId(id),
            name: format!("n{id}"),
            address: "127.0.0.1:8300".parse().unwrap(),
            tags: Tags::from([tag(ROLE, role), tag(DATACENTER, datacenter)]),
            incarnation: Incarnation(1),
            state,
        })
    }

    fn server(id: u128, datacenter: &str) -> MemberEvent {
        MemberEvent::Joined(member(id, SERVER, datacenter, MemberState::Alive))
    }

    fn routes(servers: &[(u128, &str)]) -> Routes {
        let routes = Routes::new("dc1".into(), None, 7);
        for (id, datacenter) in servers {
            let pool = if *datacenter == "dc1" {
                Pool::Lan
            } else {
                Pool::Wan
            };
            routes.observe(pool, &server(*id, datacenter));
        }
        routes
    }

    fn ids(routes: &Routes, datacenter: &str) -> Vec<u128> {
        routes
            .servers(datacenter)
            .iter()
            .map(|server| server.id.0)
            .collect()
    }

    fn sorted(mut ids: Vec<u128>) -> Vec<u128> {
        ids.sort_unstable();
        ids
    }

    #[test]
    fn servers_are_learnt_from_the_pool_that_knows_them_best() {
        let routes = routes(&[(1, "dc1"), (2, "dc1"), (3, "dc2")]);
        routes.observe(
            Pool::Lan,
            &MemberEvent::Joined(member(9, "node", "dc1", MemberState::Alive)),
        );
        routes.observe(Pool::Lan, &server(8, "dc2"));
        routes.observe(Pool::Wan, &server(7, "dc1"));
        assert_eq!(sorted(ids(&routes, "dc1")), [1, 2]);
        assert_eq!(ids(&routes, "dc2"), [3]);
        assert_eq!(ids(&routes, "dc3"), [0; 0]);
    }

    #[test]
    fn who_is_asked_now_stays_in_front_until_it_fails() {
        let routes = routes(&[(1, "dc1")]);
        for id in 2..20 {
            routes.observe(Pool::Lan, &server(id, "dc1"));
            assert_eq!(ids(&routes, "dc1")[0], 1);
        }
        routes.demote("dc1", NodeId(1));
        let order = ids(&routes, "dc1");
        assert_eq!(order.last(), Some(&1));
        assert_eq!(sorted(order), (1..20).collect::<Vec<_>>());
        routes.demote("dc1", NodeId(99));
        routes.demote("dc9", NodeId(1));
    }

    #[test]
    fn those_that_failed_are_asked_last_and_not_at_all_far_away() {
        let routes = routes(&[(1, "dc1"), (2, "dc1"), (3, "dc2"), (4, "dc2")]);
        let failed =
            |id, datacenter| MemberEvent::Failed(member(id, SERVER, datacenter, MemberState::Failed));
        let first = ids(&routes, "dc1")[0];
        routes.observe(Pool::Lan, &failed(first, "dc1"));
        assert_eq!(ids(&routes, "dc1"), [3 - first, first]);
        routes.observe(Pool::Wan, &failed(3, "dc2"));
        assert_eq!(ids(&routes, "dc2"), [4]);
        routes.observe(Pool::Wan, &failed(4, "dc2"));
        assert_eq!(ids(&routes, "dc2"), [0; 0]);
        routes.observe(Pool::Wan, &server(3, "dc2"));
        assert_eq!(ids(&routes, "dc2"), [3]);
        routes.observe(
            Pool::Lan,
            &MemberEvent::Updated(member(first, SERVER, "dc1", MemberState::Suspect)),
        );
        assert_eq!(ids(&routes, "dc1")[0], first, "a suspect counts as well");
    }

    #[test]
    fn those_that_left_are_forgotten() {
        let routes = routes(&[(1, "dc1"), (2, "dc1")]);
        let left = MemberEvent::Left(member(1, SERVER, "dc1", MemberState::Left));
        routes.observe(Pool::Lan, &left);
        assert_eq!(ids(&routes, "dc1"), [2]);
        let reaped = MemberEvent::Reaped(member(2, SERVER, "dc1", MemberState::Failed));
        routes.observe(Pool::Lan, &reaped);
        assert_eq!(ids(&routes, "dc1"), [0; 0]);
        routes.observe(Pool::Lan, &reaped);
    }

    #[test]
    fn servers_of_another_cluster_are_asked_nothing_even_if_no_other_is_left() {
        let home = Arc::new(Home::load(None).unwrap());
        let routes = Routes::new("dc1".into(), Some(Arc::clone(&home)), 7);
        let observe = |pool, id, datacenter, cluster: Option<u128>, state| {
            let mut member = Member::clone(&member(id, SERVER, datacenter, state));
            let cluster = cluster.map(|cluster| (CLUSTER.to_owned(), ClusterId(cluster).to_string()));
            member.tags.extend(cluster);
            if pool == Pool::Lan {
                home.meet(&ServerFacts::from_member(&member).unwrap());
            }
            routes.observe(pool, &MemberEvent::Updated(Arc::new(member)));
        };
        observe(Pool::Lan, 1, "dc1", None, MemberState::Alive);
        assert_eq!(ids(&routes, "dc1"), [1], "it may be about to found one");
        observe(Pool::Lan, 1, "dc1", Some(70), MemberState::Alive);
        observe(Pool::Lan, 2, "dc1", Some(70), MemberState::Alive);
        observe(Pool::Lan, 8, "dc1", None, MemberState::Alive);
        observe(Pool::Lan, 9, "dc1", Some(90), MemberState::Alive);
        assert_eq!(sorted(ids(&routes, "dc1")), [1, 2]);
        assert_eq!(routes.refusal(), None, "there are others to be asked");
        for id in [1, 2] {
            observe(Pool::Lan, id, "dc1", Some(70), MemberState::Failed);
        }
        assert_eq!(sorted(ids(&routes, "dc1")), [1, 2]);
        let why = routes.refusal().unwrap();
        assert!(why.contains("n9 is in cluster"), "{why}");
        // Another data center has a cluster of its own, which is no matter of this one's.
        observe(Pool::Wan, 5, "dc2", Some(90), MemberState::Alive);
        assert_eq!(ids(&routes, "dc2"), [5]);
        // One that changes sides is with the others from then on.
        observe(Pool::Lan, 9, "dc1", Some(70), MemberState::Alive);
        assert_eq!(ids(&routes, "dc1")[0], 9);
        observe(Pool::Lan, 1, "dc1", Some(90), MemberState::Alive);
        assert_eq!(sorted(ids(&routes, "dc1")), [2, 9]);
    }

    #[test]
    fn agents_move_on_but_not_all_at_once() {
        let routes = routes(&[(1, "dc1"), (2, "dc1"), (3, "dc1")]);
        let mut first = std::collections::BTreeSet::new();
        for _ in 0..100 {
            routes.shuffle();
            first.insert(ids(&routes, "dc1")[0]);
            let stay = routes.stay(1000);
            assert!((STAY.0..=STAY.1).contains(&stay), "{stay:?}");
        }
        assert_eq!(first.len(), 3);
        assert_eq!(routes.stay(192_000), Duration::from_secs(1000));
    }

    #[test]
    fn a_server_is_heard_or_silent_for_a_while() {
        let known = routes(&[(1, "dc1")]);
        let server = &known.servers("dc1")[0];
        let long = Duration::from_hours(1);
        let (some, more) = (Duration::from_secs(1), Duration::from_secs(2));
        assert!(!server.answered_within(long) && !server.silent_within(long, Duration::ZERO));
        server.note_answer();
        assert!(server.answered_within(long) && !server.silent_within(long, Duration::ZERO));
        server.note_silence(some);
        assert!(server.silent_within(long, some) && server.silent_within(long, some / 2));
        assert!(
            !server.silent_within(long, more),
            "with more patience it may be heard"
        );
    }
}
