//! What is asked about a name.

use hickory_proto::rr::RecordType;

/// The types of records that questions are about, as far as answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    A,
    Aaaa,
    Any,
    Cname,
    Ns,
    Ptr,
    Soa,
    Srv,
    Txt,
    /// All of a zone.
    Transfer,
    /// A type of which there is nothing.
    Other,
}

impl Kind {
    const KNOWN: [(RecordType, Self); 11] = [
        (RecordType::A, Self::A),
        (RecordType::AAAA, Self::Aaaa),
        (RecordType::ANY, Self::Any),
        (RecordType::CNAME, Self::Cname),
        (RecordType::NS, Self::Ns),
        (RecordType::PTR, Self::Ptr),
        (RecordType::SOA, Self::Soa),
        (RecordType::SRV, Self::Srv),
        (RecordType::TXT, Self::Txt),
        (RecordType::AXFR, Self::Transfer),
        (RecordType::IXFR, Self::Transfer),
    ];

    /// What a question of this type is about.
    pub(crate) fn of(record: RecordType) -> Self {
        let mut known = Self::KNOWN.into_iter();
        known
            .find(|(other, _)| *other == record)
            .map_or(Self::Other, |(_, kind)| kind)
    }

    /// Whether it is answered by another name.
    pub(crate) const fn follows_aliases(self) -> bool {
        matches!(self, Self::A | Self::Aaaa | Self::Any | Self::Cname)
    }
}
