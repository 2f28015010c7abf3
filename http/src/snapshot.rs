//! `/v1/snapshot`: the whole state of a data center as an archive, out and back in.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

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

/// How many bytes of an archive have to come in a second, in the long run.
const BYTES_A_SECOND: u32 = 16 << 10;

/// Bytes that may come slowly, but not with long pauses, and not for ever next to none: waiting for them uses patience up, and what comes gives
/// some of it back, but never more than there was at first.
struct Impatient<R> {
    inner: R,
    patience_max: Duration,
    patience: Duration,
    /// Since when nothing has come, and what runs out when that is too long.
    waiting: Option<(Instant, Timer)>,
}

impl<R> Impatient<R> {
    fn new(inner: R, patience: Duration) -> Self {
        Self {
            inner,
            patience_max: patience,
            patience,
            waiting: None,
        }
    }

    fn came(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            let earned = Duration::from_secs(bytes as u64) / BYTES_A_SECOND;
            let left = self.patience.saturating_sub(since.elapsed());
            self.patience = (left + earned).min(self.patience_max);
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Impatient<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(cx, buffer) {
            this.came(*read.as_ref().unwrap_or(&0));
            return Poll::Ready(read);
        }
        let patience = this.patience;
        let (_, timer) = this
            .waiting
            .get_or_insert_with(|| (Instant::now(), Timer::after(patience)));
        match timer.poll(cx) {
            Poll::Ready(_) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "it comes too slowly: next to nothing in {} seconds",
                    this.patience_max.as_secs()
                ),
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

    /// Gives a byte after a pause, again and again, without an end.
    struct Dripping {
        pause: Duration,
        next: Timer,
    }

    impl AsyncRead for Dripping {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if self.next.poll(cx).is_pending() {
                return Poll::Pending;
            }
            let pause = self.pause;
            self.next = Timer::after(pause);
            buffer[0] = 7;
            Poll::Ready(Ok(1))
        }
    }

    #[test]
    fn a_client_that_sends_next_to_nothing_is_not_waited_for_either() {
        let pause = Duration::from_millis(2);
        let dripping = Dripping {
            pause,
            next: Timer::after(pause),
        };
        let mut archive = Archive::new(Impatient::new(dripping, pause * 10));
        let mut content = Vec::new();
        let error = block_on(archive.read_to_end(&mut content)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Each was there before all patience was gone, and earned next to none.
        assert!(content.len() <= 10, "{} bytes", content.len());
    }

    #[test]
    fn what_comes_gives_patience_back() {
        let mut waiting = Impatient::new(Stuck(b""), Duration::from_mins(1));
        waiting.patience = Duration::from_secs(30);
        let since = |seconds| {
            let since = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
            Some((since, Timer::never()))
        };
        let about = |patience: Duration, seconds: u64| {
            let wanted = Duration::from_secs(seconds);
            assert!(
                patience <= wanted && patience > wanted / 2,
                "{patience:?}, and about {wanted:?} are wanted"
            );
        };
        waiting.waiting = since(10);
        waiting.came(5 * BYTES_A_SECOND as usize);
        about(waiting.patience, 25);
        waiting.came(5);
        about(waiting.patience, 25);
        waiting.waiting = since(10);
        waiting.came(1 << 40);
        assert_eq!(
            waiting.patience,
            Duration::from_mins(1),
            "never more than at first"
        );
    }
}
