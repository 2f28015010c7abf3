//! `/v1/agent/monitor`: what the agent logs, as long as the client reads.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_lite::{AsyncWriteExt as _, FutureExt as _};
use trillium::{Status, Upgrade};

use crate::backend::Failure;
use crate::log_lines::{LogFormat, LogLevel, LogLines};
use crate::reply::{Content, Fault, Reply};
use crate::request::Request;

/// How much of what a client sends, which nobody waits for, is taken.
const READ_AHEAD_MAX: usize = 4 << 10;

/// Begins to read along.
pub(crate) fn monitor(request: &Request<'_>) -> Result<Reply, Fault> {
    let level = match request.params.text("loglevel") {
        None => LogLevel::Info,
        Some(name) if name.is_empty() => LogLevel::Info,
        Some(name) => LogLevel::parse(&name)
            .ok_or_else(|| Fault::bad_request(format!("Bad request: Unknown log level: {name}")))?,
    };
    let format = if request.params.has("logjson") {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    let lines = request.api.agent.log().read(level, format);
    let lines = lines.ok_or_else(|| Failure::Busy {
        limit: "log readers".into(),
        retry_after: Duration::from_secs(1),
    })?;
    Ok(Reply::new(Status::Ok, Content::Log(lines)))
}

/// Sends lines until the client leaves or the server stops.
pub(crate) async fn send(mut lines: LogLines, mut client: Upgrade) {
    let stopping = client.swansong();
    loop {
        let left = poll_fn(|cx| Pin::new(client.as_mut()).poll_closed(cx, READ_AHEAD_MAX));
        let ended = left.or(async {
            stopping.clone().shutting_down().await;
        });
        let next = async { Some(lines.next().await) }
            .or(async {
                ended.await;
                None
            })
            .await;
        let Some(next) = next else { break };
        let sent = async {
            client.write_all(&next).await?;
            client.flush().await
        };
        // A client that takes nothing for too long has left too.
        if sent.await.is_err() {
            return;
        }
    }
    // This ends the answer in good order, for a client that is still there to see it.
    let _ = client.close().await;
}
