//! `lictor agent`

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use lictor_agent::config::{Config, Flags, RuntimeKind, system_error};

use crate::command::{Action, Command, Topic};
use crate::console::{Console, Failure};
use crate::flags::{Args, Flag, Given, Takes};

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
        flags: &[CLUSTER, WAN, NODE, NETWORK, FILES, LOG],
        not_yet: &[
            "allow-write-http-from",
            "alt-domain",
            "auto-reload-config",
            "check_output_max_size",
            "default-query-time",
            "disable-host-node-id",
            "disable-keyring-file",
            "dns-port",
            "enable-local-script-checks",
            "enable-script-checks",
            "grpc-port",
            "grpc-tls-port",
            "hcl",
            "https-port",
            "log-file",
            "log-rotate-bytes",
            "log-rotate-duration",
            "log-rotate-max-files",
            "max-query-time",
            "non-voting-server",
            "partition",
            "primary-gateway",
            "protocol",
            "raft-protocol",
            "read-replica",
            "recursor",
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

const CLUSTER: Topic = Topic {
    title: "The Cluster",
    flags: &[
        Flag {
            name: "bootstrap",
            takes: Takes::Nothing,
            help: "With -server: found a cluster alone. Only ever one server may do so.",
        },
        Flag {
            name: "bootstrap-expect",
            takes: Takes::Int,
            help: "With -server: found a cluster as soon as this many servers have found each other. The same for all of them; 3 or 5 are good numbers. Without effect once the cluster exists.",
        },
        Flag {
            name: "datacenter",
            takes: Takes::Text("value"),
            help: "The agent's datacenter. The default value is dc1.",
        },
        Flag {
            name: "dev",
            takes: Takes::Nothing,
            help: "Development mode: a single server on the loopback interface that needs no data directory, founds its cluster at once and logs at DEBUG.",
        },
        Flag {
            name: "domain",
            takes: Takes::Text("name"),
            help: "The domain of the names in certificates, if it is neither lictor nor consul. Only with tls.defaults in the configuration.",
        },
        Flag {
            name: "encrypt",
            takes: Takes::Text("key"),
            help: "The secret that the agents of the cluster share, as printed by \"lictor keygen\". Without it, and without certificates in the configuration, only agents of the same user on this machine trust each other.",
        },
        Flag {
            name: "join",
            takes: Takes::Text("address"),
            help: "Address of another agent to join at the start, once: if none of these answers, the agent stops. Can be used multiple times.",
        },
        Flag {
            name: "rejoin",
            takes: Takes::Nothing,
            help: "Join again those who were known before, also after this agent had left.",
        },
        Flag {
            name: "retry-interval",
            takes: Takes::Text("duration"),
            help: "Time between attempts to join, such as 10s or 1m. The default value is 30s.",
        },
        Flag {
            name: "retry-join",
            takes: Takes::Text("address"),
            help: "Address of another agent, with or without a port: an IP address or a host name. Tried until one answers. Can be used multiple times.",
        },
        Flag {
            name: "retry-max",
            takes: Takes::Int,
            help: "Stop the agent after this many attempts to join have failed. The default value is 0: try for ever.",
        },
        Flag {
            name: "server",
            takes: Takes::Nothing,
            help: "Be a server: one of a few that keep the state of the cluster. Without it the agent passes requests on to servers.",
        },
    ],
};

const WAN: Topic = Topic {
    title: "Other Datacenters",
    flags: &[
        Flag {
            name: "advertise-wan",
            takes: Takes::Text("ip"),
            help: "The address under which servers of other datacenters reach this one. The default is that of -advertise.",
        },
        Flag {
            name: "join-wan",
            takes: Takes::Text("address"),
            help: "With -server: address of a server of another datacenter to join at the start, once. Can be used multiple times.",
        },
        Flag {
            name: "retry-interval-wan",
            takes: Takes::Text("duration"),
            help: "Time between attempts to join other datacenters. The default value is 30s.",
        },
        Flag {
            name: "retry-join-wan",
            takes: Takes::Text("address"),
            help: "With -server: address of a server of another datacenter, with or without a port. Tried until one answers. Can be used multiple times.",
        },
        Flag {
            name: "retry-max-wan",
            takes: Takes::Int,
            help: "Stop the agent after this many attempts to join other datacenters have failed. The default value is 0: try for ever.",
        },
    ],
};

const NODE: Topic = Topic {
    title: "This Node",
    flags: &[
        Flag {
            name: "data-dir",
            takes: Takes::Text("path"),
            help: "The directory for the agent's state; made if needed. Required without -dev.",
        },
        Flag {
            name: "node",
            takes: Takes::Text("name"),
            help: "The node's name, unique in the cluster. The default is the host's name.",
        },
        Flag {
            name: "node-id",
            takes: Takes::Text("uuid"),
            help: "The node's id, if it must be a certain one. The default is random, and kept in the data directory.",
        },
        Flag {
            name: "node-meta",
            takes: Takes::Text("key:value"),
            help: "What to say of this node, as a key and a value. Can be used multiple times.",
        },
        Flag {
            name: "pid-file",
            takes: Takes::Text("path"),
            help: "Write the process id to this file while the agent runs.",
        },
        Flag {
            name: "runtime",
            takes: Takes::Text("name"),
            help: "The executor that runs the agent: smol or async-std. The default value is smol.",
        },
    ],
};

const NETWORK: Topic = Topic {
    title: "Addresses and Ports",
    flags: &[
        Flag {
            name: "advertise",
            takes: Takes::Text("ip"),
            help: "The address under which other agents reach this one. The default is that of -bind, or the first private address of the host.",
        },
        Flag {
            name: "bind",
            takes: Takes::Text("ip"),
            help: "The address for what agents say to each other. The default value is 0.0.0.0, all of them.",
        },
        Flag {
            name: "client",
            takes: Takes::Text("ips"),
            help: "The address for the HTTP API, or several with spaces between them. The default value is 127.0.0.1.",
        },
        Flag {
            name: "http-port",
            takes: Takes::Int,
            help: "The TCP port of the HTTP API; -1 turns it off. The default value is 8500.",
        },
        Flag {
            name: "serf-lan-port",
            takes: Takes::Int,
            help: "Known for compatibility: must be the port of -server-port, the only one there is.",
        },
        Flag {
            name: "serf-wan-port",
            takes: Takes::Int,
            help: "The same; or -1, and this server takes no part in the pool of all datacenters.",
        },
        Flag {
            name: "server-port",
            takes: Takes::Int,
            help: "The UDP port for what agents say to each other. The default value is 8300.",
        },
    ],
};

const FILES: Topic = Topic {
    title: "Configuration Files",
    flags: &[
        Flag {
            name: "config-dir",
            takes: Takes::Text("path"),
            help: "Read every .json file in this directory, in alphabetical order. Can be used multiple times.",
        },
        Flag {
            name: "config-file",
            takes: Takes::Text("path"),
            help: "Read this JSON file. Can be used multiple times.",
        },
        Flag {
            name: "config-format",
            takes: Takes::Text("string"),
            help: "The files are in this format whatever their names end in. Must be 'json'.",
        },
    ],
};

const LOG: Topic = Topic {
    title: "The Log",
    flags: &[
        Flag {
            name: "log-json",
            takes: Takes::Nothing,
            help: "Log one JSON object per line.",
        },
        Flag {
            name: "log-level",
            takes: Takes::Text("level"),
            help: "What to log: TRACE, DEBUG, INFO, WARN or ERR, and everything more important. The default value is INFO.",
        },
    ],
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let config = load(args, console)?;
    let _pid_file = config.pid_file.clone().map(PidFile::write).transpose()?;
    if lictor_agent::run(config) == ExitCode::SUCCESS {
        Ok(())
    } else {
        // The agent has said why.
        Err(Failure::new(""))
    }
}

fn load(args: &Args, console: &mut Console<'_>) -> Result<Config, Failure> {
    if !args.operands.is_empty() {
        return Err(Failure::new(format!(
            "==> Unexpected extra arguments: [{}]",
            args.operands.join(" ")
        )));
    }
    let (config, warnings) =
        Config::load(flags_of(args)?).map_err(|error| Failure::new(format!("==> {error}")))?;
    for warning in warnings {
        console.remark(format_args!("==> WARNING: {warning}"));
    }
    Ok(config)
}

/// What the command line means to the configuration.
fn flags_of(args: &Args) -> Result<Flags, Failure> {
    let mut flags = Flags::default();
    let to = &mut flags.settings;
    for (name, given) in args.flags() {
        match (name, given.clone()) {
            ("advertise", Given::Text(text)) => to.advertise_addr = Some(text),
            ("advertise-wan", Given::Text(text)) => to.advertise_addr_wan = Some(text),
            ("bind", Given::Text(text)) => to.bind_addr = Some(text),
            ("bootstrap", Given::Switch(on)) => to.bootstrap = Some(on),
            ("bootstrap-expect", Given::Int(number)) => to.bootstrap_expect = Some(number),
            ("client", Given::Text(text)) => to.client_addr = Some(text),
            ("config-dir" | "config-file", Given::Text(text)) => flags.config_paths.push(text.into()),
            ("config-format", Given::Text(text)) => flags.config_format = Some(text),
            ("data-dir", Given::Text(text)) => to.data_dir = Some(text),
            ("datacenter", Given::Text(text)) => to.datacenter = Some(text),
            ("dev", Given::Switch(on)) => flags.dev = on,
            ("domain", Given::Text(text)) => to.domain = Some(text),
            ("encrypt", Given::Text(text)) => to.encrypt = Some(text),
            ("http-port", Given::Int(number)) => to.ports_http = Some(number),
            ("join", Given::Text(text)) => to.start_join.push(text),
            ("join-wan", Given::Text(text)) => to.start_join_wan.push(text),
            ("log-json", Given::Switch(on)) => to.log_json = Some(on),
            ("log-level", Given::Text(text)) => to.log_level = Some(text),
            ("node", Given::Text(text)) => to.node_name = Some(text),
            ("node-id", Given::Text(text)) => to.node_id = Some(text),
            ("node-meta", Given::Text(text)) => {
                let (key, value) = text.split_once(':').unwrap_or((&text, ""));
                to.node_meta.insert(key.to_owned(), value.to_owned());
            }
            ("pid-file", Given::Text(text)) => to.pid_file = Some(text),
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
mod tests {
    use std::time::Duration;

    use lictor_agent::config::{Bootstrap, LogLevel, Trust};

    use super::*;
    use crate::console::testing::run as run_line;

    /// What `lictor agent` with these flags would run with.
    fn config(line: &[&str]) -> Config {
        let argv: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
        let Action::Run { flags, not_yet, .. } = &COMMAND.action else {
            panic!("agent is no group")
        };
        let args = Args::parse(flags.iter().flat_map(|topic| topic.flags), not_yet, &argv).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            input: &mut std::io::empty(),
            out: &mut out,
            err: &mut err,
            env: &|_| None,
            directory: std::path::Path::new("."),
        };
        load(&args, &mut console).unwrap_or_else(|failure| panic!("{line:?}: {}", failure.message))
    }

    #[test]
    fn every_flag_reaches_the_configuration() {
        let config = config(&[
            "-server",
            "-bootstrap-expect=3",
            "--datacenter",
            "EU",
            "-encrypt",
            "bGljdG9yLXBlcmYtaGFybmVzcy1rZXktMzItYnl0ZXM=",
            "-retry-interval=5s",
            "-retry-max=7",
            "-join=10.0.0.7",
            "-rejoin",
            "-join-wan=10.1.0.7",
            "-retry-join-wan=10.1.0.1:9",
            "-retry-interval-wan=6s",
            "-retry-max-wan=8",
            "-advertise-wan=192.0.2.1",
            "-serf-lan-port=2",
            "-serf-wan-port=2",
            "-node-meta=rack:b:7",
            "-node-meta",
            "old",
            "-retry-join",
            "10.0.0.1",
            "-retry-join=b:1",
            "-data-dir",
            "/nonexistent/x",
            "-node",
            "n1",
            "-node-id=8c2a9c44-6c2b-4b0e-9d53-6c1f0f6f2a11",
            "-pid-file=/run/p",
            "-runtime=async-std",
            "-advertise",
            "10.0.0.9",
            "-bind=10.0.0.8",
            "-client",
            "127.0.0.1 10.0.0.8",
            "-http-port=1",
            "-server-port=2",
            "-log-json",
            "-log-level=warn",
            "-config-format=json",
        ]);
        assert!(config.server && !config.dev && config.log.json);
        assert_eq!(config.bootstrap, Bootstrap::Expect(3));
        assert_eq!(config.datacenter, "eu");
        assert!(matches!(config.trust, Trust::Shared(_)));
        assert_eq!(config.join.interval, Duration::from_secs(5));
        let join: Vec<_> = config.join.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(join, ["10.0.0.1:2", "b:1"]);
        assert_eq!(config.join.attempts_max, Some(7));
        let start: Vec<_> = config.join.at_start.iter().map(ToString::to_string).collect();
        assert_eq!(start, ["10.0.0.7:2"]);
        assert!(config.gossip.rejoin_after_leave);
        let wan = config.wan.expect("a server is in the WAN pool");
        assert_eq!(wan.join.interval, Duration::from_secs(6));
        assert_eq!(wan.join.attempts_max, Some(8));
        let join: Vec<_> = wan.join.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(join, ["10.1.0.1:9"]);
        let start: Vec<_> = wan.join.at_start.iter().map(ToString::to_string).collect();
        assert_eq!(start, ["10.1.0.7:2"]);
        assert_eq!(config.advertise_wan.to_string(), "192.0.2.1:2");
        let meta: Vec<_> = config.node_meta.iter().collect();
        assert_eq!(
            meta,
            [
                (&"old".to_owned(), &String::new()),
                (&"rack".to_owned(), &"b:7".to_owned())
            ]
        );
        assert_eq!(config.data_dir, Some("/nonexistent/x".into()));
        assert_eq!(config.node_name, "n1");
        assert!(config.node_id.is_some());
        assert_eq!(config.pid_file, Some("/run/p".into()));
        assert_eq!(config.runtime, RuntimeKind::AsyncStd);
        assert_eq!(config.bind.to_string(), "10.0.0.8:2");
        assert_eq!(config.advertise.to_string(), "10.0.0.9:2");
        let listen: Vec<_> = config.http.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["127.0.0.1:1", "10.0.0.8:1"]);
        assert_eq!(config.log.level, LogLevel::Warn);
    }

    #[test]
    fn every_flag_is_handled() {
        let Action::Run { flags, .. } = &COMMAND.action else {
            panic!("agent is no group")
        };
        for flag in flags.iter().flat_map(|topic| topic.flags) {
            let value = match flag.takes {
                Takes::Nothing => "true",
                Takes::Text(_) => "smol",
                Takes::Int | Takes::Uint => "1",
            };
            let argv = [format!("-{}={value}", flag.name)];
            let args = Args::parse(flags.iter().flat_map(|topic| topic.flags), &[], &argv).unwrap();
            assert!(flags_of(&args).is_ok(), "{}", flag.name);
        }
    }

    #[test]
    fn development_mode_and_switches_that_are_off() {
        assert!(config(&["-dev"]).dev);
        let config = config(&[
            "-dev=false",
            "-server=false",
            "-data-dir=/nonexistent/x",
            "-bind=127.0.0.1",
        ]);
        assert!(!config.dev && !config.server);
        assert_eq!(config.runtime, RuntimeKind::Smol);
    }

    #[test]
    fn files_keep_their_order_among_directories() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("d");
        fs::create_dir(&sub).unwrap();
        let file = dir.path().join("f.json");
        fs::write(
            &file,
            r#"{"data_dir": "/nonexistent/x", "bind_addr": "127.0.0.1", "node_name": "file"}"#,
        )
        .unwrap();
        fs::write(sub.join("a.json"), r#"{"node_name": "dir"}"#).unwrap();
        let (file, sub) = (file.to_str().unwrap(), sub.to_str().unwrap());
        assert_eq!(
            config(&["-config-file", file, "-config-dir", sub]).node_name,
            "dir"
        );
        assert_eq!(
            config(&["-config-dir", sub, "-config-file", file]).node_name,
            "file"
        );
        assert_eq!(
            config(&["-node=flag", "-config-dir", sub, "-config-file", file]).node_name,
            "flag"
        );
    }

    #[test]
    fn errors_before_the_start() {
        for (line, message) in [
            (
                &["agent", "x", "y"][..],
                "==> Unexpected extra arguments: [x y]\n",
            ),
            (&["agent"], "==> data_dir cannot be empty\n"),
            (
                &["agent", "-dev", "-log-level", "FOO"],
                "==> Invalid log level: FOO. Valid log levels are: [TRACE DEBUG INFO WARN ERR ERROR]\n",
            ),
            (
                &["agent", "-dev", "-pid-file=/nodir/x"],
                "==> Could not open pid file: open /nodir/x: no such file or directory\n",
            ),
            (
                &["agent", "-config-file=none.json"],
                "==> config: Open failed on none.json. open none.json: no such file or directory\n",
            ),
        ] {
            let ran = run_line(line);
            assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "", message));
        }
        for (line, start) in [
            (
                &["agent", "-runtime=tokio"][..],
                "invalid value \"tokio\" for flag -runtime: must be smol or async-std\n",
            ),
            (&["agent", "-ui"], "flag -ui is not supported yet\n"),
            (&["agent", "-hcl", "x"], "flag -hcl is not supported yet\n"),
            (&["agent", "-bogus"], "flag provided but not defined: -bogus\n"),
            (
                &["agent", "-http-port", "x"],
                "invalid value \"x\" for flag -http-port: parse error\n",
            ),
        ] {
            let ran = run_line(line);
            assert_eq!(ran.code, 1);
            assert!(ran.err.starts_with(start), "{}", ran.err);
        }
    }

    #[test]
    fn the_pid_file_goes_with_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let guard = PidFile::write(path.clone()).unwrap_or_else(|failure| panic!("{}", failure.message));
        assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop(guard);
        assert!(!path.exists());
    }
}
