//! How many bytes commands and answers take on the wire, for those who budget memory.

use postcard::ser_flavors::Size;
use serde::Serialize;

use crate::command::{Action, Found};
use crate::discovery::CatalogChange;
use crate::prepared::Execute;

impl Action {
    /// How many bytes it takes on the wire. Looks at all of it, but copies nothing.
    pub fn size(&self) -> usize {
        size(self)
    }
}

impl CatalogChange {
    /// How many bytes it takes on the wire. Looks at all of it, but copies nothing.
    pub fn size(&self) -> usize {
        size(self)
    }
}

impl Execute {
    /// How many bytes it takes on the wire. Looks at all of it, but copies nothing.
    pub fn size(&self) -> usize {
        size(self)
    }
}

impl Found {
    /// How many bytes it takes on the wire. Looks at all of it, but copies nothing.
    pub fn size(&self) -> usize {
        size(self)
    }
}

/// How many bytes it takes on the wire.
pub(crate) fn size<T: Serialize>(object: &T) -> usize {
    let size = postcard::serialize_with_flavor(object, Size::default());
    size.expect("commands and answers hold nothing that postcard refuses, and counting takes all bytes")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{Action, Found, KvPair, KvWrite};

    #[test]
    fn it_is_what_they_are_encoded_in() {
        let action = Action::Kv(KvWrite::Set(KvPair {
            key: Bytes::from_static(b"key"),
            value: Bytes::from(vec![0; 1000]),
            flags: 300,
        }));
        assert_eq!(action.size(), postcard::to_allocvec(&action).unwrap().len());
        let found = Found::Keys(vec![Bytes::from_static(b"a"), Bytes::from_static(b"bc")]);
        assert_eq!(found.size(), 1 + 1 + 2 + 3);
    }
}
