//! How something is checked, as clients write it.

use std::sync::Arc;
use std::time::Duration;

use lictor_catalog::{Status, quote};
use lictor_local::{CheckMethod, CheckSpec, Probe, ProbeTls, Thresholds};
use serde_json::Value;

use crate::decode::{Fields, items_at};
use crate::text::{Signed, parse_duration};

/// A check as a client wrote it. What was not said is empty, 0 or false.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Written {
    id: String,
    pub(super) name: String,
    notes: String,
    pub(super) status: String,
    token: String,
    pub(super) service_id: String,
    args: Vec<String>,
    docker_container: String,
    shell: String,
    http: String,
    method: String,
    body: String,
    header: Vec<(String, Vec<String>)>,
    disable_redirects: bool,
    tcp: String,
    tcp_use_tls: bool,
    udp: String,
    grpc: String,
    grpc_use_tls: bool,
    h2ping: String,
    h2ping_use_tls: Option<bool>,
    tls_skip_verify: bool,
    tls_server_name: String,
    alias_node: String,
    alias_service: String,
    ttl: Duration,
    interval: Duration,
    timeout: Duration,
    deregister_after: Duration,
    /// Whether the TTL or the interval is below 0, which is as good as 0, but has been said.
    below_zero: bool,
    success_before_passing: i64,
    failures_before_warning: i64,
    failures_before_critical: i64,
    output_max: i64,
}

impl Written {
    /// Reads a check that is registered by itself. The error is a text for the client.
    pub(super) fn alone(mut fields: Fields) -> Result<Self, String> {
        fields.alias("service_id", "ServiceID");
        let id = fields.string("ID", "types.CheckID")?;
        let token = fields.string("Token", "string")?;
        let service_id = fields.string("ServiceID", "string")?;
        Ok(Self {
            id,
            token,
            service_id,
            ..Self::common(fields)?
        })
    }

    /// Reads a check that is registered with a service.
    pub(super) fn of_service(mut fields: Fields) -> Result<Self, String> {
        let id = fields.string("CheckID", "types.CheckID")?;
        // It is of this service, whatever it says; and how proxies expose it is not its matter.
        fields.ignore(&["ServiceID", "service_id", "ProxyHTTP", "ProxyGRPC"]);
        Ok(Self {
            id,
            ..Self::common(fields)?
        })
    }

    fn common(mut fields: Fields) -> Result<Self, String> {
        fields.alias("script_args", "ScriptArgs");
        fields.alias("docker_container_id", "DockerContainerID");
        fields.alias("tls_skip_verify", "TLSSkipVerify");
        fields.alias(
            "deregister_critical_service_after",
            "DeregisterCriticalServiceAfter",
        );
        let mut args = fields.strings("Args")?;
        let script_args = fields.strings("ScriptArgs")?;
        if args.is_empty() {
            args = script_args;
        }
        // Both are looked at, and taken out.
        let below_zero = ["TTL", "Interval"].map(|name| drop_if_below_zero(&mut fields, name));
        let written = Self {
            name: fields.string("Name", "string")?,
            notes: fields.string("Notes", "string")?,
            status: fields.string("Status", "string")?,
            args,
            docker_container: fields.string("DockerContainerID", "string")?,
            shell: fields.string("Shell", "string")?,
            http: fields.string("HTTP", "string")?,
            method: fields.string("Method", "string")?,
            body: fields.string("Body", "string")?,
            header: header(&mut fields)?,
            disable_redirects: fields.bool("DisableRedirects")?,
            tcp: fields.string("TCP", "string")?,
            tcp_use_tls: fields.bool("TCPUseTLS")?,
            udp: fields.string("UDP", "string")?,
            grpc: fields.string("GRPC", "string")?,
            grpc_use_tls: fields.bool("GRPCUseTLS")?,
            h2ping: fields.string("H2PING", "string")?,
            h2ping_use_tls: fields.optional_bool("H2PingUseTLS")?,
            tls_skip_verify: fields.bool("TLSSkipVerify")?,
            tls_server_name: fields.string("TLSServerName", "string")?,
            alias_node: fields.string("AliasNode", "string")?,
            alias_service: fields.string("AliasService", "string")?,
            ttl: fields.duration("TTL")?,
            interval: fields.duration("Interval")?,
            timeout: fields.duration("Timeout")?,
            deregister_after: fields.duration("DeregisterCriticalServiceAfter")?,
            below_zero: below_zero.contains(&true),
            success_before_passing: fields.int("SuccessBeforePassing")?,
            failures_before_warning: fields.int("FailuresBeforeWarning")?,
            failures_before_critical: fields.int("FailuresBeforeCritical")?,
            output_max: fields.int("OutputMaxSize")?,
            ..Self::default()
        };
        fields.finish()?;
        Ok(written)
    }

    /// One that connects to an address.
    pub(super) fn tcp(name: String, address: String, interval: Duration) -> Self {
        Self {
            name,
            tcp: address,
            interval,
            ..Self::default()
        }
    }

    /// One that is as well as a service of this agent.
    pub(super) fn alias(name: String, service: String) -> Self {
        Self {
            name,
            alias_service: service,
            ..Self::default()
        }
    }

    /// Whether it says nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether what it says makes sense. The error is a text for the client.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let probes = self.is_script() || self.targets().into_iter().any(|target| !target.is_empty());
        let interval = !self.interval.is_zero();
        let ttl = !self.ttl.is_zero();
        if interval && ttl {
            return Err("Interval and TTL cannot both be specified");
        }
        if probes && !interval {
            return Err("Interval must be > 0 for Script, HTTP, or TCP checks");
        }
        if probes && self.is_alias() {
            return Err("Interval cannot be set for Alias checks");
        }
        if self.is_alias() && ttl {
            return Err("TTL must be not be set for Alias checks");
        }
        if !probes && !self.is_alias() && !ttl {
            return Err("TTL must be > 0 for TTL checks");
        }
        if self.output_max < 0 {
            return Err("MaxOutputMaxSize must be positive");
        }
        Ok(())
    }

    /// The status that it begins with; `Err`: what it says is none.
    pub(super) fn first_status(&self) -> Result<Option<Status>, lictor_catalog::UnknownStatus> {
        if self.status.is_empty() {
            return Ok(None);
        }
        self.status.parse().map(Some)
    }

    /// The same for the agent, which begins with `status`. Only for one that makes sense.
    pub(super) fn into_spec(self, status: Option<Status>) -> CheckSpec {
        let thresholds = Thresholds {
            success_before_passing: at_least_0(self.success_before_passing),
            failures_before_warning: (self.failures_before_warning > 0)
                .then(|| at_least_0(self.failures_before_warning)),
            failures_before_critical: at_least_0(self.failures_before_critical),
        };
        CheckSpec {
            status,
            thresholds,
            deregister_after: self.deregister_after,
            output_max: usize::try_from(self.output_max).unwrap_or_default(),
            id: self.id.as_str().into(),
            name: self.name.as_str().into(),
            notes: self.notes.as_str().into(),
            service_id: self.service_id.as_str().into(),
            token: self.token.as_str().into(),
            method: self.into_method(),
        }
    }

    fn into_method(self) -> CheckMethod {
        if !self.ttl.is_zero() {
            return CheckMethod::Ttl(self.ttl);
        }
        if self.is_alias() {
            return CheckMethod::Alias {
                node: self.alias_node.into(),
                service: self.alias_service.into(),
            };
        }
        let (interval, timeout) = (self.interval, self.timeout);
        CheckMethod::Probe {
            probe: Arc::new(self.into_probe()),
            interval,
            timeout: (!timeout.is_zero()).then_some(timeout),
        }
    }

    /// Of several things to look at the first counts.
    fn into_probe(self) -> Probe {
        let tls = ProbeTls {
            skip_verify: self.tls_skip_verify,
            server_name: self.tls_server_name,
        };
        if !self.http.is_empty() {
            Probe::Http {
                url: self.http,
                method: self.method,
                headers: self.header,
                body: self.body,
                disable_redirects: self.disable_redirects,
                tls,
            }
        } else if !self.tcp.is_empty() {
            Probe::Tcp {
                address: self.tcp,
                tls: self.tcp_use_tls.then_some(tls),
            }
        } else if !self.udp.is_empty() {
            Probe::Udp { address: self.udp }
        } else if !self.grpc.is_empty() {
            Probe::Grpc {
                target: self.grpc,
                tls: self.grpc_use_tls.then_some(tls),
            }
        } else if !self.h2ping.is_empty() {
            Probe::H2Ping {
                address: self.h2ping,
                tls: self.h2ping_use_tls.unwrap_or(true).then_some(tls),
            }
        } else if !self.docker_container.is_empty() {
            Probe::Docker {
                container: self.docker_container,
                shell: self.shell,
                args: self.args,
            }
        } else {
            Probe::Script { args: self.args }
        }
    }

    /// Whether it runs a program. A container without a command is nothing to look at.
    const fn is_script(&self) -> bool {
        !self.args.is_empty()
    }

    const fn is_alias(&self) -> bool {
        !self.alias_node.is_empty() || !self.alias_service.is_empty()
    }

    const fn targets(&self) -> [&String; 5] {
        [&self.http, &self.tcp, &self.udp, &self.grpc, &self.h2ping]
    }
}

fn at_least_0(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

/// Takes out a duration that is below 0, and says whether it did.
fn drop_if_below_zero(fields: &mut Fields, name: &str) -> bool {
    let below_zero = fields.peek(name).is_some_and(|value| match value {
        Value::String(text) => matches!(parse_duration(text), Ok(Signed::Negative)),
        Value::Number(number) => number.as_f64().is_some_and(|number| number < 0.0),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    });
    if below_zero {
        fields.take(name);
    }
    below_zero
}

fn header(fields: &mut Fields) -> Result<Vec<(String, Vec<String>)>, String> {
    let place = fields.place("Header", "[]string");
    let members = fields.members("Header", "map[string][]string")?;
    members
        .into_iter()
        .map(|(name, values)| {
            let values = items_at(values, &place)?.into_iter();
            let values = values.map(|value| match value {
                Value::String(text) => Ok(text),
                other @ (Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_)) => Err(format!(
                    "a value of the header {} must be a text, and is {other}",
                    quote(name.as_bytes())
                )),
            });
            let values = values.collect::<Result<_, String>>()?;
            Ok((name, values))
        })
        .collect()
}
