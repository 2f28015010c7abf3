//! How a value is stored: `[format, 1 byte][CRC-32C, 4 bytes, big-endian][payload]`.
//!
//! The checksum covers the table's name, the key, the format and the payload, so that a value under a wrong key is noticed too.

use std::fmt;

use lictor_node::store::StoreError;

const FORMAT: u8 = 1;
const HEADER: usize = 5;

/// Where a value is: for its checksum, and for errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a str,
    pub(crate) table: &'a str,
    pub(crate) key: &'a [u8],
}

/// Makes `buffer` the stored form of the payload that `fill` appends to it.
pub(crate) fn seal(buffer: &mut Vec<u8>, place: Place<'_>, fill: impl FnOnce(&mut Vec<u8>)) {
    buffer.clear();
    buffer.extend([FORMAT, 0, 0, 0, 0]);
    fill(buffer);
    let checksum = place.checksum(FORMAT, &buffer[HEADER..]);
    buffer[1..HEADER].copy_from_slice(&checksum.to_be_bytes());
}

/// The payload of a stored value, if it is what was stored.
pub(crate) fn unseal<'v>(place: Place<'_>, stored: &'v [u8]) -> Result<&'v [u8], StoreError> {
    let Some((&[format, a, b, c, d], payload)) = stored.split_first_chunk::<HEADER>() else {
        return Err(place.damaged("too short to be a value"));
    };
    if place.checksum(format, payload) != u32::from_be_bytes([a, b, c, d]) {
        return Err(place.damaged("wrong checksum"));
    }
    if format > FORMAT {
        let (path, found, known) = (place.to_string(), format.into(), FORMAT.into());
        return Err(StoreError::NewerFormat { path, found, known });
    }
    if format != FORMAT {
        return Err(place.damaged("unknown format"));
    }
    Ok(payload)
}

impl Place<'_> {
    pub(crate) fn damaged(&self, detail: impl fmt::Display) -> StoreError {
        let detail = format!("table {}, key {}: {detail}", self.table, Key(self.key));
        StoreError::Damaged {
            path: self.file.to_owned(),
            detail,
        }
    }

    fn checksum(&self, format: u8, payload: &[u8]) -> u32 {
        [self.table.as_bytes(), self.key, &[format], payload]
            .iter()
            .fold(0, |sum, part| crc32c::crc32c_append(sum, part))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, table {}, key {}", self.file, self.table, Key(self.key))
    }
}

/// Indexes as numbers, the rest as text; short enough for a message.
struct Key<'a>(&'a [u8]);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 80;
        match <[u8; 8]>::try_from(self.0) {
            Ok(number) if number[0] == 0 => write!(f, "{}", u64::from_be_bytes(number)),
            Ok(_) | Err(_) if self.0.len() <= SHOWN => write!(f, "\"{}\"", self.0.escape_ascii()),
            Ok(_) | Err(_) => write!(
                f,
                "\"{}\"... ({} bytes)",
                self.0[..SHOWN].escape_ascii(),
                self.0.len()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place {
        file: "data.mdb",
        table: "log",
        key: &[0, 0, 0, 0, 0, 0, 0, 7],
    };

    fn sealed(payload: &[u8]) -> Vec<u8> {
        let mut buffer = b"left over".to_vec();
        seal(&mut buffer, PLACE, |buffer| buffer.extend(payload));
        buffer
    }

    #[test]
    fn the_stored_form_stays_as_it_is() {
        assert_eq!(sealed(b"payload"), b"\x01\x72\xd8\xdf\xbcpayload");
    }

    #[test]
    fn what_was_sealed_is_unsealed() {
        for payload in [&b""[..], b"x", &[0; 5000]] {
            assert_eq!(unseal(PLACE, &sealed(payload)).unwrap(), payload);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = sealed(b"some payload");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(unseal(PLACE, &bad), Err(StoreError::Damaged { .. })),
                "bit {bit}"
            );
        }
        for length in 0..good.len() {
            assert!(matches!(
                unseal(PLACE, &good[..length]),
                Err(StoreError::Damaged { .. })
            ));
        }
    }

    #[test]
    fn a_value_that_strayed_is_noticed() {
        let stored = sealed(b"payload");
        let elsewhere = [
            Place { key: b"8", ..PLACE },
            Place {
                table: "meta",
                ..PLACE
            },
        ];
        for place in elsewhere {
            assert!(matches!(unseal(place, &stored), Err(StoreError::Damaged { .. })));
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut stored = vec![FORMAT + 1];
        stored.extend(PLACE.checksum(FORMAT + 1, b"future").to_be_bytes());
        stored.extend(b"future");
        let error = unseal(PLACE, &stored).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::NewerFormat {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
        let mut older = vec![0];
        older.extend(PLACE.checksum(0, b"past").to_be_bytes());
        older.extend(b"past");
        assert!(matches!(unseal(PLACE, &older), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn errors_say_where() {
        let error = unseal(PLACE, b"bad").unwrap_err().to_string();
        assert!(
            error.contains("data.mdb") && error.contains("table log, key 7"),
            "{error}"
        );
        let long = Place {
            key: &[b'k'; 200],
            ..PLACE
        };
        let error = unseal(long, b"bad").unwrap_err().to_string();
        assert!(error.contains("(200 bytes)") && error.len() < 300, "{error}");
    }
}
