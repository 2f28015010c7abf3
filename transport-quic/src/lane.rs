//! Lanes: ordered streams of frames to a peer, each with a bounded queue and one task that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_channel::{Receiver, Sender, TrySendError};
use bytes::{Bytes, BytesMut};
use quinn::{SendStream, WriteError};

use crate::LANES;
use crate::error::{ConnectError, Refusal};
use crate::frame::encode_batch;
use crate::link::Link;
use crate::session::Session;
use crate::shared::Shared;

/// A batch is closed when it has this many bytes.
const BATCH_BYTES: usize = 64 * 1024;

/// How long a lane that is not needed any more waits for what it wrote to arrive.
const LINGER: Duration = Duration::from_secs(5);

/// The queue of one lane.
pub(crate) struct Lane {
    frames: Sender<Bytes>,
    /// Bytes that are queued or being written.
    queued: Arc<AtomicUsize>,
}

/// Why a frame was not taken.
pub(crate) enum Rejected {
    Full,
    /// The link was retired. The frame comes back, for a new one.
    Closed(Bytes),
}

impl Lane {
    /// Starts the task that writes. It ends when the lane is closed and its queue is empty.
    pub(crate) fn begin(shared: &Arc<Shared>, link: &Arc<Link>, number: u8) -> Self {
        let (frames, queue) = async_channel::bounded(shared.limits.queue_frames.max(1));
        let queued = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            shared: shared.clone(),
            link: link.clone(),
            number,
            queue,
            queued: queued.clone(),
            stream: None,
        };
        shared.runtime.spawn(writer.run()).detach();
        Self { frames, queued }
    }

    /// Queues a frame, unless there are too many frames or bytes in the queue. A frame is always taken by an empty
    /// queue.
    pub(crate) fn push(&self, frame: Bytes, limit_bytes: usize) -> Result<(), Rejected> {
        let length = frame.len();
        let before = self.queued.fetch_add(length, Ordering::Relaxed);
        let rejected = if before > 0 && before.saturating_add(length) > limit_bytes {
            Rejected::Full
        } else {
            match self.frames.try_send(frame) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => Rejected::Full,
                Err(TrySendError::Closed(frame)) => Rejected::Closed(frame),
            }
        };
        self.queued.fetch_sub(length, Ordering::Relaxed);
        Err(rejected)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > 0 || !self.frames.is_empty()
    }

    pub(crate) fn close(&self) {
        self.frames.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.frames.is_closed()
    }
}

/// The task of one lane.
struct Writer {
    shared: Arc<Shared>,
    link: Arc<Link>,
    number: u8,
    queue: Receiver<Bytes>,
    queued: Arc<AtomicUsize>,
    stream: Option<(Arc<Session>, SendStream)>,
}

impl Writer {
    async fn run(mut self) {
        let mut batch = Vec::new();
        let mut scratch = BytesMut::new();
        let mut chunks = Vec::new();
        while let Ok(first) = self.queue.recv().await {
            let bytes = self.collect(first, &mut batch);
            let frames = batch.len();
            let sent = self.write(&mut batch, &mut scratch, &mut chunks).await;
            batch.clear();
            chunks.clear();
            scratch.clear();
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            match sent {
                Ok(()) => {
                    self.shared.counters.frames_sent.add(frames);
                    self.shared.counters.bytes_sent.add(bytes);
                }
                Err(reason) => self.give_up(frames, reason).await,
            }
        }
        if let Some((_session, mut stream)) = self.stream.take()
            && stream.finish().is_ok()
        {
            let _arrived_or_not = self.shared.within(LINGER, stream.stopped()).await;
        }
    }

    /// Takes what else is waiting, up to a batch's size; returns its bytes.
    fn collect(&self, first: Bytes, batch: &mut Vec<Bytes>) -> usize {
        let mut bytes = first.len();
        batch.push(first);
        while bytes < BATCH_BYTES
            && let Ok(next) = self.queue.try_recv()
        {
            bytes += next.len();
            batch.push(next);
        }
        bytes
    }

    async fn write(
        &mut self,
        batch: &mut Vec<Bytes>,
        scratch: &mut BytesMut,
        chunks: &mut Vec<Bytes>,
    ) -> Result<(), ConnectError> {
        if self
            .stream
            .as_ref()
            .is_some_and(|(session, _)| session.connection.close_reason().is_some())
        {
            self.stream = None;
        }
        let (session, stream) = match &mut self.stream {
            Some(open) => open,
            none => {
                let session = self.link.session(&self.shared).await?;
                let stream = session
                    .connection
                    .open_uni()
                    .await
                    .map_err(|error| ConnectError::from_lost(&error))?;
                // Lane 0 before all others, and every lane before calls.
                let _closed_already = stream.set_priority(i32::from(LANES - self.number));
                chunks.push(Bytes::copy_from_slice(&[self.number]));
                none.insert((session, stream))
            }
        };
        encode_batch(batch, scratch, chunks);
        session.traffic.touch(self.shared.nanos());
        let Err(error) = stream.write_all_chunks(chunks).await else {
            return Ok(());
        };
        let reason = match error {
            WriteError::ConnectionLost(error) => ConnectError::from_lost(&error),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                let refusal = Refusal::Protocol(format!("lane {}: {error}", self.number));
                session
                    .connection
                    .close(refusal.kind().code(), refusal.to_string().as_bytes());
                ConnectError::Refused(refusal)
            }
        };
        self.stream = None;
        Err(reason)
    }

    /// Reports the batch, and with it all that waits: whoever sent it wants to hear of it now, and to decide what is
    /// still worth sending when the peer is back.
    async fn give_up(&self, mut frames: usize, reason: ConnectError) {
        while let Ok(frame) = self.queue.try_recv() {
            self.queued.fetch_sub(frame.len(), Ordering::Relaxed);
            frames += 1;
        }
        self.shared
            .unreachable(self.link.target, self.link.plane, reason, frames)
            .await;
    }
}
