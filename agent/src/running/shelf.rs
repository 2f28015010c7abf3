//! Records of what runs here, on the disk.

use std::path::Path;

use async_channel::{Receiver, Sender};
use lictor_local::{Change, Input, Memory, SaveId};
use lictor_node::agent;
use lictor_node::store::StoreError;
use lictor_storage_lmdb::{LmdbRecords, Options};

use crate::boot::StartError;
use crate::handle::Handle;

/// How many writes become one, at most.
const BATCH: usize = 1024;

/// The way to the disk.
#[derive(Debug)]
pub(crate) struct Shelf {
    saves: Sender<(SaveId, Vec<Change>)>,
}

impl Shelf {
    /// Opens the records of a data directory. Gives what they remember, the way to them, and what is to run until the agent ends: it ends
    /// when the way is dropped, and everything is written. Without a directory nothing is remembered, and there is nothing to do.
    pub(crate) fn open(
        data_dir: Option<&Path>,
        handle: Handle,
    ) -> Result<(Memory, Self, impl Future<Output = ()> + Send + 'static), StartError> {
        let mut memory = Memory::default();
        let records = data_dir
            .map(|dir| open(&dir.join("local"), &mut memory))
            .transpose()?;
        // Bounded by the requests that wait, each of which waits for its own.
        let (saves, waiting) = async_channel::unbounded();
        let writing = async move {
            if let Some(records) = records {
                write(records, &waiting, &handle).await;
            }
        };
        Ok((memory, Self { saves }, writing))
    }

    pub(crate) fn save(&self, id: SaveId, changes: Vec<Change>) {
        // Once nobody writes any more the agent is at its end, and nobody waits for an answer.
        let _ = self.saves.try_send((id, changes));
    }
}

fn open(dir: &Path, memory: &mut Memory) -> Result<LmdbRecords, StoreError> {
    let records = LmdbRecords::open(dir, &Options::default())?;
    let mut newer = None;
    records.load(&mut |record| {
        let Err(error) = memory.read(record) else {
            return;
        };
        match error {
            lictor_local::RecordError::NewerFormat(found) => newer = Some(found),
            lictor_local::RecordError::Empty | lictor_local::RecordError::Damaged(_) => {
                tracing::error!(dir = %dir.display(), %error, "something that was registered here is lost");
            }
        }
    })?;
    match newer {
        None => Ok(records),
        Some(found) => Err(StoreError::NewerFormat {
            path: dir.display().to_string(),
            found: found.into(),
            known: 1,
        }),
    }
}

/// Whatever waits is one write.
async fn write(mut records: LmdbRecords, waiting: &Receiver<(SaveId, Vec<Change>)>, handle: &Handle) {
    while let Ok((first, mut changes)) = waiting.recv().await {
        let mut ids = vec![first];
        while ids.len() < BATCH
            && let Ok((id, more)) = waiting.try_recv()
        {
            ids.push(id);
            changes.extend(more);
        }
        let result;
        (records, result) = blocking::unblock(move || {
            let result = records.write(&changes).map_err(|error| error.to_string());
            (records, result)
        })
        .await;
        for id in ids {
            let result = result.clone();
            handle.complete(agent::Input::Local(Input::Saved { id, result }));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_lite::future::{block_on, zip};
    use lictor_local::RecordKey;
    use lictor_runtime::channel;

    use super::*;
    use crate::handle::Posted;

    fn handle() -> (Handle, lictor_runtime::Receiver<Posted>) {
        let (inbox, completions, inputs) = channel(8);
        (Handle::new(inbox, completions), inputs)
    }

    fn change(content: &'static [u8]) -> Vec<Change> {
        vec![Change {
            key: RecordKey::Seen,
            content: Some(Bytes::from_static(content)),
        }]
    }

    #[test]
    fn every_save_is_answered_in_order_and_the_last_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (handle, mut inputs) = handle();
        let (_, shelf, writing) = Shelf::open(Some(dir.path()), handle).unwrap();
        for number in 0..3 {
            shelf.save(SaveId(number), change(&[9]));
        }
        drop(shelf);
        let answers = async {
            let mut taken = Vec::new();
            while taken.len() < 3 {
                inputs.take(&mut taken, 8).await;
            }
            taken
        };
        let ((), answers) = block_on(zip(writing, answers));
        let ids: Vec<SaveId> = answers
            .into_iter()
            .map(|posted| {
                let agent::Input::Local(Input::Saved { id, result: Ok(()) }) = posted.input else {
                    panic!("{:?}", posted.input)
                };
                id
            })
            .collect();
        assert_eq!(ids, [0, 1, 2].map(SaveId));
    }

    #[test]
    fn a_newer_record_is_refused_and_a_damaged_one_is_done_without() {
        let dir = tempfile::tempdir().unwrap();
        for (record, expected) in [(&b"\x01rubbish"[..], None), (b"\xf0", Some("240"))] {
            let mut records = LmdbRecords::open(&dir.path().join("local"), &Options::default()).unwrap();
            let content = Some(Bytes::from_static(record));
            let key = RecordKey::Service("web".into());
            records.write(&[Change { key, content }]).unwrap();
            drop(records);
            let opened = Shelf::open(Some(dir.path()), handle().0).map(|_| ());
            match expected {
                None => opened.unwrap(),
                Some(version) => {
                    let error = opened.unwrap_err().to_string();
                    assert!(error.contains(version), "{error}");
                }
            }
        }
    }
}
