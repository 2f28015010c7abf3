//! From a name to what is said of it: which questions that takes, and in which order.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use lictor_catalog::{Found, Instance, Query};
use lictor_machine::{Index, Rng};

use crate::answer::{Answer, Data, Record};
use crate::cache::Witnesses;
use crate::config::Config;
use crate::domain::Domain;
use crate::form::{Form, Ours, ServiceForm};
use crate::kept::{Kept, KeptWitness};
use crate::kind::Kind;
use crate::name::Name;
use crate::nodes::{self, Reversed, negative, seconds};
use crate::recursor;
use crate::services::{Asked, Draft, is_wanted};
use crate::source::{Ask, Execute, Failure, Freshness, Snapshot, Source};

/// The service that servers are instances of.
const SERVERS: &str = "consul";

/// How many names in a row may lead to another one.
const MAX_CHAIN: u8 = 10;

/// How many hosts one answer may lead to of which others are asked.
const MAX_HOSTS: usize = 32;

/// How many records are said of one host.
const MAX_RECORDS: usize = 64;

/// How long a failure to learn about a host is remembered, at least.
const MOMENT: Duration = Duration::from_secs(1);

/// Building an index takes at most this part of the time.
const DUTY: u32 = 16;

/// Whom a lookup may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nobody: what is not here makes the lookup end with [`Miss::Far`].
    Here,
    /// Whoever knows.
    Anywhere,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Miss {
    /// It takes a longer [`Reach`].
    Far,
    /// Others have to be asked, with the same query.
    Forward,
    /// Whoever should know does not.
    Failed(Failure),
}

impl From<Failure> for Miss {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What lookups share.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) kept: Kept,
    reversed: Mutex<Option<Arc<Reverse>>>,
}

/// Which names have which address, as of one version of the catalog.
#[derive(Debug)]
struct Reverse {
    names: Reversed,
    origin: Origin,
    made: Instant,
    /// How long that took.
    took: Duration,
}

/// Which catalog an index was made of.
#[derive(Debug)]
enum Origin {
    /// The one here: its generation, and the index of what was read.
    Here(u64, Index),
    /// What others said.
    Kept(KeptWitness),
    /// The leader's, who is asked each time.
    Leader,
}

impl Library {
    pub(crate) fn new(source: Arc<dyn Source>, kept: Kept) -> Self {
        Self {
            source,
            kept,
            reversed: Mutex::default(),
        }
    }

    fn reversed(&self) -> MutexGuard<'_, Option<Arc<Reverse>>> {
        // No foreign code runs under the lock, so a poisoned one still guards a sound state.
        self.reversed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what depends on the configuration.
    pub(crate) fn clear(&self) {
        *self.reversed() = None;
    }
}

/// One lookup.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    pub(crate) library: &'a Library,
    pub(crate) config: &'a Config,
    /// The catalog, if there is one that is fresh enough.
    pub(crate) snapshot: Option<&'a Snapshot>,
    pub(crate) reach: Reach,
    /// Whose lookup it is.
    pub(crate) client: std::net::IpAddr,
    pub(crate) rng: Rng,
    /// What was read for it.
    pub(crate) witnesses: Witnesses,
    /// Whether the next one to ask may get the same answer.
    pub(crate) keep: bool,
}

type Pinned<'f, T> = Pin<Box<dyn Future<Output = T> + Send + 'f>>;

impl<'a> Lookup<'a> {
    /// The answer to a question; `name` is in lower case.
    pub(crate) async fn answer(&mut self, name: &[u8], kind: Kind) -> Result<Answer, Miss> {
        let (domain, what) = match self.form(name) {
            Form::Ours { domain, what } => (domain, what),
            Form::Reverse(None) | Form::Foreign => return Err(Miss::Forward),
            Form::Reverse(Some(address)) => {
                let index = self.reverse().await?;
                return index.names.answer(kind, address).ok_or(Miss::Forward);
            }
        };
        if kind == Kind::Transfer {
            return Ok(Answer {
                authoritative: true,
                ..Answer::only(ResponseCode::NotImp)
            });
        }
        if matches!(kind, Kind::Soa | Kind::Ns) {
            return self.authority(domain, kind).await;
        }
        match self.draft(domain, what, kind).await {
            Ok(draft) if kind == Kind::Srv => self.finish(draft, Kind::Any, true, 0).await,
            Ok(draft) => self.finish(draft, kind, false, 0).await,
            Err(Miss::Failed(Failure::NoSuchDatacenter(_))) => {
                self.keep = false;
                Ok(negative(self.config, domain, ResponseCode::NXDomain))
            }
            Err(miss) => Err(miss),
        }
    }

    /// What a name asks for. Nobody tells which data centers come and go, so what depends on that is not kept.
    fn form(&mut self, name: &[u8]) -> Form<'a> {
        let depends = Cell::new(false);
        let source = &self.library.source;
        let form = Form::of(name, self.config, |name| {
            depends.set(true);
            source.has_datacenter(name)
        });
        self.keep &= !depends.get();
        form
    }

    /// Who serves the domain.
    async fn authority(&mut self, domain: &'a Domain, kind: Kind) -> Result<Answer, Miss> {
        let found = self.instances(None, SERVERS, false).await?;
        let mut servers = wanted(&found, None, false)?;
        self.rng.shuffle(&mut servers);
        // One order for all who ask would be unfair to the servers that it leaves out.
        self.keep &= servers.len() <= 1;
        Ok(nodes::authority(self.config, domain, kind, &servers))
    }

    /// What is said of a name, without what is said of the hosts that it leads to.
    async fn draft(&mut self, domain: &'a Domain, what: Ours, kind: Kind) -> Result<Draft, Miss> {
        let config = self.config;
        let plain = |answer| Draft {
            answer,
            hosts: Vec::new(),
        };
        match what {
            Ours::Branch => Ok(plain(negative(config, domain, ResponseCode::NoError))),
            Ours::Missing => Ok(plain(negative(config, domain, ResponseCode::NXDomain))),
            Ours::Address(address) => Ok(plain(nodes::literal(config, domain, kind, address))),
            Ours::Node { name, datacenter } => {
                let found = self
                    .find(datacenter.as_deref(), Query::NodeServices(name))
                    .await?;
                let Found::NodeServices(node) = &*found else {
                    return Err(confused());
                };
                let node = node.as_ref().map(|services| &services.node.def);
                Ok(nodes::draft(config, domain, kind, node, datacenter.is_some()))
            }
            Ours::Service(form) => self.service(domain, form, kind).await,
            Ours::Prepared { name, datacenter } => self.prepared(domain, name, datacenter, kind).await,
        }
    }

    async fn service(&mut self, domain: &'a Domain, form: ServiceForm, kind: Kind) -> Result<Draft, Miss> {
        let config = self.config;
        let datacenter = form.datacenter.as_deref();
        let found = self.instances(datacenter, &form.name, form.connect).await?;
        let wanted = wanted(&found, form.tag.as_deref(), config.only_passing)?;
        if wanted.is_empty() && is_branch(&found, &form) {
            return Ok(Draft {
                answer: negative(config, domain, ResponseCode::NoError),
                hosts: Vec::new(),
            });
        }
        let asked = Asked {
            config,
            domain,
            datacenter: datacenter.unwrap_or(&config.datacenter),
            ttl: seconds(config.service_ttl.of(&form.name)),
            kind,
            ordered: false,
        };
        Ok(asked.draft(wanted))
    }

    async fn prepared(
        &mut self,
        domain: &'a Domain,
        name: String,
        datacenter: Option<String>,
        kind: Kind,
    ) -> Result<Draft, Miss> {
        if self.reach == Reach::Here {
            return Err(Miss::Far);
        }
        // What a query finds may depend on who asks, and on more than can be watched.
        self.keep = false;
        let config = self.config;
        let execute = Execute {
            datacenter,
            name,
            freshness: self.freshness(),
            client: self.client,
            limit: 0,
        };
        let Some(execution) = self.library.source.execute(execute).await? else {
            return Ok(Draft {
                answer: negative(config, domain, ResponseCode::NXDomain),
                hosts: Vec::new(),
            });
        };
        let ttl = execution
            .ttl
            .unwrap_or_else(|| config.service_ttl.of(&execution.service));
        let asked = Asked {
            config,
            domain,
            datacenter: &execution.datacenter,
            ttl: seconds(ttl),
            kind,
            ordered: execution.ordered,
        };
        let mut draft = asked.draft(execution.instances.iter().collect());
        // The order may be by the distance from the client.
        draft.answer.personal = execution.ordered;
        Ok(draft)
    }

    /// Adds what is said of hosts. With `as_glue` that goes to the additional section.
    async fn finish(&mut self, draft: Draft, kind: Kind, as_glue: bool, depth: u8) -> Result<Answer, Miss> {
        let Draft { mut answer, hosts } = draft;
        if hosts.is_empty() || kind == Kind::Cname {
            return Ok(answer);
        }
        let ttl = answer.items.first().and_then(|item| item.answers.first());
        let ttl = ttl.map_or(0, |record| record.ttl);
        let mut foreign: Vec<(usize, Name)> = Vec::new();
        for (number, host) in hosts {
            let name = host.lower();
            match self.form(&name) {
                Form::Ours { domain, what } => {
                    let records = self.host(domain, what, &host, kind, depth + 1).await?;
                    put(&mut answer, number, as_glue, records);
                }
                Form::Reverse(_) | Form::Foreign if foreign.len() < MAX_HOSTS => foreign.push((number, host)),
                Form::Reverse(_) | Form::Foreign => {}
            }
        }
        if foreign.is_empty() || self.config.recursors.is_empty() {
            return Ok(answer);
        }
        if self.reach == Reach::Here {
            return Err(Miss::Far);
        }
        let config = self.config;
        let asked = foreign
            .iter()
            .map(|(_, host)| resolve(config, host, kind, as_glue));
        let known = join_all(asked).await;
        for ((number, _), records) in foreign.into_iter().zip(known) {
            let least = records.iter().map(|record| record.ttl).min().unwrap_or(0);
            let until = Instant::now() + Duration::from_secs(least.into()).max(MOMENT);
            self.witnesses.until = Some(self.witnesses.until.map_or(until, |other| other.min(until)));
            let records = records.into_iter().map(|record| Record {
                // Not longer than the name that leads there.
                ttl: record.ttl.min(ttl),
                ..record
            });
            put(&mut answer, number, as_glue, records.collect());
        }
        Ok(answer)
    }

    /// The addresses of a host in one of the domains that are answered for, with the names that lead there.
    fn host<'f>(
        &'f mut self,
        domain: &'a Domain,
        what: Ours,
        host: &'f Name,
        kind: Kind,
        depth: u8,
    ) -> Pinned<'f, Result<Vec<Record>, Miss>> {
        Box::pin(async move {
            if depth > MAX_CHAIN {
                return Ok(Vec::new());
            }
            let draft = match self.draft(domain, what, kind).await {
                Ok(draft) => draft,
                Err(Miss::Failed(Failure::NoSuchDatacenter(_))) => {
                    self.keep = false;
                    return Ok(Vec::new());
                }
                Err(miss) => return Err(miss),
            };
            let answer = self.finish(draft, kind, false, depth).await?;
            let records = answer.items.into_iter().flat_map(|item| item.answers);
            let records = records.filter(|record| !matches!(record.data, Data::Txt(_)));
            let records = records.map(|record| Record {
                owner: record.owner.or_else(|| Some(host.clone())),
                ..record
            });
            Ok(records.take(MAX_RECORDS).collect())
        })
    }

    async fn instances(
        &mut self,
        datacenter: Option<&str>,
        service: &str,
        connect: bool,
    ) -> Result<Arc<Found>, Miss> {
        let query = Query::HealthService {
            service: service.to_owned(),
            connect,
        };
        self.find(datacenter, query).await
    }

    /// Which names have which address.
    async fn reverse(&mut self) -> Result<Arc<Reverse>, Miss> {
        let last = self.library.reversed().clone();
        if let Some(last) = last.filter(|last| self.still_good(last)) {
            return Ok(last);
        }
        let began = Instant::now();
        let found = self.find(None, Query::NodeInfos).await?;
        let Found::NodeInfos(nodes) = &*found else {
            return Err(confused());
        };
        let origin = match (self.witnesses.local.last(), self.witnesses.kept.last()) {
            (Some((_, index)), _) => Origin::Here(self.witnesses.generation, *index),
            (None, Some(witness)) => Origin::Kept(witness.clone()),
            (None, None) => Origin::Leader,
        };
        // Others may have said the same again.
        if let Origin::Kept(witness) = &origin
            && let Some(last) = self.library.reversed().clone()
            && matches!(&last.origin, Origin::Kept(known) if known.is_same(witness))
        {
            return Ok(last);
        }
        let reverse = Arc::new(Reverse {
            names: Reversed::new(self.config, nodes),
            origin,
            made: Instant::now(),
            took: began.elapsed(),
        });
        match reverse.origin {
            Origin::Here(..) | Origin::Kept(_) => *self.library.reversed() = Some(Arc::clone(&reverse)),
            Origin::Leader => {}
        }
        Ok(reverse)
    }

    /// Whether an index may be read instead of a new one; if so, the answer depends on what it was made of.
    fn still_good(&mut self, reverse: &Reverse) -> bool {
        match (&reverse.origin, self.snapshot) {
            (Origin::Here(generation, read), Some(snapshot)) => {
                let index = snapshot.state.index_of(&Query::NodeInfos).unwrap_or(Index::ZERO);
                let worn = reverse.made.elapsed() > reverse.took * DUTY;
                let good = (*generation, *read) == (snapshot.generation, index) || !worn;
                if good {
                    self.witnesses.generation = *generation;
                    self.witnesses.local.push((Query::NodeInfos, *read));
                }
                good
            }
            (Origin::Kept(witness), None) => {
                let max = self.config.max_stale;
                let good = self.config.allow_stale && self.library.kept.stands(witness, max).is_some();
                if good {
                    self.witnesses.kept.push(witness.clone());
                }
                good
            }
            (Origin::Here(..), None) | (Origin::Kept(_), Some(_)) | (Origin::Leader, _) => false,
        }
    }

    /// The answer to a query: of the catalog here, or of what others said, or of others.
    async fn find(&mut self, datacenter: Option<&str>, query: Query) -> Result<Arc<Found>, Miss> {
        if let (None, Some(snapshot)) = (datacenter, self.snapshot) {
            let (index, found) = snapshot.state.query(&query);
            self.witnesses.generation = snapshot.generation;
            self.witnesses.local.push((query, index));
            return Ok(Arc::new(found));
        }
        if !self.config.allow_stale {
            if self.reach == Reach::Here {
                return Err(Miss::Far);
            }
            self.keep = false;
            let ask = Ask {
                datacenter: datacenter.map(str::to_owned),
                query,
                freshness: Freshness::Leader,
                after: Index::ZERO,
                wait: Duration::ZERO,
            };
            return Ok(self.library.source.find(ask).await?.found);
        }
        let max = self.config.max_stale;
        let (found, witness) = match self.library.kept.peek(datacenter, &query, max) {
            Some(kept) => kept,
            None if self.reach == Reach::Here => return Err(Miss::Far),
            None => self.library.kept.get(datacenter, &query, max).await?,
        };
        self.witnesses.kept.push(witness);
        Ok(found)
    }

    const fn freshness(&self) -> Freshness {
        if self.config.allow_stale {
            Freshness::Stale {
                max: self.config.max_stale,
            }
        } else {
            Freshness::Leader
        }
    }
}

/// Asks others for a host's addresses; nothing if they do not know.
async fn resolve(config: &Config, host: &Name, kind: Kind, as_glue: bool) -> Vec<Record> {
    let wanted = if kind == Kind::Aaaa {
        RecordType::AAAA
    } else {
        RecordType::A
    };
    let first = recursor::resolve(config, host, wanted).await.unwrap_or_default();
    let has_address = |records: &[Record]| {
        let mut records = records.iter();
        records.any(|record| matches!(record.data, Data::A(_) | Data::Aaaa(_)))
    };
    if as_glue && !has_address(&first) {
        let second = recursor::resolve(config, host, RecordType::AAAA)
            .await
            .unwrap_or_default();
        if has_address(&second) {
            return second;
        }
    }
    first
}

/// Whether other names may end in one that names no instance. A resolver that asks for the end first must not hear that there is nothing.
fn is_branch(found: &Found, form: &ServiceForm) -> bool {
    let Some(tag) = &form.tag else {
        // The tag, or the protocol, of a name as RFC 2782 writes it.
        return form.name.starts_with('_');
    };
    let Found::Instances(instances) = found else {
        return false;
    };
    let mut tags = instances.iter().flat_map(|instance| &*instance.service.def.tags);
    tags.any(|longer| {
        let head = longer.len().checked_sub(tag.len());
        head.and_then(|head| longer.split_at_checked(head))
            .is_some_and(|(head, tail)| head.ends_with('.') && tail.eq_ignore_ascii_case(tag))
    })
}

/// The instances that may be named.
fn wanted<'f>(found: &'f Found, tag: Option<&str>, only_passing: bool) -> Result<Vec<&'f Instance>, Miss> {
    let Found::Instances(instances) = found else {
        return Err(confused());
    };
    let wanted = instances
        .iter()
        .filter(|instance| is_wanted(instance, tag, only_passing));
    Ok(wanted.collect())
}

/// Another agent answered what was not asked.
fn confused() -> Miss {
    Miss::Failed(Failure::Unavailable(
        "the answer is to another question".to_owned(),
    ))
}

fn put(answer: &mut Answer, number: usize, as_glue: bool, records: Vec<Record>) {
    if let Some(item) = answer.items.get_mut(number) {
        if as_glue {
            item.additional.extend(records);
        } else {
            item.answers.extend(records);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::tests::World;

    #[test]
    fn addresses_are_not_sorted_anew_before_the_catalog_changes() {
        for is_server in [true, false] {
            let world = World::new(is_server);
            world.node("a", "10.0.0.1", &[]);
            let source: Arc<dyn Source> = Arc::clone(&world) as _;
            let runtime = lictor_runtime_smol::runtime();
            let kept = Kept::new(Arc::clone(&source), runtime, 10, Duration::from_hours(1));
            let library = Library::new(source, kept);
            let config = Config::new("dc1");
            let reverse = || {
                let snapshot = library.source.snapshot();
                let mut lookup = Lookup {
                    library: &library,
                    config: &config,
                    snapshot: snapshot.as_ref(),
                    reach: Reach::Anywhere,
                    client: [127, 0, 0, 1].into(),
                    rng: Rng::new(1),
                    witnesses: Witnesses::default(),
                    keep: true,
                };
                let reverse = block_on(lookup.reverse()).unwrap();
                assert_eq!(lookup.witnesses.local.len(), usize::from(is_server));
                assert_eq!(lookup.witnesses.kept.len(), usize::from(!is_server));
                reverse
            };
            let first = reverse();
            for _ in 0..10 {
                assert!(Arc::ptr_eq(&first, &reverse()), "server: {is_server}");
            }
            world.node("b", "10.0.0.2", &[]);
            let began = Instant::now();
            while reverse().names.answer(Kind::Ptr, [10, 0, 0, 2].into()).is_none() {
                assert!(began.elapsed() < Duration::from_mins(1));
                std::thread::yield_now();
            }
        }
    }
}
