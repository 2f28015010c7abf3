//! Watches that files define: from the settings to what is watched, and who is told.

use std::fmt;
use std::time::Duration;

use lictor_watch::{Parameters, Plan, PlanError};
use serde_json::Value;
use ureq_proto::http::{HeaderName, HeaderValue, Method};
use url::Url;

use super::duration::parse_duration;
use super::error::{ConfigError, Warning};
use super::keys;
use super::settings::Definition;

/// More than a configuration that a person wrote. Each holds a connection to this agent's own API, and a thread while it runs a program.
const MAX_WATCHES: usize = 256;

/// How long telling an address may take if nothing is said of that.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// What this agent watches, and whom it tells.
#[derive(Clone, PartialEq, Eq)]
pub struct Watch {
    /// What is watched.
    pub plan: Plan,
    /// The data center to ask; `None` is the agent's own.
    pub datacenter: Option<String>,
    /// A secret: who asks. `None` leaves it to the agent's own default.
    pub token: Option<String>,
    /// Who is told what there is, and whenever that has changed.
    pub handler: WatchHandler,
}

/// Who is told of a change.
#[derive(Clone, PartialEq, Eq)]
pub enum WatchHandler {
    /// A program with its arguments, on its standard input. Not empty.
    Program(Vec<String>),
    /// A line of commands that a shell reads, on the standard input of what it runs.
    Shell(String),
    /// An address, by a request.
    Http(WatchAddress),
}

/// An address that is told of changes.
#[derive(Clone, PartialEq, Eq)]
pub struct WatchAddress {
    /// An absolute one, `http` or `https`.
    pub url: String,
    /// The request's method: a valid one.
    pub method: String,
    /// Headers of the request, with all their values: valid ones. Some may be secrets.
    pub headers: Vec<(String, Vec<String>)>,
    /// How long it may take; not zero.
    pub timeout: Duration,
    /// Whether any certificate is good enough.
    pub skip_verify: bool,
}

impl fmt::Debug for Watch {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("plan", &self.plan)
            .field("handler", &self.handler)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WatchHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WatchHandler({self})")
    }
}

impl fmt::Debug for WatchAddress {
    /// Without the headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchAddress")
            .field("method", &self.method)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for WatchHandler {
    /// For people who read the log: without passwords and queries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(args) => f.write_str(&args.join(" ")),
            Self::Shell(line) => f.write_str(line),
            Self::Http(address) => {
                let url = Url::parse(&address.url).ok();
                let place = url
                    .as_ref()
                    .map_or("", |url| &url[..url::Position::BeforeUsername]);
                let path = url.as_ref().map_or("", |url| {
                    &url[url::Position::BeforeHost..url::Position::AfterPath]
                });
                write!(f, "{place}{path}")
            }
        }
    }
}

/// Builds what files define. All problems are reported together, each with the place of its watch among all.
pub(super) fn build(
    settings: Vec<Definition>,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Watch>, ConfigError> {
    if settings.len() > MAX_WATCHES {
        return Err(ConfigError::Invalid(format!(
            "watches: {} entries; at most {MAX_WATCHES} are allowed",
            settings.len()
        )));
    }
    let mut problems = Vec::new();
    let mut watches = Vec::with_capacity(settings.len());
    for (at, said) in settings.into_iter().enumerate() {
        match watch(said) {
            Ok(watch) => {
                if let WatchHandler::Shell(_) = watch.handler {
                    warnings.push(Warning(format!(
                        "watches[{at}]: The 'handler' field in watches has been deprecated and replaced with the 'args' field."
                    )));
                }
                watches.push(watch);
            }
            Err(problem) => problems.push(format!("watches[{at}]: {problem}")),
        }
    }
    if problems.is_empty() {
        Ok(watches)
    } else {
        Err(ConfigError::Values(problems))
    }
}

/// Why something is no watch. Those of Consul have its texts.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("Failed to parse watch: {0}")]
    Plan(#[from] PlanError),
    #[error("Failed to parse watch: Watch type must be specified")]
    NoType,
    #[error("Watch type {0} is not allowed in agent config")]
    NotHere(String),
    #[error("Watch handler must be a string")]
    Handler,
    #[error("Watch args must be a list of strings")]
    Args,
    #[error("Only one watch handler allowed")]
    Several,
    #[error("Must define a watch handler")]
    NoHandler,
    #[error("Handler type '{0}' not recognized")]
    HandlerType(String),
    #[error("Failed to parse watch: Handler type 'http' requires 'http_handler_config' to be set")]
    NoAddress,
    #[error("Failed to parse watch: Failed to parse 'http_handler_config': {0}")]
    Address(String),
}

fn watch(said: Definition) -> Result<Watch, Problem> {
    let mut said = Parameters::new(said);
    let kind = said.text("type")?.ok_or(Problem::NoType)?;
    // They are of use to proxies only.
    if let "connect_roots" | "connect_leaf" = kind.as_str() {
        return Err(Problem::NotHere(kind));
    }
    let handler = handler(&mut said)?;
    Ok(Watch {
        datacenter: said.text("datacenter")?,
        token: said.text("token")?,
        plan: Plan::new(&kind, said)?,
        handler,
    })
}

fn handler(said: &mut Parameters) -> Result<WatchHandler, Problem> {
    let handler_type = said.text("handler_type")?;
    let line = said.text("handler").map_err(|_| Problem::Handler)?;
    let args = said.texts("args").map_err(|_| Problem::Args)?;
    let args = args.filter(|args| args.first().is_some_and(|program| !program.is_empty()));
    match handler_type.as_deref() {
        Some("http") => {
            let address = said.take("http_handler_config").ok_or(Problem::NoAddress)?;
            if line.is_some() || args.is_some() {
                return Err(Problem::Several);
            }
            let address = address_of(&address).map_err(Problem::Address)?;
            Ok(WatchHandler::Http(address))
        }
        None | Some("script") => match (args, line) {
            (Some(_), Some(_)) => Err(Problem::Several),
            (Some(args), None) => Ok(WatchHandler::Program(args)),
            (None, Some(line)) => Ok(WatchHandler::Shell(line)),
            (None, None) => Err(Problem::NoHandler),
        },
        Some(other) => Err(Problem::HandlerType(other.to_owned())),
    }
}

fn address_of(said: &Value) -> Result<WatchAddress, String> {
    let said = keys::watch_address(said)?;
    let url = said.path.filter(|path| !path.is_empty());
    let url = url.ok_or("Requires 'path' to be set")?;
    let known = Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !known {
        return Err(format!(
            "'path' must be an address that begins with http:// or https://, not {url:?}"
        ));
    }
    let method = said.method.filter(|method| !method.is_empty());
    let method = method.unwrap_or_else(|| "POST".to_owned());
    if Method::from_bytes(method.as_bytes()).is_err() {
        return Err(format!("invalid method {method:?}"));
    }
    for (name, values) in &said.headers {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(format!("invalid header field name {name:?}"));
        }
        // The value may be a secret.
        if values.iter().any(|value| HeaderValue::from_str(value).is_err()) {
            return Err(format!("invalid header field value for {name:?}"));
        }
    }
    let timeout = match said.timeout.as_deref() {
        None | Some("") => HTTP_TIMEOUT,
        Some(text) => parse_duration(text).map_err(|error| format!("Failed to parse timeout: {error}"))?,
    };
    if timeout.is_zero() {
        return Err("'timeout' must be longer than 0s".to_owned());
    }
    Ok(WatchAddress {
        url,
        method,
        headers: said.headers.into_iter().collect(),
        timeout,
        skip_verify: said.skip_verify.unwrap_or(false),
    })
}
