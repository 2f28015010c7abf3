//! `/v1/agent/metrics`: what the agent counts about itself, as JSON, or as Prometheus reads it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::Instant;

use lictor_machine::UnixMillis;
use lictor_metrics::{INTERVAL, Labels, Registry, Report, Sample, Series};
use serde::Serialize;
use trillium::{KnownHeaderName, Method, Status};

use crate::reply::{Content, Fault, Reply};
use crate::request::Request;
use crate::route::Route;
use crate::text::format_time;

/// The type of what Prometheus reads.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What all names begin with that mean what Consul's do, unless something else is wanted.
const PREFIX: &str = "consul";

/// What metrics are called, and which are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricNames {
    /// What names begin with instead of `consul`; empty: with nothing.
    pub prefix: String,
    /// What comes behind that in the names of gauges, so that those of many agents in one place are told apart.
    pub hostname: Option<String>,
    /// Names that begin with one of these are told of.
    pub allowed: Vec<String>,
    /// Names that begin with one of these are not. Of several beginnings the longest counts, and of equal ones this.
    pub blocked: Vec<String>,
    /// Whether names are told of that begin with none of these.
    pub others: bool,
}

impl Default for MetricNames {
    fn default() -> Self {
        Self {
            prefix: PREFIX.to_owned(),
            hostname: None,
            allowed: Vec::new(),
            blocked: Vec::new(),
            others: true,
        }
    }
}

impl MetricNames {
    /// The report under these names.
    fn apply(&self, mut report: Report) -> Report {
        report.gauges.retain_mut(|gauge| {
            gauge.name = self.name(std::mem::take(&mut gauge.name), self.hostname.as_deref());
            self.tells(&gauge.name)
        });
        for all in [&mut report.counters, &mut report.samples] {
            all.retain_mut(|series| {
                series.name = self.name(std::mem::take(&mut series.name), None);
                self.tells(&series.name)
            });
        }
        report
    }

    fn name(&self, name: Cow<'static, str>, hostname: Option<&str>) -> Cow<'static, str> {
        let Some(rest) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.')) else {
            return name;
        };
        if hostname.is_none() && self.prefix == PREFIX {
            return name;
        }
        let parts = [Some(&*self.prefix), hostname, Some(rest)];
        let parts: Vec<&str> = parts
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect();
        parts.join(".").into()
    }

    fn tells(&self, name: &str) -> bool {
        let longest = |beginnings: &[String]| {
            let found = beginnings
                .iter()
                .filter(|beginning| name.starts_with(&***beginning));
            found.map(String::len).max()
        };
        match (longest(&self.allowed), longest(&self.blocked)) {
            (None, None) => self.others,
            (allowed, blocked) => allowed > blocked,
        }
    }
}

/// The methods that are told apart.
const METHODS: [Method; 6] = [
    Method::Get,
    Method::Put,
    Method::Post,
    Method::Delete,
    Method::Head,
    Method::Options,
];

/// How long requests took, by endpoint and method.
#[derive(Debug)]
pub(crate) struct Timers {
    metrics: Registry,
    /// By endpoint, then by the place of the method.
    samples: Vec<[OnceLock<Sample>; METHODS.len()]>,
}

impl Timers {
    /// For so many endpoints.
    pub(crate) fn new(metrics: Registry, endpoints: usize) -> Self {
        let samples = (0..endpoints).map(|_| std::array::from_fn(|_| OnceLock::new()));
        Self {
            metrics,
            samples: samples.collect(),
        }
    }

    /// Takes how long a request took that began at `start`. Methods that nobody knows are not told apart, as there may be many.
    pub(crate) fn record(&self, route: &Route, method: Method, start: Instant) {
        let place = METHODS.iter().position(|known| *known == method);
        let Some((place, samples)) = place.zip(self.samples.get(route.endpoint as usize)) else {
            return;
        };
        let sample = samples[place].get_or_init(|| self.metrics.sample(name(route.pattern, method)));
        sample.record_since(start);
    }
}

/// `consul.http.GET.v1.kv._` for `/v1/kv/`.
fn name(pattern: &str, method: Method) -> String {
    let mut name = format!("consul.http.{}", method.as_str());
    for part in pattern.split('/').skip(1) {
        name.push('.');
        name.push_str(if part.is_empty() { "_" } else { part });
    }
    name
}

/// Answers in the form that the client asks for.
pub(crate) fn metrics(request: &Request<'_>) -> Result<Reply, Fault> {
    let wanted = request.params.get("format") == Some(b"prometheus")
        || request
            .headers()
            .get_str(KnownHeaderName::Accept)
            .is_some_and(takes_exposition);
    if wanted && !request.api.config.prometheus {
        return Err(Fault::new(
            Status::UnsupportedMediaType,
            "Prometheus is not enabled since its retention time is not positive",
        ));
    }
    let report = request
        .api
        .config
        .metric_names
        .apply(request.api.agent.metrics().report());
    if wanted {
        let text = exposition(&report);
        return Ok(Reply::new(Status::Ok, Content::Text(text.into())).with_header("Content-Type", EXPOSITION));
    }
    let view = ReportView::new(&report);
    Ok(request.json(
        &view,
        256 * (report.gauges.len() + report.counters.len() + report.samples.len()),
    ))
}

/// Whether a client that accepts this is Prometheus, or something like it.
fn takes_exposition(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        match parts.next() {
            Some("application/openmetrics-text") => true,
            Some("text/plain") => parts.any(|part| part == "version=0.0.4"),
            Some(_) | None => false,
        }
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReportView<'a> {
    timestamp: String,
    gauges: Vec<GaugeView<'a>>,
    points: [(); 0],
    counters: Vec<SeriesView<'a>>,
    samples: Vec<SeriesView<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GaugeView<'a> {
    name: &'a str,
    value: f64,
    labels: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SeriesView<'a> {
    name: &'a str,
    count: u64,
    /// A second.
    rate: f64,
    sum: f64,
    min: f64,
    max: f64,
    mean: f64,
    stddev: f64,
    labels: BTreeMap<&'a str, &'a str>,
}

impl<'a> ReportView<'a> {
    fn new(report: &'a Report) -> Self {
        let start = format_time(UnixMillis(report.start.saturating_mul(1000)));
        let gauges = report.gauges.iter().map(|gauge| GaugeView {
            name: &gauge.name,
            value: gauge.value,
            labels: by_name(&gauge.labels),
        });
        // What nothing happened to is not told.
        let views = |series: &'a [Series]| {
            let told = series.iter().filter(|series| series.summary.count > 0);
            told.map(SeriesView::new).collect()
        };
        Self {
            timestamp: start.replace('T', " ").replace('Z', " +0000 UTC"),
            gauges: gauges.collect(),
            points: [],
            counters: views(&report.counters),
            samples: views(&report.samples),
        }
    }
}

impl<'a> SeriesView<'a> {
    fn new(series: &'a Series) -> Self {
        let summary = &series.summary;
        Self {
            name: &series.name,
            count: summary.count,
            rate: summary.sum / INTERVAL.as_secs_f64(),
            sum: summary.sum,
            min: summary.min,
            max: summary.max,
            mean: summary.mean(),
            stddev: summary.deviation(),
            labels: by_name(&series.labels),
        }
    }
}

fn by_name(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().map(|(name, value)| (&**name, &**value)).collect()
}

/// The text that Prometheus reads.
fn exposition(report: &Report) -> String {
    let mut out = String::new();
    let mut last = String::new();
    let mut begin = |out: &mut String, name: &str, kind: &str| {
        let name = plain_name(name);
        if name != last {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# TYPE {name} {kind}");
            last.clone_from(&name);
        }
        name
    };
    for gauge in &report.gauges {
        let name = begin(&mut out, &gauge.name, "gauge");
        line(&mut out, &name, &gauge.labels, None, gauge.value);
    }
    for counter in &report.counters {
        let name = begin(&mut out, &counter.name, "counter");
        line(&mut out, &name, &counter.labels, None, counter.total.sum);
    }
    for sample in &report.samples {
        let name = begin(&mut out, &sample.name, "summary");
        for quantile in &sample.quantiles {
            line(
                &mut out,
                &name,
                &sample.labels,
                Some(quantile.share),
                quantile.value,
            );
        }
        line(
            &mut out,
            &format!("{name}_sum"),
            &sample.labels,
            None,
            sample.total.sum,
        );
        let count = sample.total.count as f64;
        line(&mut out, &format!("{name}_count"), &sample.labels, None, count);
    }
    out
}

/// A name of letters, digits and underscores.
fn plain_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(plain).collect()
}

fn line(out: &mut String, name: &str, labels: &Labels, quantile: Option<f64>, value: f64) {
    out.push_str(name);
    let mut opened = false;
    let mut label = |out: &mut String, name: &str, value: &str| {
        out.push(if opened { ',' } else { '{' });
        opened = true;
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = write!(out, "{}=\"{value}\"", plain_name(name));
    };
    for (name, value) in labels {
        label(out, name, value);
    }
    if let Some(share) = quantile {
        label(out, "quantile", &share.to_string());
    }
    if opened {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_endpoints() {
        assert_eq!(name("/v1/kv/", Method::Get), "consul.http.GET.v1.kv._");
        assert_eq!(
            name("/v1/agent/members", Method::Put),
            "consul.http.PUT.v1.agent.members"
        );
    }

    #[test]
    fn names_and_filters_are_as_wanted() {
        let registry = Registry::new();
        registry.collect(|gauges| {
            gauges.put("consul.raft.applied_index", 1.0);
            gauges.put("lictor.watches", 2.0);
        });
        registry.counter("consul.rpc.request").increment();
        registry.counter("consul.rpc.query").increment();
        registry.sample("consul.kvs.apply").record(1.0);
        let names = |names: MetricNames| -> Vec<String> {
            let report = names.apply(registry.report());
            let gauges = report.gauges.into_iter().map(|gauge| gauge.name);
            let series = report.counters.into_iter().chain(report.samples);
            gauges
                .chain(series.map(|series| series.name))
                .map(Cow::into_owned)
                .collect()
        };
        assert_eq!(
            names(MetricNames::default()),
            [
                "consul.raft.applied_index",
                "lictor.watches",
                "consul.rpc.query",
                "consul.rpc.request",
                "consul.kvs.apply"
            ]
        );
        assert_eq!(
            names(MetricNames {
                prefix: "disco".to_owned(),
                hostname: Some("vm".to_owned()),
                allowed: vec!["disco.rpc.query".to_owned()],
                blocked: vec!["disco.rpc".to_owned(), "lictor".to_owned()],
                others: true,
            }),
            [
                "disco.vm.raft.applied_index",
                "disco.rpc.query",
                "disco.kvs.apply"
            ]
        );
        assert_eq!(
            names(MetricNames {
                prefix: String::new(),
                allowed: vec!["rpc.".to_owned(), "raft".to_owned()],
                blocked: vec!["rpc.".to_owned()],
                others: false,
                ..MetricNames::default()
            }),
            ["raft.applied_index"]
        );
    }

    #[test]
    fn prometheus_is_known_by_what_it_accepts() {
        for yes in [
            "application/openmetrics-text",
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "text/plain; version=0.0.4",
        ] {
            assert!(takes_exposition(yes), "{yes}");
        }
        for no in ["", "*/*", "text/plain", "application/json"] {
            assert!(!takes_exposition(no), "{no}");
        }
    }

    #[test]
    fn exposition_is_as_prometheus_reads_it() {
        let registry = Registry::new();
        registry.collect(|gauges| gauges.put("consul.raft.applied_index", 17.0));
        let limit = |name: &'static str| vec![("limit".into(), name.into())];
        registry
            .labelled_counter("lictor.http.refused", limit("a\"\\\n"))
            .increment();
        registry
            .labelled_counter("lictor.http.refused", limit("b"))
            .add(3);
        registry.sample("consul.http.GET.v1.kv._").record(0.0);
        let text = exposition(&registry.report());
        let lines: Vec<_> = text.lines().filter(|line| !line.contains("quantile")).collect();
        assert_eq!(
            lines,
            [
                "# TYPE consul_raft_applied_index gauge",
                "consul_raft_applied_index 17",
                "# TYPE lictor_http_refused counter",
                "lictor_http_refused{limit=\"a\\\"\\\\\\n\"} 1",
                "lictor_http_refused{limit=\"b\"} 3",
                "# TYPE consul_http_GET_v1_kv__ summary",
                "consul_http_GET_v1_kv___sum 0",
                "consul_http_GET_v1_kv___count 1",
            ]
        );
    }
}
