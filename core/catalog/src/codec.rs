//! Commands as bytes: what the log holds.

use std::fmt;

use bytes::Bytes;
use serde::Deserializer;
use serde::de::{Error, SeqAccess, Visitor};

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
    struct Ops;

    impl<'de> Visitor<'de> for Ops {
        type Value = Vec<TxnOp>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_TXN_OPS} operations")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut ops = Vec::new();
            while let Some(op) = seq.next_element()? {
                if ops.len() == MAX_TXN_OPS {
                    return Err(A::Error::invalid_length(ops.len() + 1, &self));
                }
                ops.push(op);
            }
            Ok(ops)
        }
    }

    deserializer.deserialize_seq(Ops)
}
