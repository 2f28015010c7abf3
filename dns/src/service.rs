//! From the bytes of a query to the bytes of its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures::FutureExt as _;
use hickory_proto::op::ResponseCode;
use lictor_machine::Rng;
use lictor_runtime::Runtime;

use crate::answer::Answer;
use crate::cache::{Cache, Entry, Witnesses};
use crate::config::Config;
use crate::encode::Encoded;
use crate::form::Topic;
use crate::kept::Kept;
use crate::kind::Kind;
use crate::lookup::{Library, Lookup, Miss, Reach};
use crate::message::{Desk, Room};
use crate::meters::Meters;
use crate::recursor;
use crate::request::{CLASSIC_BYTES, Received, Request};
use crate::source::{Snapshot, Source};
use crate::stats::{Counters, Stats};

/// The longest answer by UDP, whatever clients allow: more would make the server a tool to flood others with.
const MAX_UDP_BYTES: usize = 4096;

/// The longest answer by TCP.
const MAX_TCP_BYTES: usize = 65_535;

/// What goes through every network in one piece.
const SAFE_UDP_BYTES: usize = 1232;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    /// By UDP, to a client that longer answers than [`SAFE_UDP_BYTES`] cannot reach.
    NarrowUdp,
    Tcp,
}

impl Transport {
    /// Whether an answer is counted: one that is written once more, because it was too long for the way, was counted before.
    const fn counts(self) -> bool {
        match self {
            Self::Udp | Self::Tcp => true,
            Self::NarrowUdp => false,
        }
    }
}

/// What became of a query at once.
#[derive(Debug)]
pub(crate) enum AtOnce {
    /// The answer is in the desk's message.
    Written,
    /// There is nothing to say.
    Silence,
    /// It takes others to answer it, and there is a place to wait for them.
    Later(Box<Request>, Waiting),
}

/// What became of a query later.
#[derive(Debug)]
pub(crate) struct Late {
    request: Box<Request>,
    outcome: Outcome,
    /// When the query was looked at first.
    since: Instant,
}

#[derive(Debug)]
enum Outcome {
    /// This is the answer.
    Known(Said),
    /// This is the message, from somebody else.
    Relayed(Vec<u8>),
}

/// An answer, and how old what it was made of is.
#[derive(Debug)]
struct Said {
    entry: Arc<Entry>,
    age: Duration,
}

/// Answers queries.
#[derive(Debug)]
pub(crate) struct Service {
    library: Library,
    settings: ArcSwap<Settings>,
    cache: Cache,
    pub(crate) counters: Counters,
    meters: Meters,
    /// Queries that wait for others.
    waiting: Arc<AtomicUsize>,
    /// Seeds for the tasks' own generators.
    seeds: AtomicU64,
}

/// The configuration, and which it is.
#[derive(Debug)]
struct Settings {
    config: Config,
    epoch: u64,
}

/// A place among the queries that wait. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Waiting {
    waiting: Arc<AtomicUsize>,
    since: Instant,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Service {
    pub(crate) fn new(
        source: Arc<dyn Source>,
        config: Config,
        runtime: Runtime,
        meters: Meters,
        seed: u64,
    ) -> Self {
        let limits = config.limits;
        let kept = Kept::new(Arc::clone(&source), runtime, limits.kept, limits.keep_refreshing);
        Self {
            library: Library::new(source, kept),
            settings: ArcSwap::from_pointee(Settings { config, epoch: 0 }),
            cache: Cache::new(limits.cache_bytes),
            counters: Counters::default(),
            meters,
            waiting: Arc::default(),
            seeds: AtomicU64::new(seed),
        }
    }

    /// Answers by another configuration from now on.
    pub(crate) fn reconfigure(&self, config: Config) {
        let epoch = self.settings.load().epoch + 1;
        self.settings.store(Arc::new(Settings { config, epoch }));
        self.library.clear();
    }

    /// What a task that answers queries needs for itself.
    pub(crate) fn desk(&self) -> Desk {
        Desk::new(self.rng())
    }

    fn rng(&self) -> Rng {
        let mut seeds = Rng::new(self.seeds.fetch_add(1, Ordering::Relaxed));
        seeds.fork()
    }

    pub(crate) fn stats(&self) -> Stats {
        let (kept, oldest) = self.library.kept.census();
        self.counters.read(kept, oldest)
    }

    /// Stops asking others for what is kept.
    pub(crate) fn close(&self) {
        self.library.kept.clear();
    }

    /// Notes what was written at this desk since `since`. To be called once for all that was answered in one go.
    pub(crate) fn note(&self, desk: &mut Desk, since: Instant) {
        self.meters.note(&mut desk.tally, since);
    }

    /// Answers a query, if that takes nobody else. If it does, and too many wait for others already, the answer is that it failed.
    pub(crate) fn at_once(
        &self,
        desk: &mut Desk,
        packet: &[u8],
        client: IpAddr,
        transport: Transport,
    ) -> AtOnce {
        let request = match Request::read(packet) {
            Received::Query(request) => request,
            Received::Refused(message, code) => {
                self.counters.answered(code.into());
                desk.tally.add(Topic::Other, Duration::ZERO);
                desk.message.clear();
                desk.message.extend_from_slice(&message);
                return AtOnce::Written;
            }
            Received::Noise => {
                self.counters.noise.count();
                return AtOnce::Silence;
            }
        };
        let settings = self.settings.load();
        let snapshot = self.snapshot(&settings.config);
        if let Some(said) = self.cached(&request, &settings, snapshot.as_ref()) {
            if transport.counts() {
                self.counters.hits.count();
            }
            self.write(desk, &request, &said, transport);
            return AtOnce::Written;
        }
        let lookup = self.look(&request, client, &settings, snapshot.as_ref(), Reach::Here);
        // Nothing in it waits, since nobody else is asked.
        match lookup.now_or_never() {
            Some(Ok(said)) => {
                self.write(desk, &request, &said, transport);
                AtOnce::Written
            }
            Some(Err(Miss::Forward)) if settings.config.recursors.is_empty() => {
                let said = foreign(&request, &settings);
                self.write(desk, &request, &said, transport);
                AtOnce::Written
            }
            Some(Err(Miss::Far | Miss::Forward | Miss::Failed(_))) | None => {
                let Some(place) = self.place(settings.config.limits.waiting) else {
                    self.counters.crowded.count();
                    let said = bare(&request, &settings, ResponseCode::ServFail);
                    self.write(desk, &request, &said, transport);
                    return AtOnce::Written;
                };
                AtOnce::Later(Box::new(request), place)
            }
        }
    }

    /// A place among the queries that wait for others, if not all of `limit` are taken.
    fn place(&self, limit: usize) -> Option<Waiting> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Waiting {
            waiting: Arc::clone(&self.waiting),
            since: Instant::now(),
        };
        (before < limit).then_some(place)
    }

    /// Answers a query, whatever that takes, and then gives its place back. `packet` is where the request was read from.
    pub(crate) async fn later(
        &self,
        request: Box<Request>,
        place: Waiting,
        packet: Vec<u8>,
        client: IpAddr,
        by_tcp: bool,
    ) -> Late {
        let settings = self.settings.load_full();
        let failed = || Outcome::Known(bare(&request, &settings, ResponseCode::ServFail));
        let snapshot = self.snapshot(&settings.config);
        let lookup = self.look(&request, client, &settings, snapshot.as_ref(), Reach::Anywhere);
        let outcome = match lookup.await {
            Ok(said) => Outcome::Known(said),
            Err(Miss::Forward) if settings.config.recursors.is_empty() => {
                Outcome::Known(foreign(&request, &settings))
            }
            Err(Miss::Forward) => {
                self.counters.forwarded.count();
                let answer = recursor::forward(&settings.config, &packet, by_tcp).await;
                answer.map_or_else(
                    || {
                        self.counters.unforwarded.count();
                        failed()
                    },
                    Outcome::Relayed,
                )
            }
            Err(miss @ (Miss::Far | Miss::Failed(_))) => {
                tracing::debug!(?miss, "a name cannot be looked up");
                failed()
            }
        };
        Late {
            request,
            outcome,
            since: place.since,
        }
    }

    /// Writes what became of a query later into the desk's message, and notes it.
    pub(crate) fn write_late(&self, desk: &mut Desk, late: &Late, transport: Transport) {
        let request = &late.request;
        match &late.outcome {
            Outcome::Known(said) => self.write(desk, request, said, transport),
            Outcome::Relayed(message) => {
                let settings = self.settings.load();
                let room = room(&settings.config, request, transport);
                if message.len() <= room.bytes {
                    if transport.counts() {
                        self.counters.answered(u16::from(message[3] & 0xf));
                        let topic = Topic::of(request.name(), &settings.config);
                        desk.tally.add(topic, Duration::ZERO);
                    }
                    desk.message.clear();
                    desk.message.extend_from_slice(message);
                } else {
                    // The client may ask again by TCP.
                    let empty = bare(request, &settings, ResponseCode::NoError);
                    self.write(desk, request, &empty, transport);
                    desk.truncate();
                }
            }
        }
        self.note(desk, late.since);
    }

    fn write(&self, desk: &mut Desk, request: &Request, said: &Said, transport: Transport) {
        let settings = self.settings.load();
        let room = room(&settings.config, request, transport);
        let recursion = !settings.config.recursors.is_empty();
        let entry = &said.entry;
        if transport.counts() {
            self.counters.answered(entry.encoded.code);
            desk.tally.add(entry.topic, said.age);
        }
        desk.write(request, &entry.encoded, room, recursion, unix_time());
    }

    /// The catalog, if it may be answered from.
    fn snapshot(&self, config: &Config) -> Option<Snapshot> {
        if !config.allow_stale {
            return None;
        }
        let snapshot = self.library.source.snapshot()?;
        (snapshot.age <= config.max_stale).then_some(snapshot)
    }

    fn cached(&self, request: &Request, settings: &Settings, snapshot: Option<&Snapshot>) -> Option<Said> {
        let entry = self.cache.get(request.key())?;
        if entry.epoch != settings.epoch || !entry.stands(snapshot) {
            return None;
        }
        let mut age = entry.age_here(snapshot);
        for witness in &entry.witnesses.kept {
            age = age.max(self.library.kept.stands(witness, settings.config.max_stale)?);
        }
        let good = entry.witnesses.until.is_none_or(|until| Instant::now() < until);
        good.then_some(Said { entry, age })
    }

    async fn look(
        &self,
        request: &Request,
        client: IpAddr,
        settings: &Settings,
        snapshot: Option<&Snapshot>,
        reach: Reach,
    ) -> Result<Said, Miss> {
        let subnet = request.edns.as_ref().and_then(|edns| edns.subnet);
        let mut lookup = Lookup {
            library: &self.library,
            config: &settings.config,
            snapshot,
            reach,
            client: subnet.map_or(client, |subnet| subnet.addr()),
            rng: self.rng(),
            witnesses: Witnesses::default(),
            keep: true,
        };
        let answer = lookup.answer(request.name(), Kind::of(request.kind())).await?;
        let (witnesses, keep) = (lookup.witnesses, lookup.keep);
        let compress = !settings.config.disable_compression;
        let encoded = Encoded::new(&answer, request.name(), compress);
        let topic = Topic::of(request.name(), &settings.config);
        let entry = Arc::new(Entry::new(encoded, witnesses, topic, settings.epoch));
        if keep {
            self.cache.insert(request.key(), Arc::clone(&entry));
        }
        let kept = entry.witnesses.kept.iter();
        let ages = kept.map(|witness| self.library.kept.age(witness));
        let age = ages.fold(entry.age_here(snapshot), Duration::max);
        Ok(Said { entry, age })
    }
}

/// What is said of names that others would have to be asked about, if there are no others.
fn foreign(request: &Request, settings: &Settings) -> Said {
    // Whoever asks for an address's name has been sent here on purpose, and others might know it.
    let is_reverse = request.name().ends_with(b"\x04arpa\0");
    let code = if is_reverse {
        ResponseCode::ServFail
    } else {
        ResponseCode::Refused
    };
    bare(request, settings, code)
}

/// Nothing but a code.
fn bare(request: &Request, settings: &Settings, code: ResponseCode) -> Said {
    let encoded = Encoded::new(&Answer::only(code), b"\0", true);
    let topic = Topic::of(request.name(), &settings.config);
    Said {
        entry: Arc::new(Entry::new(encoded, Witnesses::default(), topic, settings.epoch)),
        age: Duration::ZERO,
    }
}

/// How much the answer to a request may be.
fn room(config: &Config, request: &Request, transport: Transport) -> Room {
    let payload = request.payload().min(MAX_UDP_BYTES);
    let answers = Some(config.udp_answer_limit).filter(|limit| *limit > 0 && payload <= CLASSIC_BYTES);
    match transport {
        Transport::Tcp => Room {
            bytes: MAX_TCP_BYTES,
            answers: None,
            tell: config.enable_truncate,
        },
        Transport::Udp => Room {
            bytes: payload,
            answers,
            tell: config.enable_truncate,
        },
        Transport::NarrowUdp => Room {
            bytes: payload.min(SAFE_UDP_BYTES),
            answers,
            tell: true,
        },
    }
}

/// Seconds since 1970, for the serial numbers of SOA records.
fn unix_time() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as u32)
}
