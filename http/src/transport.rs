//! A stream that does not wait for its peer for ever.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::{AsyncRead, AsyncWrite, Future as _};
use trillium::Transport;

/// How long a peer may take for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// To begin the next request.
    pub(crate) idle: Duration,
    /// From the first byte of a request's head to its end.
    pub(crate) head: Duration,
    /// To take none of an answer; see [`Patient`].
    pub(crate) write: Duration,
}

/// How many bytes a peer must take in a second, in the long run.
const BYTES_A_SECOND: f64 = 4096.0;

/// How many bytes a peer may send while a request of its is handled: part of the next one.
const AHEAD: usize = 512;

/// Anything that bytes go through both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static> Stream for S {}

/// What a server's connections are, to whom they are only transports.
pub(crate) type Connection = Patient<Box<dyn Stream>>;

impl Connection {
    /// The connection that a transport is; `None` if it belongs to a server of another kind.
    pub(crate) fn of(transport: &mut Box<dyn Transport>) -> Option<&mut Self> {
        let transport: &mut dyn Any = &mut **transport;
        transport.downcast_mut()
    }
}

/// Which part of the exchange is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is expected of the peer: a request is being handled.
    Handling,
    /// The next request's first byte is awaited. It has no deadline before somebody waits.
    Idle(Option<Instant>),
    /// The rest of a request's head is awaited.
    Head(Instant),
}

/// A stream whose reads fail with [`io::ErrorKind::TimedOut`] when a request's head takes too long, and whose writes do when the peer has
/// no patience left: waiting for it costs patience, and what it takes earns it some, but never more than it had at first. While a
/// request is handled, reads may take as long as they like.
#[derive(Debug)]
pub(crate) struct Patient<S> {
    stream: S,
    patience: Patience,
    phase: Phase,
    /// What the peer sent while its last request was handled.
    ahead: Vec<u8>,
    /// How much longer the peer may take none of an answer.
    write_patience: Duration,
    /// Since when a write waits.
    write_waits: Option<Instant>,
    alarm: Alarm,
}

impl<S> Patient<S> {
    /// Wraps a stream on which the first request is awaited.
    pub(crate) fn new(stream: S, patience: Patience) -> Self {
        Self {
            stream,
            patience,
            phase: Phase::Idle(None),
            ahead: Vec::new(),
            write_patience: patience.write,
            write_waits: None,
            alarm: Alarm::default(),
        }
    }

    /// A request's head has been read.
    pub(crate) fn handling(&mut self) {
        self.phase = Phase::Handling;
    }

    /// A request has been handled, its answer is about to be written, and then the next one is awaited.
    pub(crate) fn handled(&mut self) {
        self.phase = Phase::Idle(None);
        self.write_patience = self.patience.write;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let read = if this.ahead.is_empty() {
            Pin::new(&mut this.stream).poll_read(cx, buf)
        } else {
            Poll::Ready(Ok(this.take_ahead(buf)))
        };
        match (this.phase, &read) {
            (Phase::Handling, _) | (Phase::Head(_), Poll::Ready(_)) => read,
            (Phase::Idle(_), Poll::Ready(_)) => {
                this.phase = Phase::Head(Instant::now() + this.patience.head);
                read
            }
            (Phase::Idle(due), Poll::Pending) => {
                let due = due.unwrap_or_else(|| Instant::now() + this.patience.idle);
                this.phase = Phase::Idle(Some(due));
                this.alarm
                    .poll(cx, due)
                    .map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            (Phase::Head(due), Poll::Pending) => this
                .alarm
                .poll(cx, due)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> Patient<S> {
    /// Ready once the peer has left, while a request of its is handled. One that has ended its side of the stream counts as gone. One
    /// that sends much ahead of its turn is not read from any more, and so is not known to be gone before its turn comes.
    ///
    /// Unlike trillium's own way, this takes no memory of those who wait in silence, as those do who wait for a change.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; AHEAD];
        loop {
            let room = &mut scratch[self.ahead.len()..];
            if room.is_empty() {
                return Poll::Pending;
            }
            match Pin::new(&mut self.stream).poll_read(cx, room) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(read)) => self.ahead.extend_from_slice(&room[..read]),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Hands out what was read ahead.
    fn take_ahead(&mut self, buf: &mut [u8]) -> usize {
        let taken = self.ahead.len().min(buf.len());
        buf[..taken].copy_from_slice(&self.ahead[..taken]);
        if taken == self.ahead.len() {
            self.ahead = Vec::new();
        } else {
            self.ahead.drain(..taken);
        }
        taken
    }
}

impl<S: Unpin> Patient<S> {
    /// Lets a write fail that waits for too long. `taken`: how many bytes the peer took.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<T>>,
        taken: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        let Poll::Ready(done) = write else {
            let since = *self.write_waits.get_or_insert_with(Instant::now);
            return self
                .alarm
                .poll(cx, since + self.write_patience)
                .map(|()| Err(io::ErrorKind::TimedOut.into()));
        };
        // As long as nothing waits, as is mostly so, no patience is lost and none has to be earned.
        if let Some(since) = self.write_waits.take() {
            let left = self.write_patience.saturating_sub(since.elapsed());
            let earned = done.as_ref().map_or(0, taken) as f64 / BYTES_A_SECOND;
            self.write_patience = (left + Duration::from_secs_f64(earned)).min(self.patience.write);
        }
        Poll::Ready(done)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bounded(cx, write, |bytes| *bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.bounded(cx, write, |bytes| *bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = Pin::new(&mut self.stream).poll_flush(cx);
        self.bounded(cx, flush, |()| 0)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let close = Pin::new(&mut self.stream).poll_close(cx);
        self.bounded(cx, close, |()| 0)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static> Transport for Patient<S> {}

/// A timer for deadlines that move with every request. Arming a timer costs more than answering some requests do, so
/// it is left alone while it fires early enough: it is then armed again for what is left.
#[derive(Debug, Default)]
struct Alarm(Option<(Timer, Instant)>);

impl Alarm {
    /// Ready once `due` has passed.
    fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        loop {
            let (timer, armed) = self.0.get_or_insert_with(|| (Timer::at(due), due));
            if *armed > due {
                timer.set_at(due);
                *armed = due;
            }
            if Pin::new(&mut *timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.0 = None;
            if Instant::now() >= due {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use async_io::Async;
    use futures_lite::future::block_on;
    use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const NEVER: Duration = Duration::from_hours(1);
    const SOON: Duration = Duration::from_millis(20);

    fn pair(patience: Patience) -> (Patient<Async<UnixStream>>, Async<UnixStream>) {
        let (near, far) = Async::<UnixStream>::pair().unwrap();
        (Patient::new(near, patience), far)
    }

    fn timed_out<T: std::fmt::Debug>(result: io::Result<T>) {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn idle_peers_are_given_up() {
        let (mut near, _far) = pair(Patience {
            idle: SOON,
            head: NEVER,
            write: NEVER,
        });
        timed_out(block_on(near.read(&mut [0; 8])));
    }

    #[test]
    fn slow_heads_are_given_up_however_often_a_byte_comes() {
        let (mut near, mut far) = pair(Patience {
            idle: NEVER,
            head: SOON,
            write: NEVER,
        });
        block_on(async {
            for _ in 0..3 {
                far.write_all(b"G").await.unwrap();
                // The byte arrives, or the deadline has passed already: that is only up to the machine's speed.
                if near.read(&mut [0; 1]).await.is_err() {
                    return;
                }
            }
            timed_out(near.read(&mut [0; 1]).await);
        });
    }

    #[test]
    fn a_request_being_handled_has_no_deadline() {
        let (mut near, mut far) = pair(Patience {
            idle: SOON,
            head: SOON,
            write: NEVER,
        });
        near.handling();
        block_on(async {
            let late = async {
                Timer::after(SOON * 5).await;
                far.write_all(b"x").await.unwrap();
            };
            let mut buf = [0; 8];
            let (read, ()) = futures_lite::future::zip(near.read(&mut buf), late).await;
            assert_eq!(read.unwrap(), 1);
        });
        near.handled();
        timed_out(block_on(near.read(&mut [0; 8])));
    }

    #[test]
    fn peers_that_take_nothing_are_given_up() {
        let (mut near, _far) = pair(Patience {
            idle: NEVER,
            head: NEVER,
            write: SOON,
        });
        timed_out(block_on(near.write_all(&vec![0; 16 << 20])));
    }

    #[test]
    fn who_leaves_is_noticed_and_what_came_before_is_not_lost() {
        let (mut near, mut far) = pair(Patience {
            idle: NEVER,
            head: NEVER,
            write: NEVER,
        });
        near.handling();
        block_on(async {
            let left = async |near: &mut Patient<_>| {
                std::future::poll_fn(|cx| Poll::Ready(near.poll_left(cx).is_ready())).await
            };
            assert!(!left(&mut near).await);
            assert_eq!(near.ahead.capacity(), 0, "silence takes no memory");
            far.write_all(b"GET /next").await.unwrap();
            while near.ahead.len() < 9 {
                assert!(!left(&mut near).await);
            }
            near.handled();
            let mut buf = [0; 6];
            assert_eq!(near.read(&mut buf).await.unwrap(), 6);
            assert_eq!(&buf, b"GET /n");
            assert_eq!(near.read(&mut buf).await.unwrap(), 3);
            assert_eq!((&buf[..3], near.ahead.capacity()), (&b"ext"[..], 0));

            near.handling();
            drop(far);
            std::future::poll_fn(|cx| near.poll_left(cx)).await;
        });
    }

    #[test]
    fn who_sends_much_ahead_of_its_turn_is_not_listened_to() {
        let (mut near, mut far) = pair(Patience {
            idle: NEVER,
            head: NEVER,
            write: NEVER,
        });
        near.handling();
        block_on(async {
            far.write_all(&[7; 3 * AHEAD]).await.unwrap();
            drop(far);
            while near.ahead.len() < AHEAD {
                let left = std::future::poll_fn(|cx| Poll::Ready(near.poll_left(cx))).await;
                assert!(left.is_pending());
            }
            let left = std::future::poll_fn(|cx| Poll::Ready(near.poll_left(cx))).await;
            assert!(left.is_pending(), "it may have left, but has its turn first");
            near.handled();
            let mut all = Vec::new();
            near.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, [7; 3 * AHEAD]);
        });
    }

    /// Takes so many bytes now and then.
    struct Sluggish {
        bytes: usize,
        then: Timer,
        taken: usize,
    }

    impl AsyncWrite for Sluggish {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            if Pin::new(&mut self.then).poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.then.set_after(SOON / 4);
            let bytes = self.bytes.min(buf.len());
            self.taken += bytes;
            Poll::Ready(Ok(bytes))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn peers_that_take_next_to_nothing_are_given_up_and_slow_ones_are_not() {
        let write = |bytes: usize, all: usize| {
            let peer = Sluggish {
                bytes,
                then: Timer::after(SOON / 4),
                taken: 0,
            };
            let patience = Patience {
                idle: NEVER,
                head: NEVER,
                write: SOON,
            };
            let mut near = Patient::new(peer, patience);
            (block_on(near.write_all(&vec![0; all])), near.stream.taken)
        };
        let (result, taken) = write(1, 10_000);
        timed_out(result);
        assert!(taken < 100, "{taken} bytes at less than 4096 a second");
        // Each piece is worth more than the wait for it.
        let (result, taken) = write(1 << 20, 20 << 20);
        result.unwrap();
        assert_eq!(taken, 20 << 20);
    }

    #[test]
    fn an_alarm_that_fires_early_goes_on() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        block_on(async {
            let early = std::future::poll_fn(|cx| Poll::Ready(alarm.poll(cx, start + SOON).is_ready())).await;
            std::future::poll_fn(|cx| alarm.poll(cx, start + SOON * 3)).await;
            assert!(Instant::now() >= start + SOON * 3, "fired early: {early}");
        });
    }
}
