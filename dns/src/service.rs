//! From the bytes of a query to the bytes of its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures::FutureExt as _;
use hickory_proto::op::ResponseCode;
use lictor_machine::Rng;
use lictor_runtime::Runtime;

use crate::answer::Answer;
use crate::cache::{Cache, Entry, Witnesses};
use crate::config::Config;
use crate::encode::Encoded;
use crate::kept::Kept;
use crate::kind::Kind;
use crate::lookup::{Library, Lookup, Miss, Reach};
use crate::message::{Desk, Room};
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
pub(crate) enum Late {
    /// This is the answer.
    Known(Box<Request>, Arc<Entry>),
    /// This is the message, from somebody else.
    Relayed(Box<Request>, Vec<u8>),
}

/// Answers queries.
#[derive(Debug)]
pub(crate) struct Service {
    library: Library,
    settings: ArcSwap<Settings>,
    cache: Cache,
    pub(crate) counters: Counters,
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
pub(crate) struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Service {
    pub(crate) fn new(source: Arc<dyn Source>, config: Config, runtime: Runtime, seed: u64) -> Self {
        let limits = config.limits;
        let kept = Kept::new(Arc::clone(&source), runtime, limits.kept, limits.keep_refreshing);
        Self {
            library: Library::new(source, kept),
            settings: ArcSwap::from_pointee(Settings { config, epoch: 0 }),
            cache: Cache::new(limits.cache_bytes),
            counters: Counters::default(),
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
        if let Some(entry) = self.cached(&request, &settings, snapshot.as_ref()) {
            self.counters.hits.count();
            self.write(desk, &request, &entry, transport);
            return AtOnce::Written;
        }
        let lookup = self.look(&request, client, &settings, snapshot.as_ref(), Reach::Here);
        // Nothing in it waits, since nobody else is asked.
        match lookup.now_or_never() {
            Some(Ok(entry)) => {
                self.write(desk, &request, &entry, transport);
                AtOnce::Written
            }
            Some(Err(Miss::Forward)) if settings.config.recursors.is_empty() => {
                let entry = foreign(&request, &settings);
                self.write(desk, &request, &entry, transport);
                AtOnce::Written
            }
            Some(Err(Miss::Far | Miss::Forward | Miss::Failed(_))) | None => {
                let Some(place) = self.place(settings.config.limits.waiting) else {
                    self.counters.crowded.count();
                    let entry = bare(&settings, ResponseCode::ServFail);
                    self.write(desk, &request, &entry, transport);
                    return AtOnce::Written;
                };
                AtOnce::Later(Box::new(request), place)
            }
        }
    }

    /// A place among the queries that wait for others, if not all of `limit` are taken.
    fn place(&self, limit: usize) -> Option<Waiting> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Waiting(Arc::clone(&self.waiting));
        (before < limit).then_some(place)
    }

    /// Answers a query, whatever that takes, and then gives its place back. `packet` is where the request was read from.
    pub(crate) async fn later(
        &self,
        request: Box<Request>,
        _place: Waiting,
        packet: Vec<u8>,
        client: IpAddr,
        by_tcp: bool,
    ) -> Late {
        let settings = self.settings.load_full();
        let failed = |code| bare(&settings, code);
        let snapshot = self.snapshot(&settings.config);
        let lookup = self.look(&request, client, &settings, snapshot.as_ref(), Reach::Anywhere);
        match lookup.await {
            Ok(entry) => Late::Known(request, entry),
            Err(Miss::Forward) if settings.config.recursors.is_empty() => {
                let entry = foreign(&request, &settings);
                Late::Known(request, entry)
            }
            Err(Miss::Forward) => {
                self.counters.forwarded.count();
                let answer = recursor::forward(&settings.config, &packet, by_tcp).await;
                let Some(message) = answer else {
                    self.counters.unforwarded.count();
                    return Late::Known(request, failed(ResponseCode::ServFail));
                };
                Late::Relayed(request, message)
            }
            Err(miss @ (Miss::Far | Miss::Failed(_))) => {
                tracing::debug!(?miss, "a name cannot be looked up");
                Late::Known(request, failed(ResponseCode::ServFail))
            }
        }
    }

    /// Writes what became of a query later into the desk's message.
    pub(crate) fn write_late(&self, desk: &mut Desk, late: &Late, transport: Transport) {
        match late {
            Late::Known(request, entry) => self.write(desk, request, entry, transport),
            Late::Relayed(request, message) => {
                let settings = self.settings.load();
                let room = room(&settings.config, request, transport);
                if message.len() <= room.bytes {
                    self.counters.answered(u16::from(message[3] & 0xf));
                    desk.message.clear();
                    desk.message.extend_from_slice(message);
                } else {
                    // The client may ask again by TCP.
                    let empty = bare(&settings, ResponseCode::NoError);
                    self.write(desk, request, &empty, transport);
                    desk.truncate();
                }
            }
        }
    }

    fn write(&self, desk: &mut Desk, request: &Request, entry: &Entry, transport: Transport) {
        let settings = self.settings.load();
        let room = room(&settings.config, request, transport);
        let recursion = !settings.config.recursors.is_empty();
        self.counters.answered(entry.encoded.code);
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

    fn cached(
        &self,
        request: &Request,
        settings: &Settings,
        snapshot: Option<&Snapshot>,
    ) -> Option<Arc<Entry>> {
        let entry = self.cache.get(request.key())?;
        let max = settings.config.max_stale;
        let kept = &self.library.kept;
        let stands = entry.epoch == settings.epoch
            && entry.stands(snapshot)
            && entry
                .witnesses
                .kept
                .iter()
                .all(|witness| kept.stands(witness, max))
            && entry.witnesses.until.is_none_or(|until| Instant::now() < until);
        stands.then_some(entry)
    }

    async fn look(
        &self,
        request: &Request,
        client: IpAddr,
        settings: &Settings,
        snapshot: Option<&Snapshot>,
        reach: Reach,
    ) -> Result<Arc<Entry>, Miss> {
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
        let entry = Arc::new(Entry::new(encoded, witnesses, settings.epoch));
        if keep {
            self.cache.insert(request.key(), Arc::clone(&entry));
        }
        Ok(entry)
    }
}

/// What is said of names that others would have to be asked about, if there are no others.
fn foreign(request: &Request, settings: &Settings) -> Arc<Entry> {
    // Whoever asks for an address's name has been sent here on purpose, and others might know it.
    let is_reverse = request.name().ends_with(b"\x04arpa\0");
    let code = if is_reverse {
        ResponseCode::ServFail
    } else {
        ResponseCode::Refused
    };
    bare(settings, code)
}

fn bare(settings: &Settings, code: ResponseCode) -> Arc<Entry> {
    let encoded = Encoded::new(&Answer::only(code), b"\0", true);
    Arc::new(Entry::new(encoded, Witnesses::default(), settings.epoch))
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
