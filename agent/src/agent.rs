//! One agent, from its configuration to its end.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event as Signal;
use futures_lite::FutureExt as _;
use lictor_http::{Api, Listener, Server};
use lictor_machine::{Machine as _, NodeId};
use lictor_node::{Input, Node, Standing};
use lictor_raft::{Configuration, Role, Term};
use lictor_runtime::{Clock as _, Ended, Limits, Runtime, SystemClock, channel, drive};
use lictor_transport_quic::{self as quic, Identity, Transport};

use crate::backend::ServerBackend;
use crate::boot::{self, StartError};
use crate::config::{Bootstrap, Config, JoinAddress, JoinHost, RuntimeKind};
use crate::handle::{Handle, Posted};
use crate::network::{self, Network};
use crate::outlet::NodeOutlet;
use crate::signals::{self, Asked};
use crate::storage::Storage;
use crate::view::View;

/// How many inputs may wait for the node's loop before senders wait.
const INBOX: usize = 8192;

/// How long requests may go on after the agent was told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Runs one agent until it is told to stop, and says how that went: success after an orderly stop.
///
/// Whatever prevents a start, or ends the agent, is said on standard error.
pub fn run(config: Config) -> ExitCode {
    crate::logging::start(config.log);
    let runtime = match config.runtime {
        RuntimeKind::Smol => lictor_runtime_smol::runtime(),
        RuntimeKind::AsyncStd => lictor_runtime_async_std::runtime(),
    };
    match runtime.clone().block_on(serve(config, runtime)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing better can be done if even this cannot be said.
            let _ = writeln!(io::stderr(), "==> {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config, runtime: Runtime) -> Result<(), StartError> {
    if !config.server {
        return Err(StartError::Unsupported(
            "this version runs servers only: agents in client mode come with the gossip pool. Start it with -server, or with -dev",
        ));
    }
    let data_dir = boot::data_dir(&config)?;
    let id = boot::node_id(&config, data_dir)?;
    let trust = boot::trust(&config, data_dir)?;
    let opened = boot::open_stores(data_dir)?;
    let identity = Identity {
        node: id,
        name: config.node_name.clone(),
        datacenter: config.datacenter.clone(),
        role: quic::Role::Server,
    };
    let (transport, incoming) = Transport::bind(quic::Options {
        address: config.bind,
        identity,
        trust,
        runtime: runtime.clone(),
        limits: quic::Limits::default(),
    })?;
    let listeners = listen(&config.http.listen)?;
    banner(&config, id, &listeners)?;

    let (inbox, completions, mut inputs) = channel::<Posted>(INBOX);
    let handle = Handle::new(inbox, completions);
    let mut node = Node::start(
        node_config(&config, id)?,
        opened.boot,
        opened.stored,
        SystemClock.now(),
    )?;
    let view = Arc::new(View::new(node.state().clone(), nobody()));
    view.set_address(id, config.advertise);
    let storage = Storage::start(opened.log, opened.state, &handle)?;
    let space = storage.space().clone();
    let left = Arc::new(Signal::new());
    let network = Network::new(transport.clone(), runtime.clone(), handle.clone());
    let mut outlet = NodeOutlet::new(storage, network, Arc::clone(&view), Arc::clone(&left));

    let receiving = runtime.spawn(network::receive(incoming, handle.clone()));
    let waking = runtime.spawn(Arc::clone(&view).wake_watchers());
    let joining = runtime.spawn(find_contacts(
        config.join.addresses.clone(),
        config.join.interval,
        handle.clone(),
    ));
    let driving = runtime.spawn(async move {
        let ended = drive(
            &mut node,
            &mut inputs,
            &SystemClock,
            &mut outlet,
            Limits::default(),
        )
        .await;
        let ended = ended.map_err(ToString::to_string);
        debug_assert!(ended.is_ok() || node.fault().is_some());
        outlet.storage.close();
        ended
    });
    let backend = Arc::new(ServerBackend {
        view: Arc::clone(&view),
        handle: handle.clone(),
        datacenter: config.datacenter.clone(),
        space,
        events: Arc::default(),
    });
    let api = Api::new(backend, api_config(&config)?);
    let http = Server::start(&runtime, listeners, http_limits(&config), api).await;
    say("\n==> Lictor agent running!\n")?;

    let (asked_sender, asked) = async_channel::bounded(4);
    signals::listen(asked_sender)?;
    let mut driving = std::pin::pin!(driving);
    let stopped = async {
        while let Ok(Asked::Reload) = asked.recv().await {
            tracing::warn!(
                "reloading the configuration is not supported yet: restart the agent to change it"
            );
        }
        None
    };
    let ended = async { Some((&mut driving).await) };
    let outcome = if let Some(ended) = stopped.or(ended).await {
        ended
    } else {
        tracing::info!("stopping: handing over what this server leads");
        let gone = left.listen();
        handle.post(Input::Stop).await;
        let patience = async {
            async_io::Timer::after(GRACE).await;
        };
        gone.or(patience).await;
        http.shut_down(GRACE).await;
        handle.stop();
        driving.await
    };
    joining.cancel().await;
    receiving.cancel().await;
    waking.cancel().await;
    transport.close().await;
    match outcome {
        Ok(Ended::Stopped | Ended::Closed) => Ok(()),
        Err(fault) => Err(StartError::Io(io::Error::other(format!(
            "this agent stops: {fault}"
        )))),
    }
}

fn node_config(config: &Config, id: NodeId) -> Result<lictor_node::Config, StartError> {
    let seed = u128::from_le_bytes(boot::random()?);
    let mut node = lictor_node::Config::new(id, config.node_name.clone(), config.advertise, seed);
    node.expect = match config.bootstrap {
        Bootstrap::Join => 0,
        Bootstrap::Alone => 1,
        Bootstrap::Expect(servers) => servers,
    };
    node.hold = config.raft.rpc_hold_timeout;
    node.trailing_entries = config.raft.trailing_logs;
    node.raft = node.raft.stretched(config.raft.multiplier);
    Ok(node)
}

fn api_config(config: &Config) -> Result<lictor_http::Config, StartError> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Ok(lictor_http::Config {
        always_pretty: config.dev,
        allow_unprintable: config.http.allow_unprintable_paths,
        kv_max_value_size: size(config.http.kv_max_value_size),
        txn_max_req_len: size(config.http.txn_max_request),
        default_query_time: config.http.default_query_time,
        max_query_time: config.http.max_query_time,
        response_headers: config.http.response_headers.clone(),
        seed: u64::from_le_bytes(boot::random()?),
        ..lictor_http::Config::default()
    })
}

fn http_limits(config: &Config) -> lictor_http::Limits {
    let per_client = config
        .http
        .max_connections_per_client
        .map_or(0, |limit| limit as usize);
    let defaults = lictor_http::Limits::default();
    lictor_http::Limits {
        connections_per_client: per_client,
        connections: defaults.connections.max(per_client),
        ..defaults
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

/// Tells the node where to look for other servers: at once, and again now and then, since names may come to mean other addresses.
async fn find_contacts(join: Vec<JoinAddress>, interval: Duration, handle: Handle) {
    loop {
        let mut contacts = Vec::new();
        for address in &join {
            match &address.host {
                JoinHost::Ip(ip) => contacts.push(SocketAddr::new(*ip, address.port)),
                JoinHost::Name(name) => match async_net::resolve((name.as_str(), address.port)).await {
                    Ok(found) => contacts.extend(found),
                    Err(error) => {
                        tracing::warn!(name, %error, "cannot find the address of a server to join; will retry");
                    }
                },
            }
        }
        handle.post(Input::Contacts(contacts)).await;
        async_io::Timer::after(interval).await;
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn banner(config: &Config, id: NodeId, listeners: &[Listener]) -> io::Result<()> {
    let http: Vec<String> = listeners
        .iter()
        .filter_map(Listener::address)
        .map(|address| address.to_string())
        .collect();
    let http = if http.is_empty() {
        "off".to_owned()
    } else {
        http.join(", ")
    };
    let bootstrap = match config.bootstrap {
        Bootstrap::Join => "joins a cluster".to_owned(),
        Bootstrap::Alone => "founds a cluster alone".to_owned(),
        Bootstrap::Expect(servers) => format!("founds a cluster of {servers}"),
    };
    let trust = match &config.trust {
        crate::config::Trust::User => "this user's own authority",
        crate::config::Trust::Shared(_) => "a shared key",
        crate::config::Trust::Files { .. } => "certificate files",
    };
    say(&format!(
        "==> Starting Lictor agent...\n           Version: '{}'\n           Node ID: '{id}'\n         Node name: '{}'\n        Datacenter: '{}'\n            \
         Server: true ({bootstrap})\n       Client Addr: HTTP: {http}\n      Cluster Addr: {} (QUIC; others reach it at {})\n           Encrypt: mutual TLS 1.3, trusting {trust}\n\n==> \
         Log data will now stream in as it occurs:\n\n",
        env!("CARGO_PKG_VERSION"),
        config.node_name,
        config.datacenter,
        config.bind,
        config.advertise,
    ))
}
