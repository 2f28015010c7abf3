//! Commands as bytes: what the log holds.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::command::{Command, TxnOp};

/// The most operations that a transaction in the log may have. The HTTP API is stricter; this bounds what a damaged or
/// hostile command can ask for.
pub const MAX_TXN_OPS: usize = 1024;

/// The format that [`Command::encode`] writes: the first byte of every command.
const VERSION: u8 = 1;

/// Why bytes are not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are no bytes.
    #[error("a command without any bytes")]
    Empty,
    /// A newer version of this program wrote it.
    #[error("a command in format {found}, and this program knows none above {known}: start the newer version", known = VERSION)]
    NewerFormat {
        /// Its format.
        found: u8,
    },
    /// It does not follow its format.
    #[error("a damaged command of {len} bytes: {detail}")]
    Malformed {
        /// How many bytes it has.
        len: usize,
        /// What is wrong.
        detail: String,
    },
}

impl Command {
    /// The command as bytes: a version byte, then postcard. Equal commands have equal bytes.
    pub fn encode(&self) -> Bytes {
        let encoded = postcard::to_extend(self, vec![VERSION]);
        Bytes::from(
            encoded.expect("a command holds nothing that postcard refuses, and a Vec takes all bytes"),
        )
    }

    /// The command that [`Self::encode`] made these bytes from. Allocates in proportion to their number, whatever they claim.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let malformed = |detail: String| DecodeError::Malformed {
            len: bytes.len(),
            detail,
        };
        let (version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
        match *version {
            VERSION => {}
            0 => return Err(malformed("its format is 0, which never existed".to_owned())),
            found => return Err(DecodeError::NewerFormat { found }),
        }
        match postcard::take_from_bytes(body).map_err(|error| malformed(error.to_string()))? {
            (command, []) => Ok(command),
            (_, rest) => Err(malformed(format!(
                "{} bytes are left over at its end",
                rest.len()
            ))),
        }
    }
}

/// Reads the operations of a transaction without trusting the number that they claim to be.
pub(crate) fn bounded_ops<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TxnOp>, D::Error> {
    bounded(deserializer, MAX_TXN_OPS, "operations")
}

/// Reads a list of at most `limit` items without trusting the number that they claim to be. `what` names them in errors.
pub fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    limit: usize,
    what: &'static str,
) -> Result<Vec<T>, D::Error> {
    struct Items<T> {
        limit: usize,
        what: &'static str,
        item: PhantomData<T>,
    }

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {} {}", self.limit, self.what)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() == self.limit {
                    return Err(A::Error::invalid_length(items.len() + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }

    deserializer.deserialize_seq(Items {
        limit,
        what,
        item: PhantomData,
    })
}
