//! The durability gate: a message that promises something leaves only when what it promises is on disk (§5, Figure 2: "updated on
//! stable storage before responding").

use lictor_machine::NodeId;
use lictor_raft::{AppendReply, Body, Message};

use super::{Check, Chronicle, ensure};

const PROPERTY: &str = "durability gate";

pub(super) fn sent(chronicle: &Chronicle, at: usize, to: NodeId, message: &Message) -> Check {
    let (disk, issued, me) = (
        chronicle.durable_log(at),
        chronicle.issued_log(at),
        chronicle.id(at),
    );
    let (term, hard_state) = (message.term, disk.hard_state);
    let vote = |candidate: NodeId| {
        // A later term on disk keeps the promise as well: nobody votes in an earlier one.
        let kept = hard_state.term > term || hard_state.term == term && hard_state.vote == Some(candidate);
        ensure(PROPERTY, kept, || {
            format!(
                "{me:?} tells of its vote for {candidate:?} in term {term}, and its disk says {hard_state:?}"
            )
        })
    };
    match &message.body {
        Body::VoteReply { granted: true, .. } => vote(to),
        Body::Vote { last, .. } => {
            vote(me)?;
            ensure(PROPERTY, disk.last() >= *last, || {
                format!(
                    "{me:?} campaigns with a log that ends at {last}, and on its disk it ends at {}",
                    disk.last()
                )
            })
        }
        Body::AppendReply(AppendReply::Accepted { through }) => {
            ensure(PROPERTY, hard_state.term >= term, || {
                format!(
                    "{me:?} answers in term {term}, and its disk knows only {}",
                    hard_state.term
                )
            })?;
            let (durable, promised) = (disk.term_at(*through), issued.term_at(*through));
            let covered = durable.is_some() && durable == promised
                || disk.base.index > *through
                || issued.base.index > *through;
            ensure(PROPERTY, covered && *through <= disk.last().index, || {
                format!(
                    "{me:?} acknowledges {through}, of term {promised:?}, and its disk has term {durable:?} there, ending at {}",
                    disk.last()
                )
            })
        }
        Body::SnapshotReply {
            snapshot, done: true, ..
        } => ensure(PROPERTY, disk.last().index >= snapshot.index, || {
            format!(
                "{me:?} acknowledges snapshot {snapshot}, and its disk ends at {}",
                disk.last()
            )
        }),
        Body::VoteReply { granted: false, .. }
        | Body::PreVote { .. }
        | Body::PreVoteReply { .. }
        | Body::Append { .. }
        | Body::AppendReply(AppendReply::Rejected { .. })
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::Snapshot { .. }
        | Body::SnapshotReply { done: false, .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. }
        | Body::TimeoutNow => Ok(()),
    }
}
