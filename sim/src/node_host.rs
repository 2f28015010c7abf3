//! A server that is a whole node: it finds its peers, founds a cluster with them, and hands requests on to the leader.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use lictor_catalog::{Builder, Outcome, State};
use lictor_machine::{Instant, Machine, NodeId, Now, Token};
use lictor_node::store::{StateMark, decode_rows};
use lictor_node::wire::{decode_call, decode_raft, decode_reply, encode_call, encode_raft, encode_reply};
use lictor_node::{
    CallFailure, CallId, ClusterId, Config, Effect, Event, InboundId, Input, Node, Request, RequestError,
    Standing, Target,
};
use lictor_raft::{Fetch, Fetched, ReadMode, Role, Status};

use crate::disk::{DecodeRows, Disk};
use crate::host::{Act, CallLoss, Host, Mark, Setup, Stimulus};
use crate::raft_host;
use crate::workload::{Answer, Freshness, Op, held};

const PORT: u16 = 8300;

/// See the module.
pub struct NodeHost {
    node: Node,
    /// What readers see.
    published: State,
    standing: Option<Standing>,
    /// Which key each open read is for.
    reads: BTreeMap<Token, u8>,
    cluster: Option<ClusterId>,
    acts: VecDeque<Act>,
}

impl Host for NodeHost {
    const KIND: &'static str = "node";
    const CHANGES_MEMBERS: bool = false;

    fn boot(setup: &Setup, id: NodeId, seed: u64, disk: &mut Disk, now: Now) -> Result<Self, String> {
        disk.recover(Self::decoder())?;
        let config = config(setup, id, seed);
        let boot = disk.load(config.raft.tail_bytes);
        let applied = disk.rows().applied;
        let mut builder = Builder::new();
        for row in disk.rows().iter() {
            builder.add(row).map_err(|error| error.to_string())?;
        }
        let state = builder.finish(applied.index).map_err(|error| error.to_string())?;
        let published = state.clone();
        let node = Node::start(config, boot, (state, StateMark { applied }), now)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            node,
            published,
            standing: None,
            reads: BTreeMap::new(),
            cluster: None,
            acts: VecDeque::new(),
        })
    }

    fn found(&mut self, setup: &Setup, now: Now) -> Result<(), String> {
        self.input(
            now,
            Input::Contacts(setup.servers.iter().map(|id| address(*id)).collect()),
        )
    }

    fn handle(&mut self, now: Now, stimulus: Stimulus) -> Result<(), String> {
        match stimulus {
            Stimulus::Message { from, bytes } => {
                let (cluster, message) = decode_raft(&bytes).map_err(|error| error.to_string())?;
                self.input(
                    now,
                    Input::Raft {
                        from,
                        cluster,
                        message,
                    },
                )
            }
            Stimulus::Unreachable(peer) => self.input(now, Input::Unreachable { peer }),
            Stimulus::Persisted(through) => self.input(now, Input::Persisted { through }),
            Stimulus::PersistFailed(id) => self.input(
                now,
                Input::PersistFailed {
                    id,
                    detail: "the simulated disk failed".into(),
                },
            ),
            Stimulus::NotesSaved(count) => (0..count).try_for_each(|_| self.input(now, Input::NotesSaved)),
            Stimulus::StateStored(applied) => self.input(now, Input::StateStored { applied }),
            Stimulus::Fetched(id, entries) => {
                let data = entries.map_or_else(Fetched::Failed, Fetched::Entries);
                self.input(now, Input::Fetched { id, data })
            }
            Stimulus::Request(token, op) => self.request(now, token, op),
            Stimulus::Call { id, from, body } => {
                let call = decode_call(&body).map_err(|error| error.to_string())?;
                self.input(
                    now,
                    Input::Call {
                        id: InboundId(id),
                        from,
                        call,
                    },
                )
            }
            Stimulus::CallDone { id, result } => {
                let result = match result {
                    Ok(body) => Ok(decode_reply(&body).map_err(|error| error.to_string())?),
                    Err(CallLoss { maybe_sent }) => Err(CallFailure {
                        maybe_sent,
                        detail: "lost on the way".into(),
                    }),
                };
                self.input(
                    now,
                    Input::CallDone {
                        id: CallId(id),
                        result,
                    },
                )
            }
        }
    }

    fn wake(&mut self, now: Now) {
        self.node.handle_timeout(now);
    }

    fn poll(&mut self, _now: Now, _disk: &Disk) -> Result<Option<Act>, String> {
        loop {
            if let Some(act) = self.acts.pop_front() {
                return Ok(Some(act));
            }
            let Some(effect) = self.node.poll_effect() else {
                return Ok(None);
            };
            self.translate(effect)?;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.node.poll_timeout().map(|deadline| deadline.at)
    }

    fn fault(&self) -> Option<String> {
        self.node.fault().map(ToString::to_string)
    }

    fn status(&self) -> Status {
        self.node.raft_status()
    }

    fn state(&self) -> &State {
        &self.published
    }

    fn decoder() -> DecodeRows {
        |chunk| decode_rows(chunk).map_err(|error| error.to_string())
    }
}

impl NodeHost {
    fn input(&mut self, now: Now, input: Input) -> Result<(), String> {
        self.node.handle(now, input).map_err(|reject| reject.to_string())
    }

    /// Does what an agent's API would: serves at once what may be served at once, and asks the node for the rest.
    fn request(&mut self, now: Now, token: Token, op: Op) -> Result<(), String> {
        let request = match op {
            Op::Write(change) => Request::Write(change.action()),
            Op::Transfer => Request::TransferLeadership(None),
            Op::Reconfigure(_) => {
                // A node sees to its members by itself.
                self.acts.push_back(Act::Answer(token, Answer::Refused));
                return Ok(());
            }
            Op::Get { key, freshness } => {
                let mode = match freshness {
                    Freshness::Stale => return self.answer_read(token, key),
                    Freshness::Default if self.leads_by_lease(now) => return self.answer_read(token, key),
                    Freshness::Default => ReadMode::Lease,
                    Freshness::Consistent => ReadMode::Quorum,
                };
                self.reads.insert(token, key);
                Request::Read(mode)
            }
        };
        self.input(now, Input::Request { token, request })
    }

    fn leads_by_lease(&self, now: Now) -> bool {
        let lease = self
            .standing
            .as_ref()
            .filter(|standing| standing.role == Role::Leader);
        lease
            .and_then(|standing| standing.lease_until)
            .is_some_and(|until| now.mono < until)
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "ends a request like the other ways that one can end"
    )]
    fn answer_read(&mut self, token: Token, key: u8) -> Result<(), String> {
        let answer = Answer::Value {
            index: self.published.index(),
            held: held(&self.published, key),
        };
        self.acts.push_back(Act::Answer(token, answer));
        Ok(())
    }

    fn translate(&mut self, effect: Effect) -> Result<(), String> {
        let act = match effect {
            Effect::Persist(batch) => Act::Persist(batch),
            Effect::SaveNotes(notes) => Act::SaveNotes(notes),
            Effect::Send { to, cluster, message } => {
                if self.cluster.replace(cluster) != Some(cluster) {
                    self.acts.push_back(Act::Mark(Mark::Member(cluster)));
                }
                let bytes = Bytes::from(encode_raft(cluster, &message));
                Act::Send { to, message, bytes }
            }
            Effect::Fetch {
                id,
                what:
                    Fetch::Entries {
                        first,
                        last,
                        max_bytes,
                    },
            } => Act::Fetch {
                id,
                first,
                last,
                max_bytes,
            },
            Effect::Fetch {
                what: Fetch::Chunk { .. },
                ..
            } => return Err("a node asked its driver for a chunk".into()),
            Effect::Store(batch) => Act::Store(batch),
            Effect::ReplaceState(meta) => Act::ReplaceState(meta),
            Effect::StoreWhole { applied, state } => Act::StoreWhole(applied, state),
            Effect::Publish(published) => {
                self.published = published.state.clone();
                Act::Publish {
                    state: published.state,
                    touched: published.touched,
                }
            }
            Effect::Standing(standing) => {
                self.standing = Some(standing);
                return Ok(());
            }
            Effect::Call {
                id,
                to,
                call,
                timeout,
            } => {
                let to = match to {
                    Target::Node(id) => id,
                    Target::Address(at) => {
                        node_at(at).ok_or_else(|| format!("a node called {at}, where nobody is"))?
                    }
                };
                Act::Call {
                    id: id.0,
                    to,
                    body: Bytes::from(encode_call(&call)),
                    timeout,
                }
            }
            Effect::Reply { id, reply } => Act::Reply {
                id: id.0,
                body: Bytes::from(encode_reply(&reply)),
            },
            Effect::Answer { token, answer } => return self.answered(token, answer),
            Effect::Event(event) => {
                self.acts.extend(mark(&event));
                return Ok(());
            }
            Effect::Address(_) | Effect::Expel(_) | Effect::Removed | Effect::Stopped => return Ok(()),
        };
        self.acts.push_back(act);
        Ok(())
    }

    fn answered(&mut self, token: Token, answer: lictor_node::Answer) -> Result<(), String> {
        let read = self.reads.remove(&token);
        let answer = match (answer, read) {
            (lictor_node::Answer::Readable { index }, Some(key)) => {
                if self.published.index() < index {
                    return Err(format!(
                        "{index} may be read, and only {} is published",
                        self.published.index()
                    ));
                }
                return self.answer_read(token, key);
            }
            (
                lictor_node::Answer::Written {
                    index,
                    outcome: Outcome::Done(done),
                },
                None,
            ) => Answer::Written { index, done },
            (lictor_node::Answer::Transferred, None) => Answer::Transferred(true),
            (lictor_node::Answer::Failed(error), _) => failure(&error),
            (answer, read) => return Err(format!("request {} ({read:?}) was answered {answer:?}", token.0)),
        };
        self.acts.push_back(Act::Answer(token, answer));
        Ok(())
    }
}

fn failure(error: &RequestError) -> Answer {
    match error {
        RequestError::NoLeader
        | RequestError::Busy
        | RequestError::TooLarge { .. }
        | RequestError::Refused(_) => Answer::Refused,
        RequestError::LeadershipLost | RequestError::Stopped(_) => Answer::Unknown,
        RequestError::NotTransferred(_) => Answer::Transferred(false),
    }
}

fn mark(event: &Event) -> Option<Act> {
    if let Event::Raft(event) = event {
        return raft_host::mark(event);
    }
    matches!(event, Event::Restored(_)).then_some(Act::Mark(Mark::Restored))
}

fn config(setup: &Setup, id: NodeId, seed: u64) -> Config {
    let election = setup.raft.election_timeout;
    let mut config = Config::new(id, format!("n{}", id.0), address(id), u128::from(seed));
    config.raft = lictor_raft::Config {
        id,
        seed,
        ..setup.raft.clone()
    };
    config.expect = setup.expect as u32;
    config.hold = election * 4;
    config.retry = election / 8;
    config.hello_interval = election / 2;
    config.hello_interval_settled = election * 4;
    config.trailing_entries = setup.trailing;
    config.store_interval = election;
    config.store_bytes = setup.store_every as usize * 64;
    config.chunk_bytes = setup.chunk_bytes;
    config.tombstone_ttl = election * 4;
    config.tombstone_interval = election;
    config
}

/// Where a server is found: its number is the end of its address.
fn address(id: NodeId) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, id.0 as u8)), PORT)
}

fn node_at(address: SocketAddr) -> Option<NodeId> {
    match address.ip() {
        IpAddr::V4(ip) if address.port() == PORT && ip.octets()[..3] == [10, 0, 0] => {
            Some(NodeId(u128::from(ip.octets()[3])))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}
