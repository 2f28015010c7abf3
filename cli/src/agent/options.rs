//! The flags of `lictor agent`, by topic.

use crate::command::Topic;
use crate::flags::{Flag, Takes};

/// Which cluster it is in.
pub(super) const CLUSTER: Topic = Topic {
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
            help: "The domain that DNS answers for. The default value is consul. With tls.defaults in the configuration, also the domain of the names in certificates, if it is neither lictor nor consul.",
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

/// Which other clusters it is with.
pub(super) const WAN: Topic = Topic {
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

/// What it is.
pub(super) const NODE: Topic = Topic {
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

/// Where it is.
pub(super) const NETWORK: Topic = Topic {
    title: "Addresses and Ports",
    flags: &[
        Flag {
            name: "advertise",
            takes: Takes::Text("ip"),
            help: "The address under which other agents reach this one. The default is that of -bind, or the first private address of the host.",
        },
        Flag {
            name: "alt-domain",
            takes: Takes::Text("name"),
            help: "A second domain that DNS answers for in the same way.",
        },
        Flag {
            name: "bind",
            takes: Takes::Text("ip"),
            help: "The address for what agents say to each other. The default value is 0.0.0.0, all of them.",
        },
        Flag {
            name: "client",
            takes: Takes::Text("ips"),
            help: "The address for the HTTP API and DNS, or several with spaces between them. The default value is 127.0.0.1.",
        },
        Flag {
            name: "dns-port",
            takes: Takes::Int,
            help: "The UDP and TCP port of DNS; -1 turns it off. The default value is 8600.",
        },
        Flag {
            name: "http-port",
            takes: Takes::Int,
            help: "The TCP port of the HTTP API; -1 turns it off. The default value is 8500.",
        },
        Flag {
            name: "recursor",
            takes: Takes::Text("address"),
            help: "A DNS server to ask about names of other domains: an IP address, with or without a port. Can be used multiple times.",
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

/// Where its configuration is.
pub(super) const FILES: Topic = Topic {
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

/// What it logs.
pub(super) const LOG: Topic = Topic {
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

/// How it looks after what runs on it, and answers.
pub(super) const SERVICE: Topic = Topic {
    title: "Checks and Queries",
    flags: &[
        Flag {
            name: "check_output_max_size",
            takes: Takes::Int,
            help: "How many bytes of a check's output are kept. The default value is 4096.",
        },
        Flag {
            name: "default-query-time",
            takes: Takes::Text("duration"),
            help: "How long a blocking query waits that does not say how long. The default value is 5m.",
        },
        Flag {
            name: "enable-local-script-checks",
            takes: Takes::Nothing,
            help: "Let checks in configuration files run programs.",
        },
        Flag {
            name: "enable-script-checks",
            takes: Takes::Nothing,
            help: "Let checks run programs, also those that anybody registers through the API who can reach it.",
        },
        Flag {
            name: "max-query-time",
            takes: Takes::Text("duration"),
            help: "How long any blocking query waits at most. The default value is 10m.",
        },
    ],
};
