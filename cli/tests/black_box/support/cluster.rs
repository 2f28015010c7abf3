//! Servers that form a cluster.

use std::ops::{Index, IndexMut};

use super::{Agent, Scene, Signal, eventually, holds};

/// Servers on the hosts 1, 2, 3 and so on, by number from 0.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Agent>,
}

impl Cluster {
    /// A shared key, as `lictor keygen` prints them.
    pub(crate) const KEY: &'static str = "IN5eLHKxzdBHjYtQpnFu+PRsmh0yJFd7NmMREW9JV4o=";

    /// Three servers that share [`Self::KEY`]; waits until they are one cluster.
    pub(crate) fn of_three(scene: &Scene, arguments: &[&str]) -> Self {
        let mut all = vec!["-encrypt", Self::KEY];
        all.extend(arguments);
        let mut cluster = Self::prepare(scene, 3, |_| &all);
        cluster.start();
        cluster
    }

    /// `servers` servers that expect each other, each with arguments of its own beside. None is started.
    pub(crate) fn prepare<'a, T: AsRef<str> + 'a>(
        scene: &Scene,
        servers: u8,
        arguments: impl Fn(u8) -> &'a [T],
    ) -> Self {
        let join: Vec<_> = (1..=servers).map(|host| scene.ip(host).to_string()).collect();
        let expect = servers.to_string();
        let servers = (1..=servers).map(|host| {
            let data = scene.path(format!("data{host}")).display().to_string();
            let mut all = vec!["-server", "-bootstrap-expect", &expect, "-data-dir", &data];
            for address in &join {
                all.extend(["-retry-join", address]);
            }
            all.extend(arguments(host).iter().map(AsRef::as_ref));
            Agent::new(scene, host, &all)
        });
        Self {
            servers: servers.collect(),
        }
    }

    /// Starts those that do not run, and waits until all know the same leader.
    pub(crate) fn start(&mut self) {
        for server in self.servers.iter_mut().filter(|server| !server.is_running()) {
            server.start();
        }
        for server in &mut self.servers {
            server.wait_leader();
        }
        self.leader();
    }

    /// Kills all that run, as a power failure would.
    pub(crate) fn kill_all(&mut self) {
        for server in self.running() {
            server.signal(Signal::Kill);
        }
        for server in self.servers.iter_mut().filter(|server| server.is_running()) {
            server.wait();
        }
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Agent> {
        self.servers.iter().filter(|server| server.is_running())
    }

    /// The number of the server that all running ones say is the leader; it runs too.
    pub(crate) fn leader(&self) -> usize {
        eventually("all servers name one leader, which runs", || {
            let mut named = Vec::new();
            for server in self.running() {
                named.push(
                    server
                        .try_call("GET", "/v1/status/leader", b"")?
                        .text()
                        .trim_end()
                        .to_owned(),
                );
            }
            let leader = self
                .servers
                .iter()
                .position(|server| named.first() == Some(&format!("\"{}:8300\"", server.ip)));
            match leader {
                Some(leader) if self[leader].is_running() && named.iter().all(|other| *other == named[0]) => {
                    Ok(leader)
                }
                Some(_) | None => Err(format!("they say {named:?}")),
            }
        })
    }

    /// Waits until every server has, by itself, everything under `prefix` that the leader has; returns it as JSON.
    pub(crate) fn settle(&self, prefix: &str) -> serde_json::Value {
        let first = self.running().next().expect("one runs");
        let path = format!("/v1/kv/{prefix}?recurse");
        let wanted = first.get(&format!("{path}&consistent"));
        assert!(matches!(wanted.status, 200 | 404), "{wanted:?}");
        for server in self.running() {
            eventually(&format!("{} has what the leader has", server.name), || {
                let found = server.try_call("GET", &format!("{path}&stale"), b"")?;
                holds(
                    (found.status, found.index) == (wanted.status, wanted.index),
                    format!("{:?} {:?}, and not {:?}", found.status, found.index, wanted.index),
                )?;
                assert_eq!(found.body, wanted.body, "{} at the same index", server.name);
                Ok(())
            });
        }
        if wanted.status == 404 {
            return serde_json::Value::Array(Vec::new());
        }
        wanted.json()
    }
}

impl Index<usize> for Cluster {
    type Output = Agent;

    fn index(&self, number: usize) -> &Agent {
        &self.servers[number]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, number: usize) -> &mut Agent {
        &mut self.servers[number]
    }
}
