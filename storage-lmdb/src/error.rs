//! What LMDB's errors mean to the contract.

use std::fmt::Display;
use std::io;

use heed::MdbError;
use lictor_node::store::StoreError;
use rustix::io::Errno;

/// Why the work within a transaction ended.
#[derive(Debug)]
pub(crate) enum Failure {
    /// LMDB said so.
    Lmdb(heed::Error),
    /// The content said so, or the caller.
    Store(StoreError),
}

impl From<heed::Error> for Failure {
    fn from(error: heed::Error) -> Self {
        Self::Lmdb(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

pub(crate) fn io_error(path: &impl Display, error: io::Error) -> StoreError {
    let (path, detail) = (path.to_string(), error.to_string());
    if is_full(&error) {
        StoreError::Full { path, detail }
    } else {
        StoreError::Io { path, detail }
    }
}

/// No space on the disk, a quota, or a limit on the size of files.
pub(crate) fn is_full(error: &io::Error) -> bool {
    Errno::from_io_error(error)
        .is_some_and(|errno| [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].contains(&errno))
}

/// Translates an error of LMDB for the file `path`.
pub(crate) fn explain(path: &str, error: heed::Error) -> StoreError {
    let text = error.to_string();
    let path = path.to_owned();
    match error {
        heed::Error::Io(error) => io_error(&path, error),
        heed::Error::Encoding(error) | heed::Error::Decoding(error) => StoreError::Damaged {
            path,
            detail: error.to_string(),
        },
        heed::Error::EnvAlreadyOpened => StoreError::Io {
            path,
            detail: "already open in this process".into(),
        },
        heed::Error::Mdb(error) => match error {
            MdbError::MapFull => StoreError::Full {
                path,
                detail: "the map is full".into(),
            },
            MdbError::Invalid => StoreError::Damaged {
                path,
                detail: "not an LMDB file".into(),
            },
            MdbError::VersionMismatch => StoreError::Damaged {
                path,
                detail: "an LMDB file of another version of LMDB".into(),
            },
            MdbError::Incompatible => StoreError::Damaged {
                path,
                detail: "an LMDB file, but not one of Lictor's".into(),
            },
            MdbError::KeyExist
            | MdbError::NotFound
            | MdbError::PageNotFound
            | MdbError::Corrupted
            | MdbError::CursorFull
            | MdbError::PageFull => StoreError::Damaged {
                path,
                detail: format!("LMDB says: {text}"),
            },
            MdbError::Panic
            | MdbError::DbsFull
            | MdbError::ReadersFull
            | MdbError::TlsFull
            | MdbError::TxnFull
            | MdbError::MapResized
            | MdbError::BadRslot
            | MdbError::BadTxn
            | MdbError::BadValSize
            | MdbError::BadDbi
            | MdbError::Problem
            | MdbError::Other(_) => StoreError::Io {
                path,
                detail: format!("LMDB says: {text}"),
            },
        },
    }
}

/// What a store says after a failure that was final.
pub(crate) fn refusal(path: &str, earlier: &StoreError) -> StoreError {
    StoreError::Io {
        path: path.to_owned(),
        detail: format!("no writes after an earlier failure: {earlier}"),
    }
}
