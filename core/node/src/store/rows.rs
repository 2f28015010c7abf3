//! A snapshot's chunks, on the wire and staged on disk.

use bytes::Bytes;
use lictor_catalog::{CHUNK_FORMAT, ChunkError, Row, decode_chunk, encode_chunk};

use super::{Breach, StoreError};

pub use lictor_catalog::MAX_CHUNK_BYTES;

const NAME: &str = "snapshot chunk";

/// Encodes rows as one chunk.
pub fn encode_rows(rows: &[Row]) -> Result<Bytes, StoreError> {
    encode_chunk(rows).map_err(|error| {
        let ChunkError::TooLarge(bytes) = error else {
            return unreadable(&error);
        };
        StoreError::Contract {
            path: NAME.into(),
            breach: Breach::ChunkTooLarge(bytes),
        }
    })
}

/// Decodes what [`encode_rows`] made. Anything else, and anything too large, is an error.
pub fn decode_rows(chunk: &[u8]) -> Result<Vec<Row>, StoreError> {
    decode_chunk(chunk).map_err(|error| unreadable(&error))
}

fn unreadable(error: &ChunkError) -> StoreError {
    if let ChunkError::NewerFormat(found) = error {
        return StoreError::NewerFormat {
            path: NAME.into(),
            found: (*found).into(),
            known: CHUNK_FORMAT.into(),
        };
    }
    StoreError::Damaged {
        path: NAME.into(),
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use lictor_catalog::Table;

    use super::*;

    #[test]
    fn errors_name_what_is_wrong_and_where() {
        let newer = StoreError::NewerFormat {
            path: NAME.into(),
            found: 2,
            known: 1,
        };
        assert_eq!(decode_rows(&[2]), Err(newer));
        for bad in [&[][..], &[0], &[1, 99, 0, 0], &[1, 1, 0, 7]] {
            assert!(
                matches!(decode_rows(bad), Err(StoreError::Damaged { .. })),
                "{bad:?}"
            );
        }
        let row = Row {
            table: Table::Kv,
            key: Bytes::from_static(b"k"),
            value: Some(Bytes::from(vec![0; MAX_CHUNK_BYTES])),
        };
        assert!(matches!(encode_rows(&[row]), Err(StoreError::Contract { .. })));
    }
}
