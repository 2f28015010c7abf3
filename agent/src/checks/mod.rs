//! Looking how well things are.
//!
//! The agent's machine says what is to be looked at, and when; it also knows what a result means. Here are the looks themselves:
//!
//! - `script`, `docker`: programs, on this machine and in containers;
//! - `http`, over `exchange`: asking a URL;
//! - `socket`: open ports; `h2`, `grpc`: HTTP/2 and what is spoken on it;
//! - `dial`, `tls`: connections to all those;
//! - `runners`: the looks that are under way.
//!
//! What is looked at is not trusted: it may be slow, silent, endless or malformed. Every look ends in time, and takes a bounded amount of
//! memory. What it says is worded as in Consul, since people's alerts look for those words.
//!
//! For HTTP/1.1 there is `ureq-proto`, which does no input or output and so fits every executor: the command line's client is
//! built of it, too. For HTTP/2 there is what the API's server brings along.

mod dial;
mod docker;
pub(crate) mod exchange;
mod grpc;
mod h2;
mod http;
mod runners;
mod script;
mod socket;
pub(crate) mod tail;
#[cfg(test)]
mod tests;
mod text;
mod tls;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::FutureExt as _;
use lictor_catalog::Status;
use lictor_node::local::Probe;

pub(crate) use runners::Runners;
use tls::Tls;

/// Where Docker listens if nobody has said otherwise.
pub(crate) const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// What a probe has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    /// What there is to say about it, for people.
    pub(crate) output: String,
}

impl Outcome {
    fn passing(output: impl Into<String>) -> Self {
        Self {
            status: Status::Passing,
            output: output.into(),
        }
    }

    fn critical(output: impl Into<String>) -> Self {
        Self {
            status: Status::Critical,
            output: output.into(),
        }
    }
}

/// Carries out probes.
#[derive(Debug)]
pub(crate) struct Prober {
    tls: Tls,
    docker: PathBuf,
}

impl Prober {
    /// Trusts the certificate authorities that the system trusts. `docker` is the socket on which Docker listens.
    pub(crate) fn new(docker: PathBuf) -> Self {
        Self {
            tls: Tls::default(),
            docker,
        }
    }

    /// Looks once. It takes no longer than `timeout`, but for a program that cannot be killed. About `output_max` bytes of what the other
    /// side says are kept.
    ///
    /// If this future is dropped, the look ends at once, with all that it has started.
    pub(crate) async fn probe(&self, probe: &Probe, timeout: Duration, output_max: usize) -> Outcome {
        let limit = Limit::after(timeout);
        match probe {
            Probe::Script { args } => script::probe(args, timeout, output_max).await,
            Probe::Docker {
                container,
                shell,
                args,
            } => docker::probe(&self.docker, container, shell, args, timeout, output_max).await,
            Probe::Http {
                url,
                method,
                headers,
                body,
                disable_redirects,
                tls,
            } => {
                let question = http::Question {
                    url,
                    method,
                    headers,
                    body,
                    disable_redirects: *disable_redirects,
                    tls,
                };
                http::probe(question, &self.tls, limit, output_max).await
            }
            Probe::Tcp { address, tls } => socket::probe_tcp(address, tls.as_ref(), &self.tls, limit).await,
            Probe::Udp { address } => socket::probe_udp(address, limit).await,
            Probe::Grpc { target, tls } => grpc::probe(target, tls.as_ref(), &self.tls, limit).await,
            Probe::H2Ping { address, tls } => h2::probe_ping(address, tls.as_ref(), &self.tls, limit).await,
        }
    }
}

/// When a look must be over.
#[derive(Clone, Copy, Debug)]
struct Limit(Instant);

impl Limit {
    fn after(timeout: Duration) -> Self {
        let now = Instant::now();
        // A time that no clock can show is as good as a day.
        Self(now.checked_add(timeout).unwrap_or(now + Duration::from_hours(24)))
    }

    /// `None`: it took too long.
    async fn cut<T>(self, what: impl Future<Output = T>) -> Option<T> {
        let over = async {
            Timer::at(self.0).await;
            None
        };
        async { Some(what.await) }.or(over).await
    }
}
