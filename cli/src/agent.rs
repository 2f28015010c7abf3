//! `lictor agent`

mod options;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use lictor_agent::config::{Config, Flags, Reloader, RuntimeKind, system_error};

use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::{Args, Given};

pub(crate) const COMMAND: Command = Command {
    name: "agent",
    summary: "Runs a Lictor agent",
    usage: "[options]",
    about: "
Starts an agent and runs it until it is interrupted. An agent stands for one
node of a cluster. A few agents are servers and keep the cluster's state; the
others find the servers and pass requests on to them.

To try it out, a single server that keeps nothing:

    $ lictor agent -dev

One of three servers; the same command runs on each of them. KEY is what
\"lictor keygen\" printed, and has to be the same for all:

    $ lictor agent -server -bootstrap-expect=3 -data-dir=/var/lib/lictor \\
        -encrypt=KEY -retry-join=10.0.0.1 -retry-join=10.0.0.2

An agent on every other machine, which needs to know any one of the others:

    $ lictor agent -data-dir=/var/lib/lictor -encrypt=KEY \\
        -retry-join=10.0.0.1

Flags win over configuration files, later files over earlier ones.",
    action: Action::Run {
        flags: &[
            options::CLUSTER,
            options::WAN,
            options::NODE,
            options::NETWORK,
            options::SERVICE,
            options::FILES,
            options::LOG,
        ],
        not_yet: &[
            "allow-write-http-from",
            "auto-reload-config",
            "disable-host-node-id",
            "disable-keyring-file",
            "grpc-port",
            "grpc-tls-port",
            "hcl",
            "https-port",
            "log-file",
            "log-rotate-bytes",
            "log-rotate-duration",
            "log-rotate-max-files",
            "non-voting-server",
            "partition",
            "primary-gateway",
            "protocol",
            "raft-protocol",
            "read-replica",
            "segment",
            "serf-lan-allowed-cidrs",
            "serf-lan-bind",
            "serf-wan-allowed-cidrs",
            "serf-wan-bind",
            "syslog",
            "ui",
            "ui-content-path",
            "ui-dir",
        ],
        run,
    },
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let (config, reloader) = load(args, console)?;
    let _pid_file = config.pid_file.clone().map(PidFile::write).transpose()?;
    if lictor_agent::run(config, reloader) == ExitCode::SUCCESS {
        Ok(())
    } else {
        // The agent has said why.
        Err(Failure::new(""))
    }
}

fn load(args: &Args, console: &mut Console<'_>) -> Result<(Config, Reloader), Failure> {
    if !args.operands.is_empty() {
        return Err(Failure::new(format!(
            "==> Unexpected extra arguments: [{}]",
            args.operands.join(" ")
        )));
    }
    let (reloader, config, warnings) =
        Reloader::load(flags_of(args)?).map_err(|error| Failure::new(format!("==> {error}")))?;
    for warning in warnings {
        console.remark(format_args!("==> WARNING: {warning}"));
    }
    Ok((config, reloader))
}

/// What the command line means to the configuration.
fn flags_of(args: &Args) -> Result<Flags, Failure> {
    let mut flags = Flags::default();
    let to = &mut flags.settings;
    for (name, given) in args.flags() {
        match (name, given.clone()) {
            ("advertise", Given::Text(text)) => to.advertise_addr = Some(text),
            ("advertise-wan", Given::Text(text)) => to.advertise_addr_wan = Some(text),
            ("alt-domain", Given::Text(text)) => to.alt_domain = Some(text),
            ("bind", Given::Text(text)) => to.bind_addr = Some(text),
            ("bootstrap", Given::Switch(on)) => to.bootstrap = Some(on),
            ("bootstrap-expect", Given::Int(number)) => to.bootstrap_expect = Some(number),
            ("check_output_max_size", Given::Int(number)) => to.check_output_max_size = Some(number),
            ("client", Given::Text(text)) => to.client_addr = Some(text),
            ("config-dir" | "config-file", Given::Text(text)) => flags.config_paths.push(text.into()),
            ("config-format", Given::Text(text)) => flags.config_format = Some(text),
            ("data-dir", Given::Text(text)) => to.data_dir = Some(text),
            ("datacenter", Given::Text(text)) => to.datacenter = Some(text),
            ("default-query-time", Given::Text(text)) => to.default_query_time = Some(text),
            ("dev", Given::Switch(on)) => flags.dev = on,
            ("dns-port", Given::Int(number)) => to.ports_dns = Some(number),
            ("domain", Given::Text(text)) => to.domain = Some(text),
            ("enable-local-script-checks", Given::Switch(on)) => to.enable_local_script_checks = Some(on),
            ("enable-script-checks", Given::Switch(on)) => to.enable_script_checks = Some(on),
            ("encrypt", Given::Text(text)) => to.encrypt = Some(text),
            ("http-port", Given::Int(number)) => to.ports_http = Some(number),
            ("join", Given::Text(text)) => to.start_join.push(text),
            ("join-wan", Given::Text(text)) => to.start_join_wan.push(text),
            ("log-json", Given::Switch(on)) => to.log_json = Some(on),
            ("log-level", Given::Text(text)) => to.log_level = Some(text),
            ("max-query-time", Given::Text(text)) => to.max_query_time = Some(text),
            ("node", Given::Text(text)) => to.node_name = Some(text),
            ("node-id", Given::Text(text)) => to.node_id = Some(text),
            ("node-meta", Given::Text(text)) => {
                let (key, value) = text.split_once(':').unwrap_or((&text, ""));
                to.node_meta.insert(key.to_owned(), value.to_owned());
            }
            ("pid-file", Given::Text(text)) => to.pid_file = Some(text),
            ("recursor", Given::Text(text)) => to.recursors.push(text),
            ("rejoin", Given::Switch(on)) => to.rejoin_after_leave = Some(on),
            ("retry-interval", Given::Text(text)) => to.retry_interval = Some(text),
            ("retry-interval-wan", Given::Text(text)) => to.retry_interval_wan = Some(text),
            ("retry-join", Given::Text(text)) => to.retry_join.push(text),
            ("retry-join-wan", Given::Text(text)) => to.retry_join_wan.push(text),
            ("retry-max", Given::Int(number)) => to.retry_max = Some(number),
            ("retry-max-wan", Given::Int(number)) => to.retry_max_wan = Some(number),
            ("runtime", Given::Text(text)) => flags.runtime = runtime(&text)?,
            ("serf-lan-port", Given::Int(number)) => to.ports_serf_lan = Some(number),
            ("serf-wan-port", Given::Int(number)) => to.ports_serf_wan = Some(number),
            ("server", Given::Switch(on)) => to.server = Some(on),
            ("server-port", Given::Int(number)) => to.ports_server = Some(number),
            (other, _) => unreachable!("-{other} is in the command's flags and not here"),
        }
    }
    Ok(flags)
}

fn runtime(name: &str) -> Result<RuntimeKind, Failure> {
    match name {
        "smol" => Ok(RuntimeKind::Smol),
        "async-std" => Ok(RuntimeKind::AsyncStd),
        _ => Err(Failure::misuse(format!(
            "invalid value {name:?} for flag -runtime: must be smol or async-std"
        ))),
    }
}

/// The file that holds the process id as long as this lives.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> Result<Self, Failure> {
        // It is removed at the end, and nobody means that of a device or a directory.
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(Failure::new(format!(
                "==> Could not open pid file: {} is not a regular file",
                path.display()
            )));
        }
        fs::write(&path, std::process::id().to_string()).map_err(|error| {
            let shown = path.display();
            Failure::new(format!(
                "==> Could not open pid file: open {shown}: {}",
                system_error(&error)
            ))
        })?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // What is left behind is overwritten by the next start.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests;
