//! What is said to a question, before it is put into bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::name::Name;

/// All that is known about a question. How much of it is said depends on how much room there is.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    /// Whether the name is in a domain that is answered for.
    pub(crate) authoritative: bool,
    pub(crate) items: Vec<Item>,
    pub(crate) order: Order,
    /// The most items that are said; 0: as many as there is room for.
    pub(crate) most: usize,
    /// Whether each item is good by itself, so that nobody need be told if there was no room for some.
    pub(crate) interchangeable: bool,
    /// Whether it is only for who asked, or for the net that they speak for.
    pub(crate) personal: bool,
    pub(crate) authority: Vec<Record>,
    /// What may help, as far as there is room.
    pub(crate) additional: Vec<Record>,
}

/// Records that belong together: all of them are said, or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Item {
    /// In the section of answers.
    pub(crate) answers: Vec<Record>,
    /// In the additional section. If not even the first item has room for these, it goes without.
    pub(crate) additional: Vec<Record>,
    /// How much more often than others it should come first.
    pub(crate) weight: u16,
    /// Those with a lower one come before those with a higher one.
    pub(crate) rank: u8,
}

/// In which order items are said, within their rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Order {
    /// As they are.
    #[default]
    AsIs,
    /// In a new one each time.
    Shuffled,
    /// In a new one each time, but those with more weight sooner.
    Weighted,
}

/// A resource record of class IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Whose it is; `None` is the name in the question.
    pub(crate) owner: Option<Name>,
    /// How long others may keep it, in seconds.
    pub(crate) ttl: u32,
    pub(crate) data: Data,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(Name),
    Ns(Name),
    Ptr(Name),
    Txt(Box<[u8]>),
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: Name,
    },
    /// Its serial number is the current time.
    Soa {
        server: Name,
        mailbox: Name,
        refresh: u32,
        retry: u32,
        expire: u32,
        minimum: u32,
    },
}

impl Answer {
    /// Nothing, and this is why.
    pub(crate) const fn only(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            items: Vec::new(),
            order: Order::AsIs,
            most: 0,
            interchangeable: false,
            personal: false,
            authority: Vec::new(),
            additional: Vec::new(),
        }
    }

    /// Items in an order of their own, from the domain that they are asked in.
    pub(crate) fn of(items: Vec<Item>) -> Self {
        Self {
            authoritative: true,
            items,
            ..Self::only(ResponseCode::NoError)
        }
    }
}

impl Item {
    /// One record by itself.
    pub(crate) fn single(record: Record) -> Self {
        Self {
            answers: vec![record],
            ..Self::default()
        }
    }
}

impl Record {
    /// An address.
    pub(crate) const fn address(owner: Option<Name>, ttl: u32, address: IpAddr) -> Self {
        let data = match address {
            IpAddr::V4(address) => Data::A(address),
            IpAddr::V6(address) => Data::Aaaa(address),
        };
        Self { owner, ttl, data }
    }
}

impl Data {
    pub(crate) const fn kind(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::AAAA,
            Self::Cname(_) => RecordType::CNAME,
            Self::Ns(_) => RecordType::NS,
            Self::Ptr(_) => RecordType::PTR,
            Self::Txt(_) => RecordType::TXT,
            Self::Srv { .. } => RecordType::SRV,
            Self::Soa { .. } => RecordType::SOA,
        }
    }

    /// The name that it leads to, of which more may be said in the same message.
    pub(crate) const fn target(&self) -> Option<&Name> {
        match self {
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) | Self::Srv { target: name, .. } => {
                Some(name)
            }
            Self::A(_) | Self::Aaaa(_) | Self::Txt(_) | Self::Soa { .. } => None,
        }
    }
}
