//! `/v1/event/`: telling all agents something, and what they were told.

use std::time::Duration;

use async_io::Timer;
use futures_lite::FutureExt as _;
use lictor_gossip::MAX_USER_EVENT_BYTES;
use lictor_machine::Index;
use regex_syntax::ast::ErrorKind;
use regex_syntax::ast::parse::Parser;
use serde::Serialize;

use crate::backend::Failure;
use crate::event_log::{UserEvent, compile};
use crate::json::{Array, Blob};
use crate::params::Waits;
use crate::reply::{Fault, Meta, Reply};
use crate::request::Request;

/// How long a list waits when it does not say, and at most.
const WAIT: Duration = Duration::from_mins(10);

/// The format that events tell clients they have.
const VERSION: u64 = 1;

/// Tells all agents something.
pub(crate) async fn fire(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let name = request.rest_text();
    if name.is_empty() {
        return Err(Fault::bad_request("Missing name"));
    }
    let payload = request.small_body().await?.into();
    let filter = |name| request.params.text(name).unwrap_or_default().into_owned();
    let event = UserEvent {
        id: request.api.uuid(),
        name,
        payload,
        node_filter: filter("node"),
        service_filter: filter("service"),
        tag_filter: filter("tag"),
        time: 0,
    };
    check(&event).map_err(Fault::internal)?;
    let (name, content) = event.to_gossip();
    if name.len() + content.len() > MAX_USER_EVENT_BYTES {
        return Err(Failure::Several(vec![format!(
            "error broadcasting event to segment \"\": user event exceeds configured limit of \
             {MAX_USER_EVENT_BYTES} bytes before encoding"
        )])
        .into());
    }
    let reply = request.json(&EventView::new(&event), 256 + event.payload.len() * 4 / 3);
    let options = request.params.lenient_write_options(request.headers());
    request.api.backend.fire_event(event, options).await?;
    Ok(reply)
}

/// What this agent was told.
pub(crate) async fn list(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let waits = Waits {
        default: WAIT,
        max: WAIT,
    };
    let (min_index, wait) = request.params.index_and_wait(waits)?;
    let name = request.params.text("name").map(std::borrow::Cow::into_owned);
    let log = request.api.agent.events();
    if min_index != Index::ZERO {
        let news = async {
            loop {
                // First listen, then look: nothing in between is missed.
                let changed = log.changed();
                if log.list(name.as_deref()).0 != min_index.0 {
                    return;
                }
                changed.await;
            }
        };
        let timeout = async {
            Timer::after(wait).await;
        };
        request.wait(news.or(timeout)).await?;
    }
    let (index, events) = log.list(name.as_deref());
    let capacity = events.iter().map(|event| 256 + event.payload.len() * 4 / 3).sum();
    let view = Array(|| events.iter().map(|event| EventView::new(event)));
    Ok(request.json(&view, capacity).with_meta(Meta::Index(Index(index))))
}

/// Whether the filters of an event make sense; the error is a text for the client.
fn check(event: &UserEvent) -> Result<(), String> {
    if !event.tag_filter.is_empty() && event.service_filter.is_empty() {
        return Err("Cannot provide tag filter without service filter".to_owned());
    }
    for (kind, filter) in [
        ("node", &event.node_filter),
        ("service", &event.service_filter),
        ("tag", &event.tag_filter),
    ] {
        if compile(filter).is_err() {
            let why = regex_error(filter);
            return Err(format!("Invalid {kind} filter: error parsing regexp: {why}"));
        }
    }
    Ok(())
}

/// What is wrong with a regular expression, in the words that clients know where there are such.
pub(crate) fn regex_error(pattern: &str) -> String {
    let Err(error) = Parser::new().parse(pattern) else {
        return format!("expression too large or not supported: `{pattern}`");
    };
    let from = pattern.get(error.span().start.offset..).unwrap_or_default();
    let known = [
        (ErrorKind::GroupUnclosed, "missing closing )", pattern),
        (ErrorKind::GroupUnopened, "unexpected )", pattern),
        (ErrorKind::ClassUnclosed, "missing closing ]", from),
        (
            ErrorKind::RepetitionMissing,
            "missing argument to repetition operator",
            from,
        ),
        (
            ErrorKind::EscapeUnexpectedEof,
            "trailing backslash at end of expression",
            "",
        ),
        (ErrorKind::EscapeUnrecognized, "invalid escape sequence", from),
    ];
    match known.iter().find(|(kind, ..)| kind == error.kind()) {
        Some((_, text, part)) => format!("{text}: `{part}`"),
        None => format!("{}: `{pattern}`", error.kind()),
    }
}

/// An event as JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EventView<'a> {
    #[serde(rename = "ID")]
    id: String,
    name: &'a str,
    payload: Blob<'a>,
    node_filter: &'a str,
    service_filter: &'a str,
    tag_filter: &'a str,
    version: u64,
    #[serde(rename = "LTime")]
    time: u64,
}

impl<'a> EventView<'a> {
    fn new(event: &'a UserEvent) -> Self {
        Self {
            id: event.id.to_string(),
            name: &event.name,
            payload: Blob(&event.payload),
            node_filter: &event.node_filter,
            service_filter: &event.service_filter,
            tag_filter: &event.tag_filter,
            version: VERSION,
            time: event.time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_expressions_are_told_in_words_that_clients_know() {
        for (pattern, expected) in [
            ("(", "missing closing ): `(`"),
            ("a(b", "missing closing ): `a(b`"),
            ("a)", "unexpected ): `a)`"),
            ("a[b", "missing closing ]: `[b`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("a\\y", "invalid escape sequence: `\\y`"),
            (
                "(a{1000}){1000}",
                "expression too large or not supported: `(a{1000}){1000}`",
            ),
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
            assert_eq!(regex_error(pattern), expected);
        }
    }
}
