//! Log Matching (§5.3): if two logs hold an entry with the same index and term, they are identical up to it.
//!
//! Checked one entry at a time: an index and a term always name the same content behind an entry of the same term, in every log
//! that ever held it, in memory or on disk. The rest follows by induction.

use std::collections::HashMap;

use lictor_machine::NodeId;
use lictor_raft::{Entry, LogId, Payload, Term};

use super::chronicle::{Made, digest};
use super::{Check, Chronicle, ensure};
use crate::disk::LogImage;
use crate::workload::Change;

const PROPERTY: &str = "log matching";

/// `server` appends `entry` behind one of term `previous`.
pub(super) fn appended(
    made: &mut HashMap<LogId, Made>,
    server: NodeId,
    previous: Term,
    entry: &Entry,
) -> Check {
    let first = made.entry(entry.id).or_insert_with(|| Made {
        previous,
        digest: digest(entry),
        change: match &entry.payload {
            Payload::Command(data) => Change::of_command(data),
            Payload::Noop | Payload::Members(_) => None,
        },
    });
    agrees(first, server, previous, entry)
}

/// Every entry on a disk was made by somebody, and is as it was made.
pub(super) fn on_disk(chronicle: &Chronicle, at: usize, image: &LogImage) -> Check {
    let mut previous = image.base.last.term;
    for entry in &image.entries {
        let server = chronicle.id(at);
        let Some(made) = chronicle.made(entry.id) else {
            return ensure(PROPERTY, false, || {
                format!("the disk of {server:?} holds {}, which nobody made", entry.id)
            });
        };
        agrees(made, server, previous, entry)?;
        previous = entry.id.term;
    }
    Ok(())
}

fn agrees(made: &Made, server: NodeId, previous: Term, entry: &Entry) -> Check {
    ensure(PROPERTY, made.previous == previous, || {
        format!(
            "{server:?} holds {} behind an entry of term {previous}, others behind one of {}",
            entry.id, made.previous
        )
    })?;
    ensure(PROPERTY, made.digest == digest(entry), || {
        format!("{server:?} holds another entry at {} than others", entry.id)
    })
}
