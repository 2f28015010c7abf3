//! Calls: a request on a stream of its own, and the answer.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures_lite::FutureExt as _;
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt, WriteError};

use crate::budget::{Budget, Share};
use crate::error::{
    CODE_BUSY, CODE_DONE, CODE_NO_REPLY, CODE_REPLY_TOO_LARGE, CallError, CallFailure, ConnectError, Refusal,
};
use crate::frame::{Decoder, encode_one};
use crate::identity::PeerIdentity;
use crate::link::{Link, lost_or};
use crate::plane::Plane;
use crate::session::Traffic;
use crate::shared::Shared;
use crate::transport::Event;

/// Chunks that are taken from a stream at once.
pub(crate) const READ_CHUNKS: usize = 32;

/// The way back to a caller. Dropping it unused tells the caller that there will be no answer.
pub struct ReplyHandle {
    answer: Sender<(Bytes, Share)>,
    /// Answers to the same peer that wait for it to take them, and how many bytes of them may.
    unsent: Budget,
    unsent_max: usize,
}

/// A place for an answer among those that the peer has not taken yet, until it is dropped.
#[derive(Debug)]
pub struct Room {
    _share: Share,
}

impl ReplyHandle {
    /// Answers the call. Does not wait: the answer is sent by the transport. One that is longer than the plane's limit
    /// fails the call at the caller. `false` if the caller has given up.
    pub fn send(self, answer: Bytes) -> bool {
        let share = self.unsent.charge(answer.len());
        self.answer.try_send((answer, share)).is_ok()
    }

    /// Waits until the peer has taken enough of what it was answered for an answer of about this many bytes to be made. Worth asking for
    /// before memory goes into a long one; those of up to 4 KiB never wait. To be kept until the answer is there.
    pub async fn room_for(&self, bytes: usize) -> Room {
        let share = self.unsent.take(bytes, self.unsent_max).await;
        Room { _share: share }
    }

    /// Whether the caller has given up, so that nobody would see an answer.
    pub fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    /// Waits until the caller has given up.
    pub async fn abandoned(&self) {
        self.answer.closed().await;
    }
}

impl fmt::Debug for ReplyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyHandle")
            .field("abandoned", &self.is_abandoned())
            .finish()
    }
}

/// Why a stream did not yield the one frame that it is for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFrameError {
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("there is no room for a frame of {0} bytes")]
    NoRoom(usize),
    #[error("the stream ends within a frame")]
    Truncated,
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Reads one frame. A stream that was finished too early, as one is whose writer was cancelled, is an error.
pub(crate) async fn read_frame(stream: &mut RecvStream, limit: usize) -> Result<Bytes, ReadFrameError> {
    let (frame, ()) = read_admitted(stream, limit, |_| Some(())).await?;
    Ok(frame)
}

/// The same, if `admit` has room for its length, which it is asked for once, before more than a few packets of it are taken.
async fn read_admitted<T>(
    stream: &mut RecvStream,
    limit: usize,
    admit: impl Fn(usize) -> Option<T>,
) -> Result<(Bytes, T), ReadFrameError> {
    let admit = |length| admit(length).ok_or(ReadFrameError::NoRoom(length));
    let mut admitted = None;
    let mut decoder = Decoder::new(limit);
    // Few, since thousands of these may wait: the caller's waits for as long as the call does.
    let mut chunks = [const { Bytes::new() }; READ_CHUNKS / 8];
    while let Some(count) = stream.read_chunks(&mut chunks).await? {
        for chunk in &mut chunks[..count] {
            decoder.push(std::mem::take(chunk));
            let frame = decoder
                .next_frame()
                .map_err(|error| ReadFrameError::TooLong(error.length))?;
            if admitted.is_none() {
                let length = frame.as_ref().map(Bytes::len).or_else(|| decoder.begun());
                admitted = length.map(&admit).transpose()?;
            }
            if let Some(frame) = frame
                && let Some(admitted) = admitted.take()
            {
                return Ok((frame, admitted));
            }
        }
    }
    Err(ReadFrameError::Truncated)
}

/// Makes a call on `link`: connects if need be, and waits for the answer until `given_up` says why not any more.
pub(crate) async fn call(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    request: Bytes,
    given_up: impl Future<Output = CallFailure>,
) -> Result<(Arc<PeerIdentity>, Bytes), CallError> {
    let limit = shared.limits.frame_bytes(link.plane);
    let length = request.len();
    if length > limit {
        return Err(CallError::NotSent(CallFailure::TooLarge { length, limit }));
    }
    shared.counters.calls_made.add(1);
    let _waiting = link.calls.enter();
    let sent = AtomicBool::new(false);
    let asked = async {
        let session = link.session(shared).await?;
        let connection = &session.connection;
        session.traffic.touch(shared.nanos());
        let _waiting = session.traffic.calls.enter();
        let asking = &session.traffic.asking;
        let _open = asking.take(length, shared.limits.request_bytes).await;
        let (mut send, mut receive) = connection
            .open_bi()
            .await
            .map_err(|error| ConnectError::from_lost(&error))?;
        send.write_all_chunks(&mut encode_one(request))
            .await
            .map_err(|error| {
                if error == WriteError::Stopped(CODE_BUSY) {
                    CallFailure::Busy
                } else {
                    lost_or(connection, error.to_string()).into()
                }
            })?;
        sent.store(true, Ordering::Relaxed);
        // Cannot fail: the stream was neither finished nor reset.
        let _ = send.finish();
        let answer = read_frame(&mut receive, shared.limits.answer_bytes(link.plane)).await;
        session.traffic.touch(shared.nanos());
        match answer {
            Ok(answer) => Ok((session.peer.clone(), answer)),
            Err(ReadFrameError::Read(ReadError::Reset(CODE_NO_REPLY))) => Err(CallFailure::NoReply),
            Err(ReadFrameError::Read(ReadError::Reset(CODE_REPLY_TOO_LARGE))) => {
                Err(CallFailure::ReplyTooLarge)
            }
            Err(ReadFrameError::Read(ReadError::Reset(CODE_BUSY))) => {
                // It has not been read to its end.
                sent.store(false, Ordering::Relaxed);
                Err(CallFailure::Busy)
            }
            Err(error) => Err(lost_or(connection, error.to_string()).into()),
        }
    };
    let given_up = async { Err(given_up.await) };
    let outcome = Box::pin(asked).or(given_up).await;
    outcome.map_err(|failure| {
        if sent.into_inner() {
            CallError::MaybeSent(failure)
        } else {
            CallError::NotSent(failure)
        }
    })
}

/// Takes a peer's call: passes it on, and sends the answer back.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    connection: Connection,
    peer: Arc<PeerIdentity>,
    traffic: Arc<Traffic>,
    plane: Plane,
    mut send: SendStream,
    mut receive: RecvStream,
) {
    let limit = shared.limits.frame_bytes(plane);
    let asked_max = shared.limits.request_bytes.saturating_mul(2);
    let room = |length| traffic.asked.try_take(length, asked_max);
    // In a box, so that what waits for the answer, maybe long, is small.
    let (request, open) = match Box::pin(read_admitted(&mut receive, limit, room)).await {
        Ok(admitted) => admitted,
        Err(ReadFrameError::NoRoom(length)) => {
            tracing::debug!(%peer, length, "a call is refused: too much of the peer's is open already");
            // Fails only if the stream is over already.
            let _ = receive.stop(CODE_BUSY);
            return reset(&mut send, CODE_BUSY);
        }
        Err(ReadFrameError::TooLong(length)) => {
            let refusal = Refusal::FrameTooLarge { plane, length, limit };
            connection.close(refusal.kind().code(), refusal.to_string().as_bytes());
            shared.note_refusal(peer.address, refusal);
            return;
        }
        // The caller has given up, or the connection is gone: there is nobody to tell.
        Err(ReadFrameError::Truncated | ReadFrameError::Read(_)) => return reset(&mut send, CODE_DONE),
    };
    shared.counters.calls_taken.add(1);
    let (handle, answers) = async_channel::bounded(1);
    let event = Event::Call {
        peer,
        plane,
        request,
        reply: ReplyHandle {
            answer: handle,
            unsent: traffic.answers.clone(),
            unsent_max: shared.limits.unsent_bytes,
        },
    };
    if shared.events.send(event).await.is_err() {
        return reset(&mut send, CODE_NO_REPLY);
    }
    let answer = next_answer(&answers, &send).await;
    drop(open);
    match answer {
        Some((answer, _)) if answer.len() > shared.limits.answer_bytes(plane) => {
            reset(&mut send, CODE_REPLY_TOO_LARGE);
        }
        Some((answer, _unsent)) => {
            if send.write_all_chunks(&mut encode_one(answer)).await.is_ok() {
                // Cannot fail: the stream was neither finished nor reset.
                let _ = send.finish();
            }
        }
        None => reset(&mut send, CODE_NO_REPLY),
    }
}

/// The answer; `None` if there will be none, or if the caller has given up.
async fn next_answer(answers: &Receiver<(Bytes, Share)>, send: &SendStream) -> Option<(Bytes, Share)> {
    let given_up = async {
        let _why = send.stopped().await;
        None
    };
    async { answers.recv().await.ok() }.or(given_up).await
}

fn reset(stream: &mut SendStream, code: VarInt) {
    // Fails only if the stream is over already.
    let _ = stream.reset(code);
}
