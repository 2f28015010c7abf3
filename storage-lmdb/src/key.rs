//! Rows under keys of any length, though LMDB takes 1 to 511 bytes.
//!
//! A short key is stored as `[1][key]`. Of a long one only the beginning goes into LMDB's key, then a checksum of the rest and a number that
//! tells apart those that agree in both: `[1][first 480 bytes][CRC-32C of the rest][number]`, which is longer than any short one; the rest
//! goes before the value, as `[length][rest][value]`.

use bytes::Bytes;
use heed::{RoTxn, RwTxn};

use crate::error::Failure;
use crate::frame::unseal;
use crate::tree::{Scratch, Tree};

const MARK: u8 = 1;
const SHORT: usize = 480;
const LONG: usize = 1 + SHORT + 4 + 4;

/// Sets the value of a key.
pub(crate) fn put(
    tree: &Tree,
    txn: &mut RwTxn<'_>,
    scratch: &mut Scratch,
    key: &[u8],
    value: &[u8],
) -> Result<(), Failure> {
    let Some((head, rest)) = split(key) else {
        return tree.put(txn, &short(key), scratch, |buffer| {
            buffer.extend_from_slice(value);
        });
    };
    let slot = find(tree, txn, head, rest)?;
    let length =
        u32::try_from(rest.len()).map_err(|_| tree.place(key).damaged("a key of more than 4 GiB"))?;
    tree.put(txn, &long(head, rest, slot.number), scratch, |buffer| {
        buffer.extend(length.to_be_bytes());
        buffer.extend_from_slice(rest);
        buffer.extend_from_slice(value);
    })
}

/// Removes a key, if it is there.
pub(crate) fn delete(tree: &Tree, txn: &mut RwTxn<'_>, key: &[u8]) -> Result<(), Failure> {
    match split(key) {
        None => {
            tree.raw().delete(txn, &short(key))?;
        }
        Some((head, rest)) => {
            let slot = find(tree, txn, head, rest)?;
            if slot.taken {
                tree.raw().delete(txn, &long(head, rest, slot.number))?;
            }
        }
    }
    Ok(())
}

/// Calls `found` for every key and its value, in the order of the keys.
pub(crate) fn scan(
    tree: &Tree,
    txn: &RoTxn<'_>,
    found: &mut dyn FnMut(Bytes, Bytes) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Long keys with the same beginning come in the order of their checksums.
    let mut group: Vec<(Bytes, Bytes)> = Vec::new();
    let flush = |group: &mut Vec<(Bytes, Bytes)>,
                 found: &mut dyn FnMut(Bytes, Bytes) -> Result<(), Failure>| {
        group.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        group.drain(..).try_for_each(|(key, value)| found(key, value))
    };
    for item in tree.raw().iter(txn)? {
        let (stored_key, stored) = item?;
        let place = tree.place(stored_key);
        let payload = unseal(place, stored)?;
        let Some(key) = stored_key.strip_prefix(&[MARK]) else {
            return Err(place.damaged("an unknown form of key").into());
        };
        if group
            .first()
            .is_some_and(|(first, _)| !key.starts_with(&first[..SHORT]))
        {
            flush(&mut group, found)?;
        }
        if stored_key.len() == LONG {
            let (rest, value) =
                parse(payload).ok_or_else(|| place.damaged("the rest of its key is missing"))?;
            let whole = [&key[..SHORT], rest].concat();
            group.push((whole.into(), Bytes::copy_from_slice(value)));
        } else {
            found(Bytes::copy_from_slice(key), Bytes::copy_from_slice(payload))?;
        }
    }
    flush(&mut group, found)
}

/// Where a long key is, or would be.
struct Slot {
    number: u32,
    taken: bool,
}

/// Looks at all keys with this beginning and checksum: seldom more than one.
fn find(tree: &Tree, txn: &RoTxn<'_>, head: &[u8], rest: &[u8]) -> Result<Slot, Failure> {
    let any = long(head, rest, 0);
    let mut free = 0;
    for item in tree.raw().prefix_iter(txn, &any[..LONG - 4])? {
        let (stored_key, stored) = item?;
        let place = tree.place(stored_key);
        let number = stored_key.last_chunk().copied().map(u32::from_be_bytes);
        let found = parse(unseal(place, stored)?)
            .zip(number)
            .filter(|_| stored_key.len() == LONG);
        let ((found, _value), number) =
            found.ok_or_else(|| place.damaged("the rest of its key is missing"))?;
        if found == rest {
            return Ok(Slot { number, taken: true });
        }
        if number == free {
            free += 1;
        }
    }
    Ok(Slot {
        number: free,
        taken: false,
    })
}

fn split(key: &[u8]) -> Option<(&[u8], &[u8])> {
    (key.len() > SHORT).then(|| key.split_at(SHORT))
}

fn short(key: &[u8]) -> Vec<u8> {
    [&[MARK], key].concat()
}

fn long(head: &[u8], rest: &[u8], number: u32) -> Vec<u8> {
    [
        &[MARK],
        head,
        &crc32c::crc32c(rest).to_be_bytes(),
        &number.to_be_bytes(),
    ]
    .concat()
}

/// The rest of the key, and the value.
fn parse(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, behind) = payload.split_first_chunk()?;
    behind.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}
