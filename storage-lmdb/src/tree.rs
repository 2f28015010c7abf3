//! One table of an environment: sealed values under byte keys.

use std::sync::Arc;

use heed::types::{Bytes, DecodeIgnore, U64};
use heed::{Database, PutFlags, RoTxn, RwTxn};
use lictor_node::store::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Failure;
use crate::frame::{Place, seal, unseal};

pub(crate) type Raw = Database<'static, Bytes, Bytes>;
type Numbers<V> = Database<'static, U64<heed::byteorder::BigEndian>, V>;

/// A table. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    file: Arc<str>,
    name: Arc<str>,
    raw: Raw,
}

/// Where a value is sealed on its way to a table; kept for its capacity.
pub(crate) type Scratch = Vec<u8>;

impl Tree {
    pub(crate) fn new(file: Arc<str>, name: &str, raw: Raw) -> Self {
        Self {
            file,
            name: name.into(),
            raw,
        }
    }

    /// The database itself, for what needs no values.
    pub(crate) fn raw(&self) -> Raw {
        self.raw
    }

    /// The database with its keys as numbers, and without its values.
    pub(crate) fn numbers(&self) -> Numbers<DecodeIgnore> {
        self.raw.remap_types()
    }

    /// The number of the last key.
    pub(crate) fn last_number(&self, txn: &RoTxn<'_>) -> Result<Option<u64>, Failure> {
        Ok(self.numbers().last(txn)?.map(|(number, ())| number))
    }

    pub(crate) fn place<'a>(&'a self, key: &'a [u8]) -> Place<'a> {
        Place {
            file: &self.file,
            table: &self.name,
            key,
        }
    }

    pub(crate) fn get<'t>(&self, txn: &'t RoTxn<'_>, key: &[u8]) -> Result<Option<&'t [u8]>, Failure> {
        let Some(stored) = self.raw.get(txn, key)? else {
            return Ok(None);
        };
        Ok(Some(unseal(self.place(key), stored)?))
    }

    pub(crate) fn get_as<T: DeserializeOwned>(
        &self,
        txn: &RoTxn<'_>,
        key: &[u8],
    ) -> Result<Option<T>, Failure> {
        let Some(payload) = self.get(txn, key)? else {
            return Ok(None);
        };
        Ok(Some(self.decode(key, payload)?))
    }

    /// Decodes a whole payload.
    pub(crate) fn decode<T: DeserializeOwned>(&self, key: &[u8], payload: &[u8]) -> Result<T, StoreError> {
        match postcard::take_from_bytes(payload) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(self.place(key).damaged(format!("{} bytes too many", rest.len()))),
            Err(error) => Err(self.place(key).damaged(error)),
        }
    }

    pub(crate) fn put(
        &self,
        txn: &mut RwTxn<'_>,
        key: &[u8],
        scratch: &mut Scratch,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Failure> {
        seal(scratch, self.place(key), fill);
        Ok(self.raw.put(txn, key, scratch)?)
    }

    pub(crate) fn put_as(
        &self,
        txn: &mut RwTxn<'_>,
        key: &[u8],
        scratch: &mut Scratch,
        value: &impl Serialize,
    ) -> Result<(), Failure> {
        self.put(txn, key, scratch, |buffer| encode(value, buffer))
    }

    /// Like `put_as`, for a key that is greater than all that are there: fills pages to the brim.
    pub(crate) fn append_as(
        &self,
        txn: &mut RwTxn<'_>,
        key: &[u8],
        scratch: &mut Scratch,
        value: &impl Serialize,
    ) -> Result<(), Failure> {
        seal(scratch, self.place(key), |buffer| encode(value, buffer));
        Ok(self.raw.put_with_flags(txn, PutFlags::APPEND, key, scratch)?)
    }
}

fn encode(value: &impl Serialize, buffer: &mut Vec<u8>) {
    postcard::to_io(value, buffer).expect("plain data always encode, and a Vec takes every byte");
}
