//! A watch's question to this agent's own API.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use futures_lite::FutureExt as _;
use lictor_http::{Door, offload};
use lictor_watch::{Progress, Version, VersionKind};
use ureq_proto::http::header::{HOST, HeaderName, HeaderValue, InvalidHeaderValue};
use ureq_proto::http::uri::{InvalidUri, Uri};
use ureq_proto::http::{Request, StatusCode};

use super::Told;
use crate::checks::exchange::{self, Response};
use crate::config::Watch;

/// How long a question waits for a change.
const WAIT: &str = "300s";

/// How long it may take: longer than it waits, and than the API then looks for a leader.
const LIMIT: Duration = Duration::from_mins(10);

/// The largest answer that is read, in bytes.
const ANSWER_MAX: usize = 1 << 30;

/// How much of an error's text is kept, in bytes.
const ERROR_MAX: usize = 4096;

/// Who may see what is watched.
const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("this agent's API: {0}")]
    Connect(#[from] io::Error),
    #[error("this agent's API: {0}")]
    Exchange(#[from] exchange::Failure),
    #[error("this agent's API has not answered within {LIMIT:?}")]
    Late,
    #[error("Unexpected response code: {status} ({body})")]
    Refused { status: u16, body: String },
    #[error("the answer has no {}", .0.header())]
    NoVersion(VersionKind),
    #[error("the answer has more than {ANSWER_MAX} bytes: watch less")]
    TooLong,
    #[error("cannot understand the answer: {0}")]
    Nonsense(#[from] serde_json::Error),
    #[error("what is watched cannot be asked for: {0}")]
    Uri(#[from] InvalidUri),
    #[error("the token has characters that no header can have")]
    Token(#[from] InvalidHeaderValue),
}

/// Asks once: for what there is, or for what there is when that is not what was seen any more, or when it has taken too long. `None`:
/// nothing that is not known. If this is dropped it may be forgotten what was seen.
pub(super) async fn ask(
    api: &Door,
    watch: &Arc<Watch>,
    progress: &mut Progress,
) -> Result<Option<Told>, AskError> {
    let late = async {
        Timer::after(LIMIT).await;
        Err(AskError::Late)
    };
    let (version, body) = exchange(api, watch, progress.seen()).or(late).await?;
    let (watch, mut seen) = (Arc::clone(watch), std::mem::take(progress));
    let (told, seen) = offload(body.as_ref().map_or(0, Vec::len), move || {
        let index = version.index();
        let told = watch.plan.read(body.as_deref()).and_then(|found| {
            let news = seen.take(version, found);
            news.map(|news| news.compact().map(|json| Told { json, index }))
                .transpose()
        });
        (told, seen)
    })
    .await;
    *progress = seen;
    Ok(told?)
}

async fn exchange(
    api: &Door,
    watch: &Watch,
    seen: Option<&Version>,
) -> Result<(Version, Option<Vec<u8>>), AskError> {
    let stream = api.connect().await?;
    let mut response = exchange::send(stream, request(watch, seen)?, b"").await?;
    let mut body = Vec::new();
    match response.status {
        StatusCode::OK => {
            response.read_up_to(ANSWER_MAX + 1, &mut body).await?;
            if body.len() > ANSWER_MAX {
                return Err(AskError::TooLong);
            }
            Ok((version(watch, &response)?, Some(body)))
        }
        StatusCode::NOT_FOUND if watch.plan.may_find_nothing() => Ok((version(watch, &response)?, None)),
        status => {
            // What can be had of it.
            let _ = response.read_up_to(ERROR_MAX, &mut body).await;
            Err(AskError::Refused {
                status: status.as_u16(),
                body: String::from_utf8_lossy(&body).trim_end().to_owned(),
            })
        }
    }
}

fn request(watch: &Watch, seen: Option<&Version>) -> Result<Request<()>, AskError> {
    let seen = seen.map(Version::parameter);
    let seen = seen.as_ref().map(|(name, value)| (*name, value.as_str()));
    let datacenter = watch.datacenter.as_deref().map(|name| ("dc", name));
    let more = seen.into_iter().chain([("wait", WAIT)]).chain(datacenter);
    // The host is a formality.
    let uri: Uri = format!("http://localhost{}", watch.plan.target(more)).parse()?;
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    if let Some(token) = &watch.token {
        headers.insert(TOKEN, HeaderValue::from_str(token)?);
    }
    Ok(request)
}

fn version(watch: &Watch, response: &Response) -> Result<Version, AskError> {
    let kind = watch.plan.versions();
    let header = response.headers.get(kind.header());
    let version = header.and_then(|header| kind.read(header.to_str().ok()?));
    version.ok_or(AskError::NoVersion(kind))
}
