//! Rows as bytes, many at a time: the content of a snapshot's chunks and of archives, on the wire and on disk.

use bytes::Bytes;

use crate::row::{Row, Table};

/// The most bytes that a chunk may have.
pub const MAX_CHUNK_BYTES: usize = 32 << 20;

/// The format of chunks that this program writes, and the newest that it reads.
pub const CHUNK_FORMAT: u8 = 1;

/// One row as it is encoded. The table goes by its number, which is never reused.
type Encoded = (u8, Bytes, Option<Bytes>);

/// Why bytes are no chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// It has more than [`MAX_CHUNK_BYTES`].
    #[error("{0} bytes; the most is {MAX_CHUNK_BYTES}")]
    TooLarge(usize),
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// A newer version of this program wrote it.
    #[error("format {0}, and this program knows none above {CHUNK_FORMAT}")]
    NewerFormat(u8),
    /// A format that never existed.
    #[error("unknown format {0}")]
    UnknownFormat(u8),
    /// A row is of a table that is not known: perhaps a newer version of this program wrote it.
    #[error("row {row}: there is no table {table}")]
    UnknownTable {
        /// Which row, from 0.
        row: usize,
        /// The table's number.
        table: u8,
    },
    /// A row does not follow its format.
    #[error("row {row}: {detail}")]
    Malformed {
        /// Which row, from 0.
        row: usize,
        /// What is wrong.
        detail: String,
    },
}

impl ChunkError {
    /// Whether a newer version of this program may be able to read it.
    pub const fn is_from_the_future(&self) -> bool {
        match self {
            Self::NewerFormat(_) | Self::UnknownTable { .. } => true,
            Self::TooLarge(_) | Self::Empty | Self::UnknownFormat(_) | Self::Malformed { .. } => false,
        }
    }
}

/// Encodes rows as one chunk. Fails if that has more than [`MAX_CHUNK_BYTES`].
pub fn encode_chunk(rows: &[Row]) -> Result<Bytes, ChunkError> {
    const PER_ROW: usize = 16;
    let size: usize = rows
        .iter()
        .map(|row| row.key.len() + row.value.as_ref().map_or(0, Bytes::len) + PER_ROW)
        .sum();
    let mut chunk = Vec::with_capacity(size + 1);
    chunk.push(CHUNK_FORMAT);
    for row in rows {
        let encoded: Encoded = (row.table as u8, row.key.clone(), row.value.clone());
        chunk =
            postcard::to_extend(&encoded, chunk).expect("plain data always encode, and a Vec always extends");
    }
    if chunk.len() > MAX_CHUNK_BYTES {
        return Err(ChunkError::TooLarge(chunk.len()));
    }
    Ok(chunk.into())
}

/// Decodes what [`encode_chunk`] made. Anything else, and anything too large, is an error.
pub fn decode_chunk(chunk: &[u8]) -> Result<Vec<Row>, ChunkError> {
    if chunk.len() > MAX_CHUNK_BYTES {
        return Err(ChunkError::TooLarge(chunk.len()));
    }
    let Some((&format, mut rest)) = chunk.split_first() else {
        return Err(ChunkError::Empty);
    };
    if format > CHUNK_FORMAT {
        return Err(ChunkError::NewerFormat(format));
    }
    if format != CHUNK_FORMAT {
        return Err(ChunkError::UnknownFormat(format));
    }
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let row = rows.len();
        let ((number, key, value), behind) =
            postcard::take_from_bytes::<Encoded>(rest).map_err(|error| ChunkError::Malformed {
                row,
                detail: error.to_string(),
            })?;
        let table = Table::from_number(number).ok_or(ChunkError::UnknownTable { row, table: number })?;
        rows.push(Row { table, key, value });
        rest = behind;
    }
    Ok(rows)
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
        let chunk = encode_chunk(&rows()).unwrap();
        assert_eq!(decode_chunk(&chunk).unwrap(), rows());
        assert_eq!(decode_chunk(&encode_chunk(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn the_encoding_stays_as_it_is() {
        let expected: &[u8] = b"\x01\x01\x01a\x01\x02\x00\xff\x02\x00\x01\x00\x03\x01x\x00";
        assert_eq!(encode_chunk(&rows()).unwrap(), expected);
    }

    #[test]
    fn hostile_chunks_are_refused() {
        let whole = encode_chunk(&rows()).unwrap();
        let boundaries = [1, 8, 12];
        for end in 0..whole.len() {
            assert_eq!(
                decode_chunk(&whole[..end]).is_ok(),
                boundaries.contains(&end),
                "cut at {end}"
            );
        }
        assert_eq!(decode_chunk(&[2]), Err(ChunkError::NewerFormat(2)));
        assert_eq!(decode_chunk(&[0]), Err(ChunkError::UnknownFormat(0)));
        let unknown = ChunkError::UnknownTable { row: 0, table: 99 };
        assert_eq!(decode_chunk(&[1, 99, 0, 0]), Err(unknown));
        for bad in [&[1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[1, 1, 0, 7]] {
            let refused = decode_chunk(bad);
            assert!(
                matches!(refused, Err(ChunkError::Malformed { row: 0, .. })),
                "{bad:?}"
            );
        }
        let huge = vec![1; MAX_CHUNK_BYTES + 1];
        assert_eq!(
            decode_chunk(&huge),
            Err(ChunkError::TooLarge(MAX_CHUNK_BYTES + 1))
        );
    }

    #[test]
    fn what_may_be_from_the_future_is_told_from_damage() {
        assert!(ChunkError::NewerFormat(2).is_from_the_future());
        assert!(ChunkError::UnknownTable { row: 0, table: 99 }.is_from_the_future());
        assert!(!ChunkError::Empty.is_from_the_future());
    }

    #[test]
    fn a_chunk_that_nobody_would_accept_is_not_made() {
        let row = Row {
            table: Table::Kv,
            key: Bytes::from_static(b"k"),
            value: Some(Bytes::from(vec![0; MAX_CHUNK_BYTES])),
        };
        assert!(matches!(encode_chunk(&[row]), Err(ChunkError::TooLarge(_))));
    }
}
