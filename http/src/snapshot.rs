//! `/v1/snapshot`: the whole state of a data center as an archive, out and back in.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Timer;
use futures_lite::{AsyncRead, FutureExt as _};
use trillium::{Method, Status};

use crate::backend::{ReadMode, ReadOptions};
use crate::reply::{Content, Fault, Meta, Reply};
use crate::request::Request;

/// The bytes of an archive, as they come. What they mean is known to whoever makes and takes them.
///
/// One that cannot be had to its end ends with an error.
pub struct Archive<'a>(Pin<Box<dyn AsyncRead + Send + 'a>>);

impl<'a> Archive<'a> {
    /// These bytes.
    pub fn new(bytes: impl AsyncRead + Send + 'a) -> Self {
        Self(Box::pin(bytes))
    }
}

impl AsyncRead for Archive<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl fmt::Debug for Archive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Archive")
    }
}

/// What is still to come can be known of no two; each is only itself.
impl PartialEq for Archive<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Archive<'_> {}

/// Makes an archive, or restores one.
pub(crate) async fn snapshot(request: &mut Request<'_>) -> Result<Reply, Fault> {
    if request.conn.method() == Method::Put {
        restore(request).await
    } else {
        save(request).await
    }
}

async fn save(request: &Request<'_>) -> Result<Reply, Fault> {
    let params = &request.params;
    let options = params.lenient_write_options(request.headers());
    let mode = if params.has("stale") {
        ReadMode::Stale { max: None }
    } else if params.has("consistent") {
        ReadMode::Consistent
    } else {
        ReadMode::Default
    };
    let options = ReadOptions {
        mode,
        datacenter: options.datacenter,
        token: options.token,
        ..ReadOptions::default()
    };
    let reading = request.api.backend.snapshot(options).await?;
    let meta = Meta::blocking(&reading);
    Ok(Reply::new(Status::Ok, Content::Archive(reading.value)).with_meta(meta))
}

async fn restore(request: &mut Request<'_>) -> Result<Reply, Fault> {
    if request.params.has("stale") {
        return Err(Fault::internal("stale not allowed for restore"));
    }
    let options = request.params.lenient_write_options(request.headers());
    let patience = request.api.config.body_timeout;
    let backend = &request.api.backend;
    // Whoever takes it says how large it may be.
    let body = request.conn.request_body().with_max_len(u64::MAX);
    let archive = Archive::new(Impatient::new(body, patience));
    match backend.restore(archive, options).await {
        Ok(()) => {
            request.body_read = true;
            Ok(Reply::empty())
        }
        // What is left of it is not worth reading.
        Err(failure) => Err(Fault::from(failure).closing()),
    }
}

/// Bytes that may come slowly, but not with long pauses.
struct Impatient<R> {
    inner: R,
    patience: Duration,
    /// Runs out when nothing has come for that long.
    timer: Timer,
}

impl<R> Impatient<R> {
    fn new(inner: R, patience: Duration) -> Self {
        Self {
            inner,
            patience,
            timer: Timer::after(patience),
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Impatient<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Poll::Ready(taken) = Pin::new(&mut this.inner).poll_read(cx, buffer) {
            this.timer = Timer::after(this.patience);
            return Poll::Ready(taken);
        }
        match this.timer.poll(cx) {
            Poll::Ready(_) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("nothing has come for {} seconds", this.patience.as_secs()),
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::AsyncReadExt as _;
    use futures_lite::future::block_on;

    use super::*;

    /// Gives what it has, and then nothing more, without an end.
    struct Stuck(&'static [u8]);

    impl AsyncRead for Stuck {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if self.0.is_empty() {
                return Poll::Pending;
            }
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    #[test]
    fn a_client_that_sends_nothing_more_is_not_waited_for() {
        let mut archive = Archive::new(Impatient::new(Stuck(b"abc"), Duration::from_millis(1)));
        let mut content = Vec::new();
        let error = block_on(archive.read_to_end(&mut content)).unwrap_err();
        assert_eq!(content, b"abc");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
