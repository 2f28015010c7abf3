//! From a name to what is said of it: which questions that takes, and in which order.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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
use crate::kept::Kept;
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
    version: (u64, Index),
    made: Instant,
    /// How long that took.
    took: Duration,
}

impl Library {
    pub(crate) fn new(source: Arc<dyn Source>, kept: Kept) -> Self {
        Self {
            source,
            kept,
            reversed: Mutex::default(),
        }
    }

    /// Forgets what depends on the configuration.
    pub(crate) fn clear(&self) {
        *self.reversed.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
        let source = &self.library.source;
        let (domain, what) = match Form::of(name, self.config, |name| source.has_datacenter(name)) {
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
            let source = &self.library.source;
            match Form::of(&name, self.config, |name| source.has_datacenter(name)) {
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
                Err(Miss::Failed(Failure::NoSuchDatacenter(_))) => return Ok(Vec::new()),
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
        let last = || {
            let reversed = self.library.reversed.lock();
            reversed.unwrap_or_else(PoisonError::into_inner).clone()
        };
        if let (Some(snapshot), Some(last)) = (self.snapshot, last()) {
            let index = snapshot.state.index_of(&Query::NodeInfos).unwrap_or(Index::ZERO);
            let worn = last.made.elapsed() > last.took * DUTY;
            if last.version == (snapshot.generation, index) || !worn {
                self.witnesses.generation = last.version.0;
                self.witnesses.local.push((Query::NodeInfos, last.version.1));
                return Ok(last);
            }
        }
        let began = Instant::now();
        let found = self.find(None, Query::NodeInfos).await?;
        let Found::NodeInfos(nodes) = &*found else {
            return Err(confused());
        };
        let names = Reversed::new(self.config, nodes);
        let (generation, index) = match self.witnesses.local.last() {
            Some((_, index)) => (self.witnesses.generation, *index),
            None => (0, Index::ZERO),
        };
        let reverse = Arc::new(Reverse {
            names,
            version: (generation, index),
            made: Instant::now(),
            took: began.elapsed(),
        });
        if self.snapshot.is_some() {
            let mut reversed = self
                .library
                .reversed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *reversed = Some(Arc::clone(&reverse));
        }
        Ok(reverse)
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
