//! Rows as bytes: the content of a snapshot's chunks, on the wire and staged on disk.

use bytes::Bytes;
use lictor_catalog::{Row, Table};

use super::{Breach, StoreError};

/// The most bytes that a chunk may have.
pub const MAX_CHUNK_BYTES: usize = 32 << 20;

const FORMAT: u8 = 1;
const NAME: &str = "snapshot chunk";

/// One row as it is encoded. The table goes by its number, which is never reused.
type Encoded = (u8, Bytes, Option<Bytes>);

/// Encodes rows as one chunk.
pub fn encode_rows(rows: &[Row]) -> Result<Bytes, StoreError> {
    let size = rows
        .iter()
        .map(|row| row.key.len() + row.value.as_ref().map_or(0, Bytes::len) + 16)
        .sum::<usize>();
    let mut chunk = Vec::with_capacity(size + 1);
    chunk.push(FORMAT);
    for row in rows {
        let encoded: Encoded = (row.table as u8, row.key.clone(), row.value.clone());
        chunk =
            postcard::to_extend(&encoded, chunk).expect("plain data always encode, and a Vec always extends");
    }
    if chunk.len() > MAX_CHUNK_BYTES {
        return Err(StoreError::Contract {
            path: NAME.into(),
            breach: Breach::ChunkTooLarge(chunk.len()),
        });
    }
    Ok(chunk.into())
}

/// Decodes what [`encode_rows`] made. Anything else, and anything too large, is an error.
pub fn decode_rows(chunk: &[u8]) -> Result<Vec<Row>, StoreError> {
    if chunk.len() > MAX_CHUNK_BYTES {
        return Err(damaged(format!(
            "{} bytes; the most is {MAX_CHUNK_BYTES}",
            chunk.len()
        )));
    }
    let Some((&format, mut rest)) = chunk.split_first() else {
        return Err(damaged("it is empty".into()));
    };
    if format > FORMAT {
        return Err(StoreError::NewerFormat {
            path: NAME.into(),
            found: format.into(),
            known: FORMAT.into(),
        });
    }
    if format != FORMAT {
        return Err(damaged(format!("unknown format {format}")));
    }
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let ((number, key, value), behind) = postcard::take_from_bytes::<Encoded>(rest)
            .map_err(|error| damaged(format!("row {}: {error}", rows.len())))?;
        let table = Table::from_number(number)
            .ok_or_else(|| damaged(format!("row {}: there is no table {number}", rows.len())))?;
        rows.push(Row { table, key, value });
        rest = behind;
    }
    Ok(rows)
}

fn damaged(detail: String) -> StoreError {
    StoreError::Damaged {
        path: NAME.into(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |table, key: &'static [u8], value: Option<&'static [u8]>| Row {
            table,
            key: Bytes::from_static(key),
            value: value.map(Bytes::from_static),
        };
        vec![
            row(Table::Kv, b"a", Some(b"\x00\xff")),
            row(Table::KvTombstones, b"", Some(b"")),
            row(Table::Meta, b"x", None),
        ]
    }

    #[test]
    fn rows_round_trip() {
        let chunk = encode_rows(&rows()).unwrap();
        assert_eq!(decode_rows(&chunk).unwrap(), rows());
        assert_eq!(decode_rows(&encode_rows(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn the_encoding_stays_as_it_is() {
        let expected: &[u8] = b"\x01\x01\x01a\x01\x02\x00\xff\x02\x00\x01\x00\x03\x01x\x00";
        assert_eq!(encode_rows(&rows()).unwrap(), expected);
    }

    #[test]
    fn hostile_chunks_are_refused() {
        let whole = encode_rows(&rows()).unwrap();
        let boundaries = [1, 8, 12];
        for end in 0..whole.len() {
            assert_eq!(
                decode_rows(&whole[..end]).is_ok(),
                boundaries.contains(&end),
                "cut at {end}"
            );
        }
        let newer = StoreError::NewerFormat {
            path: NAME.into(),
            found: 2,
            known: 1,
        };
        assert_eq!(decode_rows(&[2]), Err(newer));
        for bad in [
            &[0][..],
            &[1, 99, 0, 0],
            &[1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[1, 1, 0, 7],
        ] {
            assert!(
                matches!(decode_rows(bad), Err(StoreError::Damaged { .. })),
                "{bad:?}"
            );
        }
        let huge = vec![1; MAX_CHUNK_BYTES + 1];
        assert!(matches!(decode_rows(&huge), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_chunk_that_nobody_would_accept_is_not_made() {
        let value = Some(Bytes::from(vec![0; MAX_CHUNK_BYTES]));
        let row = Row {
            table: Table::Kv,
            key: Bytes::from_static(b"k"),
            value,
        };
        assert!(matches!(encode_rows(&[row]), Err(StoreError::Contract { .. })));
    }
}
