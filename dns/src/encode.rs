//! Answers as bytes: encoded once, and put into messages many times.
//!
//! A message differs from the next one to the same question in its id, the letter case of the name, the order of its records, and how many
//! of them there is room for. So records are encoded as *fragments* that can stand anywhere in a message, with a list of the few places
//! that depend on where that is.

use hickory_proto::rr::RecordType;

use crate::answer::{Answer, Data, Item, Order, Record};
use crate::name::{Name, suffixes};
use crate::request::HEADER_BYTES;

/// A pointer to the name in the question, which begins right behind the header.
const TO_QUESTION: u16 = POINTER | HEADER_BYTES as u16;

/// The bits that tell a pointer from a label's length.
const POINTER: u16 = 0xc000;

/// The length of a string in a TXT record, at most.
const MAX_STRING_BYTES: usize = 255;

/// An answer as bytes, without what differs from one message to the next.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The response code.
    pub(crate) code: u16,
    pub(crate) authoritative: bool,
    pub(crate) order: Order,
    pub(crate) most: usize,
    pub(crate) interchangeable: bool,
    pub(crate) personal: bool,
    /// By rank.
    pub(crate) items: Box<[EncodedItem]>,
    pub(crate) authority: Fragment,
    pub(crate) additional: Box<[Fragment]>,
    /// All fragments, and the targets' names in full.
    bytes: Box<[u8]>,
    patches: Box<[Patch]>,
}

/// An [`Item`] as bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncodedItem {
    pub(crate) answers: Fragment,
    pub(crate) additional: Fragment,
    /// Where the name that its first record leads to is within `answers`, and the same name in full.
    target: Option<(u32, Span)>,
    pub(crate) weight: u16,
    pub(crate) rank: u8,
}

/// Records that stand behind each other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fragment {
    bytes: Span,
    patches: Span,
    /// How many of the patches are [`What::Target`].
    pointers: u16,
    pub(crate) records: u16,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    const fn of(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    fn get<T>(self, list: &[T]) -> &[T] {
        &list[self.start as usize..self.end as usize]
    }
}

/// A place in a fragment that depends on the message.
#[derive(Clone, Copy, Debug)]
struct Patch {
    /// From the fragment's beginning.
    at: u32,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// The question's name in full, as the client wrote it.
    Question,
    /// A pointer to the item's target.
    Target,
    /// The serial number of a SOA record.
    Serial,
}

/// Where an item's answers were put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) at: usize,
}

/// What a message fills its gaps with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill<'a> {
    /// The question's name, as the client wrote it.
    pub(crate) name: &'a [u8],
    /// The serial number of SOA records.
    pub(crate) serial: u32,
}

impl Encoded {
    /// Encodes the answer to the question for `name`, which is in lower case. With `compress`, names are not repeated.
    pub(crate) fn new(answer: &Answer, name: &[u8], compress: bool) -> Self {
        let mut writer = Writer {
            name,
            compress,
            bytes: Vec::with_capacity(64 * (answer.items.len() + answer.additional.len() + 1)),
            patches: Vec::new(),
        };
        let mut items: Vec<EncodedItem> = answer.items.iter().map(|item| writer.item(item)).collect();
        items.sort_by_key(|item| item.rank);
        let authority = writer.fragment(&answer.authority, None).0;
        let additional = answer
            .additional
            .iter()
            .map(|record| writer.fragment(std::slice::from_ref(record), None).0)
            .collect();
        let even = answer.items.windows(2).all(|two| two[0].weight == two[1].weight);
        Self {
            code: answer.code.into(),
            authoritative: answer.authoritative,
            order: match answer.order {
                Order::Weighted if even => Order::Shuffled,
                order @ (Order::AsIs | Order::Shuffled | Order::Weighted) => order,
            },
            most: answer.most,
            interchangeable: answer.interchangeable,
            personal: answer.personal,
            items: items.into(),
            authority,
            additional,
            bytes: writer.bytes.into(),
            patches: writer.patches.into(),
        }
    }

    /// How much memory it takes, about.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
            + self.bytes.len()
            + size_of_val(&*self.patches)
            + size_of_val(&*self.items)
            + size_of_val(&*self.additional)
    }

    /// How long a fragment will be behind an item that was put at `placed`.
    pub(crate) fn length(fragment: Fragment, behind: Option<(&EncodedItem, Placed)>) -> usize {
        let length = fragment.bytes.len();
        match behind.and_then(|(item, placed)| item.beyond_pointers(placed)) {
            Some(name) => length + usize::from(fragment.pointers) * (name.len() - size_of::<u16>()),
            None => length,
        }
    }

    /// Puts a fragment at the end of a message.
    pub(crate) fn put(
        &self,
        fragment: Fragment,
        behind: Option<(&EncodedItem, Placed)>,
        fill: Fill<'_>,
        message: &mut Vec<u8>,
    ) {
        let bytes = fragment.bytes.get(&self.bytes);
        let patches = fragment.patches.get(&self.patches);
        if let Some(name) = behind.and_then(|(item, placed)| item.beyond_pointers(placed)) {
            put_far(bytes, patches, name.get(&self.bytes), message);
            return;
        }
        let begin = message.len();
        message.extend_from_slice(bytes);
        for patch in patches {
            let gap = &mut message[begin + patch.at as usize..];
            match patch.what {
                What::Question => gap[..fill.name.len()].copy_from_slice(fill.name),
                What::Serial => gap[..4].copy_from_slice(&fill.serial.to_be_bytes()),
                What::Target => {
                    let at = behind
                        .and_then(|(item, placed)| item.target_at(placed))
                        .unwrap_or(0);
                    gap[..2].copy_from_slice(&(POINTER | at as u16).to_be_bytes());
                }
            }
        }
    }
}

impl EncodedItem {
    /// Where in the message its target is.
    fn target_at(&self, placed: Placed) -> Option<usize> {
        self.target.map(|(at, _)| placed.at + at as usize)
    }

    /// The target's name, if it is where no pointer can point.
    fn beyond_pointers(&self, placed: Placed) -> Option<Span> {
        let (at, name) = self.target?;
        let reach = usize::from(!POINTER);
        (placed.at + at as usize > reach).then_some(name)
    }
}

/// The same where pointers do not reach: with the target's name in full. Only glue is put there, which has no other gaps.
fn put_far(bytes: &[u8], patches: &[Patch], name: &[u8], message: &mut Vec<u8>) {
    let mut from = 0;
    for patch in patches {
        let at = patch.at as usize;
        message.extend_from_slice(&bytes[from..at]);
        message.extend_from_slice(name);
        from = at + size_of::<u16>();
    }
    message.extend_from_slice(&bytes[from..]);
}

/// Encodes records.
struct Writer<'a> {
    name: &'a [u8],
    compress: bool,
    bytes: Vec<u8>,
    patches: Vec<Patch>,
}

impl Writer<'_> {
    fn item(&mut self, item: &Item) -> EncodedItem {
        let target = item.answers.first().and_then(|record| record.data.target());
        let (answers, at) = self.fragment(&item.answers, target);
        let (additional, _) = self.fragment(&item.additional, target);
        let target = match (target, at) {
            (Some(target), Some(at)) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(target.wire());
                Some((at, Span::of(start, self.bytes.len())))
            }
            (Some(_) | None, _) => None,
        };
        EncodedItem {
            answers,
            additional,
            target,
            weight: item.weight,
            rank: item.rank,
        }
    }

    /// Encodes records that stand behind each other, and says where in them the name that the first one leads to is. Those that `target`
    /// owns are said to be owned by a pointer to there.
    fn fragment(&mut self, records: &[Record], target: Option<&Name>) -> (Fragment, Option<u32>) {
        let (start, first_patch) = (self.bytes.len(), self.patches.len());
        let mut target_at = None;
        for (number, record) in records.iter().enumerate() {
            let led_to = self.record(record, start, target);
            if number == 0 {
                target_at = led_to;
            }
        }
        let patches = &self.patches[first_patch..];
        let pointers = patches.iter().filter(|patch| patch.what == What::Target);
        let fragment = Fragment {
            pointers: pointers.count() as u16,
            bytes: Span::of(start, self.bytes.len()),
            patches: Span::of(first_patch, self.patches.len()),
            records: records.len() as u16,
        };
        (fragment, target_at)
    }

    fn record(&mut self, record: &Record, start: usize, target: Option<&Name>) -> Option<u32> {
        match &record.owner {
            None if self.compress => self.number(TO_QUESTION),
            None => {
                self.patch(start, What::Question);
                self.bytes.extend_from_slice(self.name);
            }
            Some(owner) if self.compress && Some(owner) == target => {
                self.patch(start, What::Target);
                self.number(POINTER);
            }
            Some(owner) => self.name(owner),
        }
        self.number(record.data.kind().into());
        self.number(1); // class IN
        self.bytes.extend_from_slice(&record.ttl.to_be_bytes());
        let length_at = self.bytes.len();
        self.number(0);
        let led_to = self.data(&record.data, start);
        let length = (self.bytes.len() - length_at - size_of::<u16>()) as u16;
        self.bytes[length_at..length_at + size_of::<u16>()].copy_from_slice(&length.to_be_bytes());
        led_to
    }

    fn data(&mut self, data: &Data, start: usize) -> Option<u32> {
        debug_assert_ne!(data.kind(), RecordType::ANY);
        match data {
            Data::A(address) => self.bytes.extend_from_slice(&address.octets()),
            Data::Aaaa(address) => self.bytes.extend_from_slice(&address.octets()),
            Data::Cname(name) | Data::Ns(name) | Data::Ptr(name) => {
                let at = self.bytes.len() - start;
                self.name(name);
                return Some(at as u32);
            }
            Data::Txt(text) => self.text(text),
            Data::Srv {
                priority,
                weight,
                port,
                target,
            } => {
                for number in [*priority, *weight, *port] {
                    self.number(number);
                }
                let at = self.bytes.len() - start;
                // RFC 2782: never compressed.
                self.bytes.extend_from_slice(target.wire());
                return Some(at as u32);
            }
            Data::Soa {
                server,
                mailbox,
                refresh,
                retry,
                expire,
                minimum,
            } => {
                self.name(server);
                self.name(mailbox);
                self.patch(start, What::Serial);
                for number in [0, *refresh, *retry, *expire, *minimum] {
                    self.bytes.extend_from_slice(&number.to_be_bytes());
                }
            }
        }
        None
    }

    fn text(&mut self, text: &[u8]) {
        if text.is_empty() {
            self.bytes.push(0);
        }
        for string in text.chunks(MAX_STRING_BYTES) {
            self.bytes.push(string.len() as u8);
            self.bytes.extend_from_slice(string);
        }
    }

    /// A name, of which the part that is in the question too is a pointer to there.
    fn name(&mut self, name: &Name) {
        let wire = name.wire();
        let shared = suffixes(wire).filter(|_| self.compress).find_map(|at| {
            let suffix = &wire[at..];
            let from = self.name.len().checked_sub(suffix.len())?;
            let same = self.name[from..].eq_ignore_ascii_case(suffix);
            // The same bytes may also be in the middle of a label.
            let same = same && suffixes(self.name).any(|other| other == from);
            same.then_some((at, from))
        });
        match shared {
            Some((at, from)) => {
                self.bytes.extend_from_slice(&wire[..at]);
                self.number(TO_QUESTION + from as u16);
            }
            None => self.bytes.extend_from_slice(wire),
        }
    }

    fn number(&mut self, number: u16) {
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    fn patch(&mut self, start: usize, what: What) {
        self.patches.push(Patch {
            at: (self.bytes.len() - start) as u32,
            what,
        });
    }
}
