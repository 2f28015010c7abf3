//! What peers send: lanes, calls and datagrams, from each connection to the agent.

use std::sync::Arc;

use async_channel::TrySendError;
use bytes::Bytes;
use futures_lite::future::zip;
use quinn::{Connection, RecvStream, SendStream, VarInt};

use crate::LANES;
use crate::call::{READ_CHUNKS, answer};
use crate::error::Refusal;
use crate::frame::Decoder;
use crate::identity::PeerIdentity;
use crate::plane::Plane;
use crate::session::{Session, Traffic};
use crate::shared::Shared;
use crate::stats::{Gauge, Held};
use crate::transport::Event;

/// A connection that is received from. It does not keep the session, whose end is the connection's.
pub(crate) struct Received {
    connection: Connection,
    peer: Arc<PeerIdentity>,
    traffic: Arc<Traffic>,
}

impl Received {
    pub(crate) fn on(session: &Session) -> Self {
        Self {
            connection: session.connection.clone(),
            peer: session.peer.clone(),
            traffic: session.traffic.clone(),
        }
    }
}

/// Passes on what a peer sends, until the connection ends. There is one such task for each connection, so what it
/// starts is boxed elsewhere: its own size is what an idle connection costs.
pub(crate) async fn receive(shared: Arc<Shared>, from: Received, plane: Plane) {
    let lanes = async {
        while let Ok(stream) = from.connection.accept_uni().await {
            begin_lane(&shared, &from, plane, stream);
        }
    };
    zip(
        zip(lanes, take_calls(&shared, &from, plane)),
        take_datagrams(&shared, &from, plane),
    )
    .await;
    if plane.is_mutual() {
        shared.sessions.forget_closed(from.peer.node(), plane);
    }
}

fn begin_lane(shared: &Arc<Shared>, from: &Received, plane: Plane, stream: RecvStream) {
    let reader = read_lane(
        shared.clone(),
        from.connection.clone(),
        from.peer.clone(),
        plane,
        stream,
    );
    shared.runtime.spawn(reader).detach();
}

/// Takes calls. As many may be open as there is need for, up to the limit: every stream that a peer may open costs
/// memory, so the allowance begins low and doubles whenever half of it is used.
async fn take_calls(shared: &Arc<Shared>, from: &Received, plane: Plane) {
    let most = if plane.has_many_calls() {
        shared.limits.calls_per_connection
    } else {
        shared.limits.first_calls()
    };
    let mut allowed = shared.limits.first_calls();
    let open = Gauge::default();
    while let Ok((send, receive)) = from.connection.accept_bi().await {
        begin_answer(shared, from, plane, send, receive, open.enter());
        if allowed < most && open.get() * 2 > allowed as usize {
            allowed = allowed.saturating_mul(2).min(most);
            from.connection
                .set_max_concurrent_bi_streams(VarInt::from_u32(allowed));
        }
    }
}

fn begin_answer(
    shared: &Arc<Shared>,
    from: &Received,
    plane: Plane,
    send: SendStream,
    receive: RecvStream,
    open: Held,
) {
    let (traffic, clock) = (from.traffic.clone(), shared.clone());
    traffic.touch(clock.nanos());
    let waiting = traffic.calls.enter();
    let answering = Box::pin(answer(
        shared.clone(),
        from.connection.clone(),
        from.peer.clone(),
        from.traffic.clone(),
        plane,
        send,
        receive,
    ));
    let task = shared.runtime.spawn(async move {
        answering.await;
        traffic.touch(clock.nanos());
        drop((waiting, open));
    });
    task.detach();
}

/// Takes datagrams. Those that the agent has no time for are dropped: first those of a peer that sends too many.
async fn take_datagrams(shared: &Shared, from: &Received, plane: Plane) {
    while let Ok(datagram) = from.connection.read_datagram().await {
        from.traffic.touch(shared.nanos());
        let length = datagram.len();
        let event = Event::Datagram {
            peer: from.peer.clone(),
            plane,
            datagram,
        };
        let places = &from.traffic.datagrams;
        let Some(place) = places.enter_below(shared.limits.datagrams_per_connection) else {
            shared.counters.datagrams_overrun.add(1);
            continue;
        };
        match shared.datagrams.try_send((event, place)) {
            Ok(()) => {
                shared.counters.frames_received.add(1);
                shared.counters.bytes_received.add(length);
            }
            Err(TrySendError::Full(_)) => shared.counters.datagrams_overrun.add(1),
            Err(TrySendError::Closed(_)) => return,
        }
    }
}

/// Reads one lane to its end. A breach of the protocol ends the connection.
async fn read_lane(
    shared: Arc<Shared>,
    connection: Connection,
    peer: Arc<PeerIdentity>,
    plane: Plane,
    stream: RecvStream,
) {
    if let Err(refusal) = pass_on_lane(&shared, &peer, plane, stream).await {
        connection.close(refusal.kind().code(), refusal.to_string().as_bytes());
        shared.note_refusal(peer.address, refusal);
    }
}

async fn pass_on_lane(
    shared: &Shared,
    peer: &Arc<PeerIdentity>,
    plane: Plane,
    mut stream: RecvStream,
) -> Result<(), Refusal> {
    let limit = shared.limits.frame_bytes(plane);
    let mut number = [0];
    if stream.read_exact(&mut number).await.is_err() {
        return Ok(());
    }
    let [lane] = number;
    if lane >= LANES {
        return Err(Refusal::Protocol(format!(
            "it opened lane {lane}, and there are {LANES}"
        )));
    }
    let mut decoder = Decoder::new(limit);
    let mut chunks = [const { Bytes::new() }; READ_CHUNKS];
    // An error here is the end of the connection, or of the lane: the peer knows, and will begin anew.
    while let Ok(Some(count)) = stream.read_chunks(&mut chunks).await {
        for chunk in &mut chunks[..count] {
            decoder.push(std::mem::take(chunk));
            while let Some(frame) = decoder.next_frame().map_err(|error| Refusal::FrameTooLarge {
                plane,
                length: error.length,
                limit,
            })? {
                shared.counters.frames_received.add(1);
                shared.counters.bytes_received.add(frame.len());
                let event = Event::Frame {
                    peer: peer.clone(),
                    plane,
                    lane,
                    frame,
                };
                if shared.events.send(event).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
