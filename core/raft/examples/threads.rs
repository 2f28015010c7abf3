//! Three Raft nodes on plain threads and channels: no executor, no socket, no library but Raft itself.
//!
//! The nodes elect a leader and commit a thousand commands; the leader is killed; the others elect a new one and
//! commit a thousand more. Everything that a driver must do for a Raft node is in [`Node`].
//!
//! ```text
//! cargo run -p lictor-raft --example threads
//! ```

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is a driver: threads and clocks are its business, and the core has none"
)]
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ops::Range;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lictor_machine::{Index, Machine as _, NodeId, Now, Token};
use lictor_raft::{
    Boot, Committed, Config, Configuration, Effect, Entry, Event, Fetch, Fetched, Input, Message, Payload,
    Raft, Reject, Term, WriteBatch,
};

/// How many letters may wait in a node's mailbox.
const MAILBOX: usize = 4096;
/// How many letters a node opens between two looks at the clock.
const TURN: usize = 256;
/// How long the client waits for anything before it tries again or gives up.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let mut cluster = Cluster::start([1, 2, 3].map(NodeId))?;
    let leader = cluster.leader()?;
    let took = cluster.commit(0..1000)?;
    println!("{leader:?} leads: 1000 commands committed in {took:.1?}");

    let dead = cluster.kill(leader)?;
    println!("{leader:?} is killed, having applied {}", dead.len());

    let start = Instant::now();
    let successor = cluster.leader()?;
    println!("{successor:?} leads after {:.0?}", start.elapsed());
    let took = cluster.commit(1000..2000)?;
    println!("1000 more commands committed in {took:.1?}");

    // A leader answers its client before its followers have heard of the commit. What they have not heard by the end
    // is in their logs all the same, or they could not have acknowledged it.
    let applied = cluster.kill(successor)?;
    assert_eq!(applied, (0..2000).collect(), "what was acknowledged was applied");
    println!("{successor:?} has applied all {}", applied.len());
    Ok(())
}

/// A letter to a node.
enum Letter {
    FromPeer { from: NodeId, message: Message },
    FromClient { command: u64, reply: Sender<Reply> },
    Found(Configuration),
    Die,
}

/// What a client is told of its command.
enum Reply {
    Committed(u64),
    /// Not, or perhaps not. Ask again, here or elsewhere.
    TryAgain,
}

/// A node says that it leads.
struct Elected {
    node: NodeId,
    term: Term,
}

/// Everything that the nodes and the client see of each other.
struct Cluster {
    mailboxes: BTreeMap<NodeId, SyncSender<Letter>>,
    threads: BTreeMap<NodeId, JoinHandle<BTreeSet<u64>>>,
    elections: Receiver<Elected>,
    /// The latest leader that was heard of, while it lives.
    leader: Option<Elected>,
}

impl Cluster {
    fn start(ids: [NodeId; 3]) -> Result<Self, Box<dyn Error>> {
        let origin = Instant::now();
        let (elected, elections) = mpsc::channel();
        let (mailboxes, letters): (BTreeMap<_, _>, Vec<_>) = ids
            .into_iter()
            .map(|id| {
                let (mailbox, letters) = mpsc::sync_channel(MAILBOX);
                ((id, mailbox), (id, letters))
            })
            .unzip();
        let mut threads = BTreeMap::new();
        for (id, letters) in letters {
            let mut peers = mailboxes.clone();
            peers.remove(&id);
            let node = Node::start(id, origin, peers, elected.clone())?;
            threads.insert(
                id,
                thread::Builder::new()
                    .name(format!("{id:?}"))
                    .spawn(move || node.run(&letters))?,
            );
        }
        // Exactly one node founds the cluster; the others learn of it as they learn of everything else.
        mailboxes[&ids[0]].send(Letter::Found(Configuration::of(ids)))?;
        Ok(Self {
            mailboxes,
            threads,
            elections,
            leader: None,
        })
    }

    /// Waits until a living node leads.
    fn leader(&mut self) -> Result<NodeId, Box<dyn Error>> {
        loop {
            // The newest term counts, whatever the order of the reports.
            for elected in self.elections.try_iter() {
                if self.leader.as_ref().is_none_or(|known| known.term < elected.term) {
                    self.leader = Some(elected);
                }
            }
            match &self.leader {
                Some(leader) if self.mailboxes.contains_key(&leader.node) => return Ok(leader.node),
                Some(_) | None => self.leader = Some(self.elections.recv_timeout(PATIENCE)?),
            }
        }
    }

    /// Proposes each command until it is known to be committed. A command may so be committed twice, which for
    /// these commands, "insert this number", makes no difference.
    fn commit(&mut self, commands: Range<u64>) -> Result<Duration, Box<dyn Error>> {
        let start = Instant::now();
        let mut open: BTreeSet<u64> = commands.collect();
        while !open.is_empty() {
            if start.elapsed() > PATIENCE {
                return Err(format!("{} commands are still not committed", open.len()).into());
            }
            let leader = self.leader()?;
            let (reply, replies) = mpsc::channel();
            for &command in &open {
                self.mailboxes[&leader].send(Letter::FromClient {
                    command,
                    reply: reply.clone(),
                })?;
            }
            drop(reply);
            for reply in replies {
                match reply {
                    Reply::Committed(command) => {
                        open.remove(&command);
                    }
                    Reply::TryAgain => {}
                }
            }
        }
        Ok(start.elapsed())
    }

    /// Ends a node as a power cut would, and returns what it had applied.
    fn kill(&mut self, id: NodeId) -> Result<BTreeSet<u64>, Box<dyn Error>> {
        let (Some(mailbox), Some(thread)) = (self.mailboxes.remove(&id), self.threads.remove(&id)) else {
            return Err(format!("{id:?} is not alive").into());
        };
        mailbox.send(Letter::Die)?;
        thread.join().map_err(|_panic| format!("{id:?} panicked").into())
    }
}

/// One Raft node and all that it needs: a disk, a network, a clock, and a state machine, which here is a set of numbers.
struct Node {
    raft: Raft,
    /// The clock counts from here.
    origin: Instant,
    log: BTreeMap<Index, Entry>,
    peers: BTreeMap<NodeId, SyncSender<Letter>>,
    elected: Sender<Elected>,
    applied: BTreeSet<u64>,
    /// Who waits for which proposal.
    clients: BTreeMap<Token, Sender<Reply>>,
    next_token: u64,
}

impl Node {
    fn start(
        id: NodeId,
        origin: Instant,
        peers: BTreeMap<NodeId, SyncSender<Letter>>,
        elected: Sender<Elected>,
    ) -> Result<Self, Box<dyn Error>> {
        // A seed of its own, or all nodes would always campaign at the same time.
        let config = Config::lan(id, id.0 as u64);
        let boot = Boot {
            boot: 1,
            ..Boot::default()
        };
        let raft = Raft::start(config, &boot, now(origin))?;
        Ok(Self {
            raft,
            origin,
            log: BTreeMap::new(),
            peers,
            elected,
            applied: BTreeSet::new(),
            clients: BTreeMap::new(),
            next_token: 0,
        })
    }

    /// The driver: letters in, effects out, and a look at the clock in every turn.
    fn run(mut self, letters: &Receiver<Letter>) -> BTreeSet<u64> {
        loop {
            let sleep = self
                .raft
                .poll_timeout()
                .map_or(PATIENCE, |deadline| deadline.at.since(self.now().mono));
            match letters.recv_timeout(sleep) {
                Ok(first) => {
                    for letter in std::iter::once(first).chain(letters.try_iter().take(TURN)) {
                        match letter {
                            Letter::FromPeer { from, message } => {
                                self.handle(Input::Message { from, message });
                            }
                            Letter::FromClient { command, reply } => self.propose(command, reply),
                            Letter::Found(members) => self.handle(Input::Found { members }),
                            Letter::Die => return self.applied,
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.applied,
            }
            self.raft.handle_timeout(self.now());
            while let Some(effect) = self.raft.poll_effect() {
                self.carry_out(effect);
            }
            if let Some(fault) = self.raft.fault() {
                println!("{:?} stops: {fault}", self.raft.id());
                return self.applied;
            }
        }
    }

    fn propose(&mut self, command: u64, reply: Sender<Reply>) {
        let token = Token(self.next_token);
        self.next_token += 1;
        let data = Bytes::copy_from_slice(&command.to_be_bytes());
        match self.raft.handle(self.now(), Input::Propose { token, data }) {
            Ok(()) => {
                self.clients.insert(token, reply);
            }
            Err(_not_now) => answer(&reply, Reply::TryAgain),
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(batch) => {
                // This disk is memory, and so done at once. A real one may take its time: Raft goes on meanwhile.
                let through = batch.id;
                self.write(*batch);
                self.handle(Input::Persisted { through });
            }
            Effect::Send { to, message } => {
                // A full or abandoned mailbox loses the message. Raft sends again what is not acknowledged.
                let letter = Letter::FromPeer {
                    from: self.raft.id(),
                    message,
                };
                let _ = self.peers[&to].try_send(letter);
            }
            Effect::Fetch { id, what } => {
                let data = self.read(what);
                self.handle(Input::Fetched { id, data });
            }
            Effect::Apply(entries) => {
                let last = entries.last().map(|committed| committed.entry.id.index);
                for committed in entries {
                    self.apply(committed);
                }
                if let Some(through) = last {
                    self.handle(Input::Applied { through });
                }
            }
            Effect::Restore(_) => unreachable!("no log is compacted here, so nobody is sent a snapshot"),
            Effect::Resolve {
                token,
                outcome: _lost,
            } => {
                if let Some(client) = self.clients.remove(&token) {
                    answer(&client, Reply::TryAgain);
                }
            }
            Effect::Event(Event::Leader { term, leader }) => {
                if leader == Some(self.raft.id()) {
                    // The client may have left already.
                    let _ = self.elected.send(Elected {
                        node: self.raft.id(),
                        term,
                    });
                }
            }
            Effect::Event(_) => {}
        }
    }

    fn apply(&mut self, Committed { entry, token }: Committed) {
        match entry.payload {
            Payload::Command(bytes) => {
                let bytes = bytes
                    .as_ref()
                    .try_into()
                    .expect("only `propose` makes commands, of eight bytes");
                let command = u64::from_be_bytes(bytes);
                self.applied.insert(command);
                if let Some(client) = token.and_then(|token| self.clients.remove(&token)) {
                    answer(&client, Reply::Committed(command));
                }
            }
            Payload::Noop | Payload::Members(_) => {}
        }
    }

    /// The parts of a batch, in the order that the contract states. A node that came back after a crash would want
    /// the hard state too; in this example nobody comes back.
    fn write(&mut self, batch: WriteBatch) {
        if let Some(from) = batch.truncate_from {
            self.log.split_off(&from);
        }
        self.log
            .extend(batch.append.into_iter().map(|entry| (entry.id.index, entry)));
    }

    fn read(&self, what: Fetch) -> Fetched {
        match what {
            Fetch::Entries {
                first,
                last,
                max_bytes,
            } => {
                let mut bytes = 0;
                let fits = |entry: &&Entry| {
                    let first = bytes == 0;
                    bytes += entry.size();
                    first || bytes <= max_bytes
                };
                Fetched::Entries(
                    self.log
                        .range(first..=last)
                        .map(|(_, entry)| entry)
                        .take_while(fits)
                        .cloned()
                        .collect(),
                )
            }
            Fetch::Chunk { .. } => Fetched::Gone,
        }
    }

    fn handle(&mut self, input: Input) {
        match self.raft.handle(self.now(), input) {
            // Raft has ignored it and is as it was.
            Ok(()) | Err(Reject::Malformed(_)) => {}
            Err(reject) => println!("{:?} refuses: {reject}", self.raft.id()),
        }
    }

    fn now(&self) -> Now {
        now(self.origin)
    }
}

fn now(origin: Instant) -> Now {
    Now::at(lictor_machine::Instant::ZERO + origin.elapsed())
}

fn answer(client: &Sender<Reply>, reply: Reply) {
    // A client that does not wait any more needs no answer.
    let _ = client.send(reply);
}
