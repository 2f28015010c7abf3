//! What one agent keeps of what runs on it: registrations, and how the checks were.

use std::path::Path;

use lictor_node::local::{Change, RecordKey};
use lictor_node::store::StoreError;

use crate::environment::{Environment, Layout};
use crate::tree::{Scratch, Tree};
use crate::{Options, directory, key};

/// Address space, in bytes, that is set aside at first.
const MAP_BYTES: usize = 64 << 20;

/// Records by their keys, in a directory of their own.
#[derive(Debug)]
pub struct LmdbRecords {
    env: Environment,
    records: Tree,
    scratch: Scratch,
}

impl LmdbRecords {
    /// Opens the directory, making it if it is not there. Of the options only how far it may grow counts.
    ///
    /// Fails with [`StoreError::Io`] if somebody else has it open, and with [`StoreError::Damaged`] or [`StoreError::NewerFormat`] if
    /// what is there was not written by this version or an earlier one.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, StoreError> {
        let lock = directory::claim(dir)?;
        let layout = Layout {
            kind: b'A',
            tables: &["meta", "records"],
            numbered: None,
            map_bytes: MAP_BYTES.min(options.max_map_bytes),
            max_map_bytes: options.max_map_bytes,
        };
        let (env, mut trees) = Environment::open(dir, &layout, lock)?;
        let records = trees.pop().expect("one tree for each table of the layout");
        Ok(Self {
            env,
            records,
            scratch: Scratch::new(),
        })
    }

    /// Calls `record` with the content of every record, in no particular order.
    pub fn load(&self, record: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        self.env.read(|txn| {
            key::scan(&self.records, txn, &mut |_, content| {
                record(&content);
                Ok(())
            })
        })
    }

    /// Makes the changes durable: all of them, or on error none.
    pub fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let Self {
            env,
            records,
            scratch,
        } = self;
        env.write(|txn| {
            for change in changes {
                let name = name(&change.key);
                match &change.content {
                    Some(content) => key::put(records, txn, scratch, &name, content)?,
                    None => key::delete(records, txn, &name)?,
                }
            }
            Ok(())
        })
    }
}

/// What a record is called on the disk: a byte for its kind, and the id.
fn name(key: &RecordKey) -> Vec<u8> {
    let (kind, id): (u8, &str) = match key {
        RecordKey::Service(id) => (b's', id),
        RecordKey::Check(id) => (b'c', id),
        RecordKey::Status(id) => (b'h', id),
        RecordKey::Seen => (b't', ""),
    };
    let mut name = vec![kind];
    name.extend(id.as_bytes());
    name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;

    use super::*;

    fn put(key: RecordKey, content: &str) -> Change {
        Change {
            key,
            content: Some(Bytes::copy_from_slice(content.as_bytes())),
        }
    }

    fn found(records: &LmdbRecords) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        records
            .load(&mut |content| {
                found.insert(String::from_utf8(content.to_vec()).unwrap());
            })
            .unwrap();
        found
    }

    #[test]
    fn what_is_written_is_there_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("local");
        let options = Options::default();
        let mut records = LmdbRecords::open(&dir, &options).unwrap();
        let long = |end: &str| RecordKey::Service(format!("{}{end}", "x".repeat(511)).into());
        records
            .write(&[
                put(RecordKey::Service("web".into()), "a service"),
                put(RecordKey::Check("web".into()), "a check"),
                put(RecordKey::Status("web".into()), "how it was"),
                put(RecordKey::Seen, "then"),
                put(long("1"), "one long"),
                put(long("2"), "other long"),
            ])
            .unwrap();
        let removed = Change {
            key: RecordKey::Check("web".into()),
            content: None,
        };
        records.write(&[removed, put(RecordKey::Seen, "now")]).unwrap();
        let refused = LmdbRecords::open(&dir, &options).unwrap_err();
        assert!(refused.to_string().contains("in use"), "{refused}");
        drop(records);
        let records = LmdbRecords::open(&dir, &options).unwrap();
        let expected = ["a service", "how it was", "now", "one long", "other long"];
        assert_eq!(found(&records), expected.map(str::to_owned).into());
    }

    #[test]
    fn a_write_that_has_no_room_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let options = Options {
            max_map_bytes: 256 << 10,
            ..Options::default()
        };
        let mut records = LmdbRecords::open(root.path(), &options).unwrap();
        records.write(&[put(RecordKey::Seen, "then")]).unwrap();
        let large = "x".repeat(512 << 10);
        let both = [
            put(RecordKey::Seen, "now"),
            put(RecordKey::Status("web".into()), &large),
        ];
        let error = records.write(&both).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        assert_eq!(found(&records), ["then".to_owned()].into());
    }
}
