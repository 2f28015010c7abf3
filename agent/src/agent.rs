//! One agent, from its configuration to its end.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event as Signal;
use futures_lite::FutureExt as _;
use lictor_gossip::{MemberEvent, UserEvent};
use lictor_http::{Api, Backend, Listener, LogReaders, Server, ThisAgent};
use lictor_machine::{Machine as _, NodeId};
use lictor_metrics::Registry;
use lictor_node::agent::{Agent, Pool, ServerFacts};
use lictor_node::{Node, Standing};
use lictor_raft::{Configuration, Role, Term};
use lictor_runtime::{Clock as _, Ended, Limits, Runtime, SystemClock, Task, channel, drive};
use lictor_transport_quic::{self as quic, Identity, Plane, Transport};

use crate::backend::ServerBackend;
use crate::boot::{self, StartError};
use crate::client::ClientBackend;
use crate::config::{Config, Reloader, RuntimeKind};
use crate::coordinates::CoordinateUpdates;
use crate::ending::{Ending, Gone, Way};
use crate::gossip::{GossipOutlet, News};
use crate::handle::{Handle, Posted};
use crate::home::Home;
use crate::local::{Heard, Local};
use crate::memory::{self, Keeper};
use crate::metrics::{self, Autopilot, CallCounts, DiskTimes, MemberCounts, RequestCounts, RoleCounts};
use crate::network::{self, Network};
use crate::outlet::{AgentOutlet, ServerOutlet};
use crate::pools::Pools;
use crate::reload::Reload;
use crate::remote_exec::{self, Desk, Order};
use crate::routes::Routes;
use crate::rpc::caller::Caller;
use crate::rpc::service::Service;
use crate::running::{self, LocalOutlet, Running, Shelf};
use crate::signals;
use crate::storage::Storage;
use crate::view::View;
use crate::watches::Watches;
use crate::{banner, community, dns, joining, recovery, server, settings};

/// How many inputs may wait for the loop before senders wait.
const INBOX: usize = 8192;

/// How often coordinates that clients of the API say are written.
const COORDINATE_PERIOD: Duration = Duration::from_secs(5);

/// How long an event waits for the disk that is to remember it.
const EVENT_LIMIT: Duration = Duration::from_secs(5);

/// How long the end of an agent waits until what was registered is on the disk.
const SAVE_LIMIT: Duration = Duration::from_secs(20);

/// Runs one agent until it is told to stop, and says how that went: success after an orderly end.
///
/// `reloader` reads the configuration again when that is asked for. Whatever prevents a start, or ends the agent, is said on standard error.
pub fn run(config: Config, reloader: Reloader) -> ExitCode {
    let log = crate::logging::start(config.log);
    crate::open_files::allow_all();
    let runtime = match config.runtime {
        RuntimeKind::Smol => lictor_runtime_smol::runtime(),
        RuntimeKind::AsyncStd => lictor_runtime_async_std::runtime(),
    };
    match runtime.clone().block_on(serve(config, reloader, runtime, log)) {
        Ok(code) => code,
        Err(error) => {
            // Nothing better can be done if even this cannot be said.
            let _ = writeln!(io::stderr(), "==> {error}");
            ExitCode::FAILURE
        }
    }
}

/// The server's part of an agent that starts.
struct ServerParts {
    node: Node,
    view: Arc<View>,
    storage: Storage,
}

async fn serve(
    config: Config,
    reloader: Reloader,
    runtime: Runtime,
    log: Arc<LogReaders>,
) -> Result<ExitCode, StartError> {
    let data_dir = boot::data_dir(&config)?;
    let trust = boot::trust(&config, data_dir)?;
    let mut opened = config.server.then(|| boot::open_stores(data_dir)).transpose()?;
    let owner = opened.as_ref().and_then(|opened| opened.boot.notes.node);
    let id = boot::node_id(&config, data_dir, owner)?;
    if let (Some(opened), Some(data_dir)) = (&mut opened, data_dir) {
        recovery::apply(data_dir, id, opened)?;
    }
    let (inbox, completions, mut inputs) = channel::<Posted>(INBOX);
    let handle = Handle::new(inbox, completions);
    // Another agent that uses the directory is found before anything is said of a start.
    let (memory_of_local, shelf, saving) = Shelf::open(data_dir, handle.clone())?;
    let home = (!config.server).then(|| Home::load(data_dir)).transpose()?;
    let identity = Identity {
        node: id,
        name: config.node_name.clone(),
        datacenter: config.datacenter.clone(),
        role: if config.server {
            quic::Role::Server
        } else {
            quic::Role::Client
        },
    };
    let (transport, incoming) = Transport::bind(quic::Options {
        address: config.bind,
        identity,
        trust,
        runtime: runtime.clone(),
        limits: quic::Limits::default(),
    })?;
    let mut listeners = listen(&config.http.listen)?;
    let http_at: Vec<SocketAddr> = listeners.iter().filter_map(Listener::address).collect();
    let (inside, door) = Listener::door();
    listeners.push(inside);
    let watches = Arc::new(Watches::new(runtime.clone(), door));
    let dns_listeners = dns::listen(&config.dns)?;
    let dns_at: Vec<SocketAddr> = dns_listeners.iter().map(lictor_dns::Listener::address).collect();
    banner::starting(&config, id, &http_at, &dns_at)?;

    let metrics = Registry::new();
    let parts = match opened {
        Some(opened) => Some(start_server(&config, id, opened, &handle, &metrics)?),
        None => None,
    };
    let (node, server) = match parts {
        Some(ServerParts { node, view, storage }) => (Some(node), Some((view, storage))),
        None => (None, None),
    };
    let pool_settings = community::settings(&config, id)?;
    let residents = lictor_local::Local::start(
        running::settings(&config, id)?,
        memory_of_local,
        config.definitions.clone(),
        SystemClock.now(),
    )?;
    let machine = Agent::start(pool_settings, node, memory::load(data_dir), SystemClock.now())?;
    let mut machine = machine.with_local(residents);
    let saving = runtime.spawn(saving);
    let running = Arc::new(Running::default());
    let reload = Arc::new(Reload::new(reloader, handle.clone(), Arc::clone(&watches)));

    let pools = Arc::new(Pools::default());
    let home = home.map(Arc::new);
    let routes = Arc::new(Routes::new(
        config.datacenter.clone(),
        home.clone(),
        boot::seed()?,
    ));
    let (keeper, keeping) = Keeper::new(data_dir);
    let (members_sender, members_heard) = async_channel::unbounded();
    let (events_sender, events_heard) = async_channel::unbounded();
    let gone = Arc::new(Signal::new());
    let (asked_sender, asked) = async_channel::bounded(4);
    let (left_sender, left) = async_channel::bounded(1);
    let local = Arc::new(Local {
        id,
        node_name: config.node_name.clone(),
        datacenter: config.datacenter.clone(),
        server: config.server,
        port: config.bind.port(),
        node_meta: config.node_meta.clone(),
        settings: settings::shown(&config, &http_at, &dns_at),
        handle: handle.clone(),
        pools: Arc::clone(&pools),
        events: lictor_http::EventLog::new(),
        running: Arc::clone(&running),
        reload: Arc::clone(&reload),
        scripts_from_api: config.checks.scripts_from_api,
        vitals: crate::vitals::Watch::new(&metrics),
        metrics: metrics.clone(),
        log,
        end: asked_sender.clone(),
        left,
    });
    metrics::show(&local);
    let gossip = GossipOutlet::new(
        transport.clone(),
        runtime.clone(),
        handle.clone(),
        Arc::clone(&pools),
        keeper.clone(),
        News {
            members: members_sender,
            events: events_sender,
        },
    );
    let caller = |plane| {
        Caller::new(
            transport.clone(),
            Arc::clone(&routes),
            plane,
            settings::patience(&config),
            runtime.clone(),
            CallCounts::new(&metrics),
        )
    };
    let (commands, orders) = Desk::open(config.remote_exec);
    let mut tasks: Vec<Task<()>> = vec![
        runtime.spawn(keeping),
        runtime.spawn(listen_to_members(
            members_heard,
            home,
            Arc::clone(&routes),
            MemberCounts::new(&metrics),
        )),
        runtime.spawn(listen_to_events(
            events_heard,
            Arc::clone(&local),
            keeper.clone(),
            commands,
        )),
    ];
    let mut server_outlet = None;
    let mut shown = None;
    let (backend, service): (Arc<dyn Backend>, Option<Service>) = if let Some((view, storage)) = server {
        shown = Some(Arc::clone(&view));
        let space = storage.space().clone();
        let network = Network::new(transport.clone(), runtime.clone(), handle.clone());
        server_outlet = Some(ServerOutlet::new(
            storage,
            network,
            Arc::clone(&view),
            RoleCounts::new(&metrics),
        ));
        tasks.push(runtime.spawn(Arc::clone(&view).wake_watchers()));
        let coordinates = Arc::new(CoordinateUpdates::default());
        tasks.push(runtime.spawn(Arc::clone(&coordinates).keep_writing(handle.clone(), COORDINATE_PERIOD)));
        let autopilot = Arc::new(Autopilot::default());
        metrics::show_server(&metrics, &view, &autopilot);
        let server = server::Server {
            view,
            handle: handle.clone(),
            space,
            archives: Arc::new(settings::archives(&config, id)),
            counts: Arc::new(RequestCounts::new(&metrics)),
        };
        let watched = server.clone();
        tasks.push(runtime.spawn(async move { autopilot.keep_looking(&watched).await }));
        let backend: Arc<dyn Backend> = Arc::new(ServerBackend {
            server,
            local: Arc::clone(&local),
            others: caller(Plane::Wan),
            coordinates,
        });
        let service = Service::new(
            Arc::clone(&backend),
            caller(Plane::Wan),
            config.datacenter.to_lowercase(),
            id,
            runtime.clone(),
        );
        (backend, Some(service))
    } else {
        let backend = ClientBackend {
            servers: caller(Plane::Rpc),
        };
        (Arc::new(backend), None)
    };
    if let Some(orders) = orders {
        let node = config.node_name.clone();
        tasks.push(runtime.spawn(remote_exec::carry_out(orders, node, Arc::clone(&backend))));
    }
    let mut outlet = AgentOutlet {
        server: server_outlet,
        gossip,
        running: LocalOutlet::new(
            running,
            shelf,
            Arc::clone(&backend),
            runtime.clone(),
            handle.clone(),
        ),
        local: Arc::clone(&local),
        gone: Arc::clone(&gone),
    };
    let members = {
        let pools = Arc::clone(&pools);
        move || pools.count(Pool::Lan, lictor_gossip::MemberState::is_well)
    };
    tasks.push(runtime.spawn(Arc::clone(&routes).keep_balanced(members)));
    tasks.push(runtime.spawn(network::receive(incoming, handle.clone(), service)));
    let driving = runtime.spawn(async move {
        let ended = drive(
            &mut machine,
            &mut inputs,
            &SystemClock,
            &mut outlet,
            Limits::default(),
        )
        .await;
        let ended = ended.map_err(ToString::to_string);
        debug_assert!(ended.is_ok() || machine.fault().is_some());
        if let Some(server) = &mut outlet.server {
            server.storage.close();
        }
        ended
    });
    let this: Arc<dyn ThisAgent> = Arc::clone(&local) as _;
    let api = Api::new(Arc::clone(&backend), this, settings::api(&config)?);
    let http = Server::start(&runtime, listeners, settings::http_limits(&config), &metrics, api).await;
    let dns = dns::start(
        &runtime,
        dns_listeners,
        &config,
        Arc::clone(&backend),
        shown,
        Arc::clone(&local),
    )?;
    signals::listen(asked_sender)?;
    let joining = join(&config, &local).await?;
    let looking = runtime.spawn(joining);
    watches.start(config.watches.clone());
    banner::running()?;

    let mut driving = std::pin::pin!(driving);
    let mut looking = std::pin::pin!(looking);
    let ending = Ending {
        runtime: runtime.clone(),
        reload,
        asked,
        handle: handle.clone(),
        gone,
        leave: config.leave,
    };
    let why = async { End::Wanted(ending.wanted().await) }
        .or(async { End::Loop((&mut driving).await) })
        .or(async { End::Alone((&mut looking).await) })
        .await;
    watches.stop().await;
    let (code, ended) = match why {
        End::Wanted(way) => {
            let gone = ending.go(way).await;
            left_sender.close();
            // An end that the others were not told of is no success, so that supervisors and people can tell.
            let code = match (way, gone) {
                (Way::Leave, Gone::InGoodOrder) => ExitCode::SUCCESS,
                (Way::Leave | Way::Stop, _) => ExitCode::FAILURE,
            };
            let grace = match gone {
                Gone::InGoodOrder | Gone::TooLate => config.leave.drain,
                Gone::AtOnce => Duration::ZERO,
            };
            http.shut_down(grace).await;
            (code, None)
        }
        End::Alone(result) => {
            if let Err(reason) = result {
                writeln!(io::stderr(), "==> {}", StartError::Join(reason))?;
            }
            ending.go(Way::Stop).await;
            http.shut_down(config.leave.drain).await;
            (ExitCode::FAILURE, None)
        }
        End::Loop(ended) => {
            http.shut_down(Duration::ZERO).await;
            (ExitCode::FAILURE, Some(ended))
        }
    };
    dns.shut_down().await;
    let outcome = if let Some(ended) = ended {
        ended
    } else {
        handle.stop();
        driving.await
    };
    // A disk that does not answer must not keep the agent from ending.
    let saved = async {
        saving.await;
        true
    };
    let given_up = async {
        async_io::Timer::after(SAVE_LIMIT).await;
        false
    };
    if !saved.or(given_up).await {
        tracing::error!("the disk does not finish what it was given; what was registered last may be lost");
    }
    keeper.flush(data_dir);
    for task in tasks {
        task.cancel().await;
    }
    transport.close().await;
    match outcome {
        Ok(Ended::Stopped | Ended::Closed) => Ok(code),
        Err(fault) => Err(StartError::Io(io::Error::other(format!(
            "this agent stops: {fault}"
        )))),
    }
}

/// Why an agent ends.
enum End {
    /// Somebody wants it to.
    Wanted(Way),
    /// Its loop ended by itself.
    Loop(Result<Ended, String>),
    /// It gave up looking for others.
    Alone(Result<(), String>),
}

fn start_server(
    config: &Config,
    id: NodeId,
    opened: boot::Opened,
    handle: &Handle,
    metrics: &Registry,
) -> Result<ServerParts, StartError> {
    let node = Node::start(
        settings::node(config, id)?,
        opened.boot,
        opened.stored,
        SystemClock.now(),
    )?;
    let view = Arc::new(View::new(node.state().clone(), nobody()));
    view.set_address(id, config.advertise);
    let storage = Storage::start(opened.log, opened.state, handle, DiskTimes::new(metrics))?;
    Ok(ServerParts { node, view, storage })
}

/// Joins whom the agent must find before it goes on, and makes what looks for the others.
async fn join(
    config: &Config,
    local: &Arc<Local>,
) -> Result<impl Future<Output = Result<(), String>> + Send + 'static, StartError> {
    let wan = config.wan.as_ref().map(|wan| wan.join.clone());
    let both = [(Pool::Lan, Some(config.join.clone())), (Pool::Wan, wan)];
    let mut looking = Vec::new();
    for (pool, join) in both {
        let Some(join) = join else { continue };
        if !join.at_start.is_empty() {
            joining::attempt(pool, &join.at_start, &local.handle)
                .await
                .map_err(|reasons| StartError::Join(reasons.join("; ")))?;
        }
        looking.push(joining::look(
            pool,
            join,
            local.handle.clone(),
            Arc::clone(&local.pools),
        ));
    }
    Ok(async move { futures::future::try_join_all(looking).await.map(drop) })
}

/// Passes on who comes and goes in the pools.
async fn listen_to_members(
    heard: async_channel::Receiver<(Pool, MemberEvent)>,
    home: Option<Arc<Home>>,
    routes: Arc<Routes>,
    counts: MemberCounts,
) {
    while let Ok((pool, event)) = heard.recv().await {
        counts.observe(pool, &event);
        if let (Pool::Lan, Some(home)) = (pool, &home)
            && let Some(server) = ServerFacts::from_member(event.member())
            && server.datacenter == routes.datacenter()
            && home.meet(&server)
        {
            let home = Arc::clone(home);
            blocking::unblock(move || home.keep()).await;
        }
        routes.observe(pool, &event);
    }
}

/// Passes on what is said to everybody. What was passed on is not passed on again after a crash, so `keeper` has to have written that first.
async fn listen_to_events(
    heard: async_channel::Receiver<UserEvent>,
    local: Arc<Local>,
    keeper: Keeper,
    commands: Desk,
) {
    while let Ok(event) = heard.recv().await {
        // All that wait share one look at the disk.
        let mut events = vec![event];
        while let Ok(event) = heard.try_recv() {
            events.push(event);
        }
        let late = async {
            async_io::Timer::after(EVENT_LIMIT).await;
            tracing::warn!(
                "the disk does not answer; should this agent crash now, events may be handed out again"
            );
        };
        keeper.settled().or(late).await;
        for event in events {
            match local.receive(&event) {
                Ok(Heard::Event(name)) => tracing::info!(name, time = %event.time, "new event"),
                Ok(Heard::Command(told)) => commands.take(Order {
                    origin: event.origin,
                    event: told,
                }),
                Ok(Heard::ForOthers) => {}
                Err(error) => tracing::warn!(from = %event.origin, %error, "an event cannot be read"),
            }
        }
    }
}

fn listen(addresses: &[SocketAddr]) -> io::Result<Vec<Listener>> {
    addresses.iter().map(|address| Listener::tcp(*address)).collect()
}

/// What readers see before the node has said anything.
fn nobody() -> Standing {
    Standing {
        role: Role::Follower,
        term: Term::ZERO,
        leader: None,
        lease_until: None,
        leader_contact: None,
        members: Configuration::default(),
    }
}
