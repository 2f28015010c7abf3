//! The API as one handler.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_lock::Mutex as AsyncMutex;
use bytes::Bytes;
use lictor_machine::Rng;
use trillium::{Conn, Handler, KnownHeaderName, Method, Status, Upgrade};
use uuid::{Builder, Uuid};

use crate::backend::{Backend, Failure};
use crate::load::{Held, Load};
use crate::log_lines::LogLines;
use crate::metrics::{MetricNames, Timers};
use crate::params::{self, Params, Waits};
use crate::renderings::Renderings;
use crate::reply::{Content, Fault, Reply};
use crate::request::{Request, empty, has_large_body};
use crate::route::{Endpoint, ROUTES, Route, Routed, route};
use crate::server::Limits;
use crate::this_agent::ThisAgent;
use crate::{
    acl, agent, catalog, connect, coordinate, discovery, event, host, kv, local, metrics, monitor, once,
    operator, prepared, session, snapshot, status, txn,
};

/// What can be set about the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Indent every answer, as agents in development mode do.
    pub always_pretty: bool,
    /// Let paths have characters that cannot be printed (`disable_http_unprintable_char_filter`).
    pub allow_unprintable: bool,
    /// How many bytes the value of a key may have (`limits.kv_max_value_size`).
    pub kv_max_value_size: usize,
    /// The shortest TTL that a session may have (`session_ttl_min`).
    pub session_ttl_min: Duration,
    /// How many bytes the request of a transaction may have (`limits.txn_max_req_len`). If `kv_max_value_size` is larger,
    /// that counts.
    pub txn_max_req_len: usize,
    /// How long a blocking query waits when it does not say (`default_query_time`).
    pub default_query_time: Duration,
    /// How long a blocking query waits at most (`max_query_time`). A sixteenth more is added to what it asks for, at most.
    pub max_query_time: Duration,
    /// Names and values of headers that every answer gets which does not set them itself
    /// (`http_config.response_headers`). They must be valid.
    pub response_headers: Vec<(String, String)>,
    /// Whether there are network coordinates (`disable_coordinates`).
    pub coordinates: bool,
    /// How long a request's body may take to come in.
    pub body_timeout: Duration,
    /// Whether metrics are told to Prometheus (a `telemetry.prometheus_retention_time` above 0).
    pub prometheus: bool,
    /// What metrics are called.
    pub metric_names: MetricNames,
    /// What is too much at once. Those of connections are the server's.
    pub limits: Limits,
    /// Where the randomness of blocking queries' waits and of events' names comes from.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            always_pretty: false,
            allow_unprintable: false,
            kv_max_value_size: 512 << 10,
            session_ttl_min: Duration::from_secs(10),
            txn_max_req_len: 512 << 10,
            default_query_time: Duration::from_mins(5),
            max_query_time: Duration::from_mins(10),
            response_headers: Vec::new(),
            coordinates: true,
            body_timeout: Duration::from_mins(1),
            prometheus: false,
            metric_names: MetricNames::default(),
            limits: Limits::default(),
            seed: 0,
        }
    }
}

/// The v1 HTTP API: a [`Handler`] that answers every request.
pub struct Api {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) agent: Arc<dyn ThisAgent>,
    pub(crate) config: Config,
    pub(crate) renderings: Renderings,
    /// Held while a sidecar gets its port.
    pub(crate) sidecars: AsyncMutex<()>,
    pub(crate) load: Arc<Load>,
    timers: Timers,
    identity: OnceLock<Identity>,
    rng: Mutex<Rng>,
}

/// What an agent is called; that never changes.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) datacenter: String,
    pub(crate) node_name: String,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// An API that speaks for a cluster and one agent of it.
    pub fn new(backend: Arc<dyn Backend>, agent: Arc<dyn ThisAgent>, config: Config) -> Self {
        let rng = Mutex::new(Rng::new(config.seed));
        let metrics = agent.metrics();
        let load = Load::new(&config.limits, metrics);
        let timers = Timers::new(metrics.clone(), ROUTES.len());
        Self {
            backend,
            agent,
            config,
            renderings: Renderings::new(Arc::clone(&load)),
            sidecars: AsyncMutex::new(()),
            load,
            timers,
            identity: OnceLock::new(),
            rng,
        }
    }

    /// What the agent is called.
    pub(crate) fn identity(&self) -> Result<&Identity, Failure> {
        if let Some(known) = self.identity.get() {
            return Ok(known);
        }
        let about = self.agent.about()?;
        Ok(self.identity.get_or_init(|| Identity {
            datacenter: about.datacenter,
            node_name: about.node_name,
        }))
    }

    pub(crate) fn waits(&self) -> Waits {
        Waits {
            default: self.config.default_query_time,
            max: self.config.max_query_time,
        }
    }

    pub(crate) fn jitter(&self, wait: Duration) -> Duration {
        params::jitter(&mut self.rng(), wait)
    }

    /// A name for something new.
    pub(crate) fn uuid(&self) -> Uuid {
        let mut rng = self.rng();
        let (high, low) = (rng.next_u64(), rng.next_u64());
        let random = u128::from(high) << 64 | u128::from(low);
        Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
    }

    /// A number that decides about something.
    pub(crate) fn draw(&self) -> u64 {
        self.rng().next_u64()
    }

    fn rng(&self) -> MutexGuard<'_, Rng> {
        // The generator is sound after any of its steps, so a poisoned lock means nothing.
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in, if there is room for it.
    fn admit(&self, route: &Route, method: Method) -> Result<Option<Held>, Failure> {
        // Whoever wants to see what is going on is let in whatever is going on.
        if route.endpoint == Endpoint::Metrics {
            return Ok(None);
        }
        // Clients that do not take their answers must not keep others from writing.
        if method == Method::Get {
            self.load.room_for_answer()?;
        }
        self.load.request().map(Some)
    }

    async fn answer(&self, conn: &mut Conn, route: &'static Route, rest: Bytes, query: &str) -> Reply {
        let Some(params) = Params::parse(query) else {
            return empty(Status::InternalServerError);
        };
        let method = conn.method();
        if method == Method::Options {
            return Reply {
                allow: Some(route.allow),
                ..empty(Status::Ok)
            };
        }
        if !route.methods.contains(&method) {
            let text = Content::Text(format!("method {method} not allowed").into());
            let close = has_large_body(conn.request_headers());
            return Reply {
                allow: Some(route.allow_of_others()),
                close,
                ..Reply::new(Status::MethodNotAllowed, text)
            };
        }
        let admitted = once::check(conn.request_headers(), route.endpoint, method)
            .and_then(|()| self.admit(route, method).map_err(Fault::from));
        let place = match admitted {
            Ok(place) => place,
            Err(fault) => {
                let close = has_large_body(conn.request_headers());
                return Reply {
                    close,
                    ..fault.into()
                };
            }
        };
        let mut request = Request {
            api: self,
            conn,
            rest,
            params,
            body_read: false,
            place,
            body_room: None,
        };
        let answer = match route.endpoint {
            Endpoint::Kv => kv::handle(&mut request).await,
            Endpoint::Txn => txn::handle(&mut request).await,
            Endpoint::Leader => status::leader(&request).await,
            Endpoint::Peers => status::peers(&request).await,
            Endpoint::About => agent::about(&request),
            Endpoint::Members => agent::members(&request).await,
            Endpoint::Metrics => metrics::metrics(&request),
            Endpoint::Monitor => monitor::monitor(&request),
            Endpoint::Host => host::host(&request).await,
            Endpoint::Join => agent::join(&request).await,
            Endpoint::Leave => agent::leave(&request).await,
            Endpoint::ForceLeave => agent::force_leave(&request).await,
            Endpoint::SessionCreate => session::create(&mut request).await,
            Endpoint::SessionDestroy => session::destroy(&mut request).await,
            Endpoint::SessionRenew => session::renew(&mut request).await,
            Endpoint::SessionInfo => session::info(&mut request).await,
            Endpoint::SessionNode => session::node(&mut request).await,
            Endpoint::SessionList => session::list(&mut request).await,
            Endpoint::Queries => prepared::general(&mut request).await,
            Endpoint::Query => prepared::specific(&mut request).await,
            Endpoint::QueryExecute => prepared::execute(&mut request).await,
            Endpoint::QueryExplain => prepared::explain(&mut request).await,
            Endpoint::EventFire => event::fire(&mut request).await,
            Endpoint::EventList => event::list(&mut request).await,
            Endpoint::Snapshot => snapshot::snapshot(&mut request).await,
            Endpoint::CoordinateDatacenters => coordinate::datacenters(&request).await,
            Endpoint::CoordinateNodes => coordinate::nodes(&mut request).await,
            Endpoint::CoordinateNode => coordinate::node(&mut request).await,
            Endpoint::CoordinateUpdate => coordinate::update(&mut request).await,
            Endpoint::RaftConfiguration => operator::raft_configuration(&request).await,
            Endpoint::RaftPeer => operator::raft_peer(&request).await,
            Endpoint::AutopilotConfiguration => operator::autopilot_configuration(&mut request).await,
            Endpoint::AutopilotHealth => operator::autopilot_health(&request).await,
            Endpoint::Datacenters => catalog::datacenters(&request).await,
            Endpoint::CatalogRegister => discovery::register(&mut request).await,
            Endpoint::CatalogDeregister => discovery::deregister(&mut request).await,
            Endpoint::CatalogNodes => discovery::nodes(&mut request).await,
            Endpoint::CatalogServices => discovery::services(&mut request).await,
            Endpoint::CatalogService => discovery::service(&mut request).await,
            Endpoint::CatalogConnect => discovery::connect(&mut request).await,
            Endpoint::CatalogNode => discovery::node(&mut request).await,
            Endpoint::CatalogNodeServices => discovery::node_services(&mut request).await,
            Endpoint::CatalogGatewayServices => discovery::gateway_services(&mut request).await,
            Endpoint::HealthNode => discovery::health_node(&mut request).await,
            Endpoint::HealthChecks => discovery::checks(&mut request).await,
            Endpoint::HealthState => discovery::state(&mut request).await,
            Endpoint::HealthService => discovery::health_service(&mut request).await,
            Endpoint::HealthConnect => discovery::health_connect(&mut request).await,
            Endpoint::HealthIngress => discovery::ingress(&mut request).await,
            Endpoint::UiNodes => discovery::ui::nodes(&mut request).await,
            Endpoint::UiNode => discovery::ui::node(&mut request).await,
            Endpoint::UiServices => discovery::ui::services(&mut request).await,
            Endpoint::UiGatewayServices => discovery::ui::gateway_services(&mut request).await,
            Endpoint::LocalServices => local::services(&request).await,
            Endpoint::LocalChecks => local::checks(&request).await,
            Endpoint::LocalService => local::service(&mut request).await,
            Endpoint::RegisterService => local::register_service(&mut request).await,
            Endpoint::DeregisterService => local::deregister_service(&request).await,
            Endpoint::ServiceMaintenance => local::service_maintenance(&request).await,
            Endpoint::RegisterCheck => local::register_check(&mut request).await,
            Endpoint::DeregisterCheck => local::deregister_check(&request).await,
            Endpoint::PassCheck => local::pass(&request).await,
            Endpoint::WarnCheck => local::warn(&request).await,
            Endpoint::FailCheck => local::fail(&request).await,
            Endpoint::UpdateCheck => local::update(&mut request).await,
            Endpoint::LocalHealthById => local::health_by_id(&request).await,
            Endpoint::LocalHealthByName => local::health_by_name(&request).await,
            Endpoint::Maintenance => local::maintenance(&request).await,
            Endpoint::Reload => local::reload(&request).await,
            Endpoint::AgentCertificates => connect::agent_certificates(&request),
            Endpoint::Authorize => connect::authorize(&mut request).await,
            Endpoint::Certificates => connect::certificates(&request),
            Endpoint::Authority => connect::authority(&mut request).await,
            Endpoint::Intentions => connect::intentions(&mut request).await,
            Endpoint::IntentionMatch => connect::intention_match(&request),
            Endpoint::IntentionCheck => connect::intention_check(&request),
            Endpoint::Intention => connect::intention(&mut request).await,
            Endpoint::SetConfig => connect::set_config(&mut request).await,
            Endpoint::Config => connect::config(&mut request).await,
            Endpoint::DiscoveryChain => connect::discovery_chain(&mut request).await,
            Endpoint::Acl => Err(acl::disabled()),
        };
        let body_read = request.body_read;
        let mut reply: Reply = answer.unwrap_or_else(Fault::into);
        reply.close |= !body_read && has_large_body(conn.request_headers());
        reply
    }

    async fn handle(&self, mut conn: Conn) -> Conn {
        // The endpoint needs the connection and its path at the same time, hence the copies.
        let query = conn.querystring().to_owned();
        let (route, rest) = match route(conn.path(), self.config.allow_unprintable) {
            Routed::Endpoint(route, rest) => (route, Bytes::from(rest.into_owned())),
            Routed::Moved(path) => {
                let location = if query.is_empty() {
                    path
                } else {
                    format!("{path}?{query}")
                };
                return keep_or_close(moved(conn, location));
            }
            Routed::Root => return keep_or_close(plain(conn, Status::Ok, "Consul Agent")),
            Routed::Unknown => return keep_or_close(conn.with_status(Status::NotFound)),
            Routed::Unprintable => return keep_or_close(conn.with_status(Status::BadRequest)),
            Routed::Malformed => {
                let conn = plain(conn, Status::BadRequest, "400 Bad Request");
                return conn.with_response_header(KnownHeaderName::Connection, "close");
            }
        };
        let (method, start) = (conn.method(), Instant::now());
        let reply = self.answer(&mut conn, route, rest, &query).await;
        let mut conn = reply.send(conn, &self.load).await;
        self.timers.record(route, method, start);
        // Without the query, in which secrets may be.
        tracing::debug!(
            method = method.as_str(),
            path = conn.path(),
            status = conn.status().map(|status| status as u16),
            from = conn.peer_ip().map(tracing::field::display),
            latency = ?start.elapsed(),
            "request answered"
        );
        for (name, value) in &self.config.response_headers {
            conn.response_headers_mut()
                .try_insert(name.clone(), value.clone());
        }
        conn
    }
}

impl Handler for Api {
    async fn run(&self, conn: Conn) -> Conn {
        let keyed = conn.request_headers().has_header(once::HEADER);
        let mut conn = self.handle(conn).await;
        // Whatever the answer is: clients that do not see this take it that keys are not known.
        if keyed {
            conn.response_headers_mut().insert(once::HEADER, once::UNDERSTOOD);
        }
        conn
    }

    fn has_upgrade(&self, upgrade: &Upgrade) -> bool {
        upgrade.state().contains::<LogLines>()
    }

    async fn upgrade(&self, mut upgrade: Upgrade) {
        if let Some(lines) = upgrade.state_mut().take::<LogLines>() {
            monitor::send(lines, upgrade).await;
        }
    }
}

/// Ends the connection if it would take long to get to its next request.
fn keep_or_close(conn: Conn) -> Conn {
    if has_large_body(conn.request_headers()) {
        return conn.with_response_header(KnownHeaderName::Connection, "close");
    }
    conn
}

fn plain(conn: Conn, status: Status, text: &'static str) -> Conn {
    conn.with_status(status)
        .with_response_header(KnownHeaderName::ContentType, "text/plain; charset=utf-8")
        .with_body(text)
}

/// Points to `location`, with a page that says so for whoever asked for one.
fn moved(conn: Conn, location: String) -> Conn {
    let page = (conn.method() == Method::Get).then(|| {
        let mut page = String::from("<a href=\"");
        for c in location.chars() {
            match c {
                '&' => page.push_str("&amp;"),
                '<' => page.push_str("&lt;"),
                '>' => page.push_str("&gt;"),
                '"' => page.push_str("&#34;"),
                '\'' => page.push_str("&#39;"),
                c => page.push(c),
            }
        }
        page.push_str("\">Moved Permanently</a>.\n\n");
        page
    });
    let conn = conn
        .with_status(Status::MovedPermanently)
        .with_response_header(KnownHeaderName::Location, location);
    match page {
        Some(page) => conn
            .with_response_header(KnownHeaderName::ContentType, "text/html; charset=utf-8")
            .with_body(page),
        None => conn,
    }
}
