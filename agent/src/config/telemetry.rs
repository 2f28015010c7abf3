//! Metrics: what they are called, which there are, and how long they are shown.

use std::time::Duration;

use super::Settings;
use super::error::Warning;
use super::parsing::Parsing;

/// The agent's metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Zero: there is no Prometheus form. How long it is beyond that does not matter, since no metric expires.
    pub prometheus_retention: Duration,
    /// Whether the names of gauges do without the name of the host.
    pub disable_hostname: bool,
    /// What all names begin with. May be empty.
    pub prefix: String,
    /// Names that begin with one of these are there.
    pub allowed_prefixes: Vec<String>,
    /// Names that begin with one of these are not there, unless a longer prefix allows them.
    pub blocked_prefixes: Vec<String>,
    /// Whether names are there of which no prefix says anything.
    pub filter_default: bool,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            prometheus_retention: Duration::ZERO,
            disable_hostname: false,
            prefix: "consul".to_owned(),
            allowed_prefixes: Vec::new(),
            blocked_prefixes: Vec::new(),
            filter_default: true,
        }
    }
}

/// Reads them. Rules of the filter that make no sense are left out with a warning.
pub(super) fn parse(parsed: &mut Parsing, settings: &Settings, warnings: &mut Vec<Warning>) -> Telemetry {
    let usual = Telemetry::default();
    let mut telemetry = Telemetry {
        prometheus_retention: parsed.duration(
            "telemetry.prometheus_retention_time",
            settings.telemetry_prometheus_retention_time.as_deref(),
            usual.prometheus_retention,
        ),
        disable_hostname: settings
            .telemetry_disable_hostname
            .unwrap_or(usual.disable_hostname),
        prefix: settings.telemetry_metrics_prefix.clone().unwrap_or(usual.prefix),
        filter_default: settings.telemetry_filter_default.unwrap_or(usual.filter_default),
        ..usual
    };
    for rule in &settings.telemetry_prefix_filter {
        if let Some(prefix) = rule.strip_prefix('+') {
            telemetry.allowed_prefixes.push(prefix.to_owned());
        } else if let Some(prefix) = rule.strip_prefix('-') {
            telemetry.blocked_prefixes.push(prefix.to_owned());
        } else if rule.is_empty() {
            warnings.push(Warning(
                "Cannot have empty filter rule in prefix_filter".to_owned(),
            ));
        } else {
            warnings.push(Warning(format!(
                "Filter rule must begin with either '+' or '-': {rule:?}"
            )));
        }
    }
    telemetry
}
