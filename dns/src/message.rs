//! Putting an encoded answer into a message that is no longer than it may be.

use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use lictor_machine::Rng;

use crate::answer::Order;
use crate::encode::{Encoded, Fill, Placed};
use crate::meters::Tally;
use crate::request::{Edns, HEADER_BYTES, Request, flags};

/// How much an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// The message's bytes.
    pub(crate) bytes: usize,
    /// Records in the section of answers, if these are interchangeable and that is limited.
    pub(crate) answers: Option<usize>,
    /// Whether to tell the client of anything that had to be left out.
    pub(crate) tell: bool,
}

/// What one task that writes messages has for itself, so that nothing need be allocated for them.
#[derive(Debug)]
pub(crate) struct Desk {
    /// The message that was written last.
    pub(crate) message: Vec<u8>,
    /// What was written.
    pub(crate) tally: Tally,
    rng: Rng,
    order: Vec<u32>,
    /// Items that are in the message, and where.
    placed: Vec<(u32, Placed)>,
}

impl Desk {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            message: Vec::with_capacity(4096),
            tally: Tally::default(),
            rng,
            order: Vec::new(),
            placed: Vec::new(),
        }
    }

    /// Writes the answer to a request into [`Self::message`].
    ///
    /// Never longer than the room, if that is enough for the question and an OPT record.
    pub(crate) fn write(
        &mut self,
        request: &Request,
        answer: &Encoded,
        room: Room,
        recursion: bool,
        serial: u32,
    ) {
        let opt = request.edns.as_ref();
        let opt = opt.map(|edns| Opt::answering(edns, answer.personal));
        let limit = room.bytes - opt.as_ref().map_or(0, |opt| opt.0.len());
        self.message.clear();
        self.message.extend_from_slice(&[0; HEADER_BYTES]);
        self.message.extend_from_slice(request.question());
        let fill = Fill {
            name: request.written_name(),
            serial,
        };
        let (answers, mut left_out) = self.put_items(
            answer,
            room.answers.filter(|_| answer.interchangeable),
            limit,
            fill,
        );
        let mut authorities = 0;
        if self.message.len() + Encoded::length(answer.authority, None) <= limit {
            answer.put(answer.authority, None, fill, &mut self.message);
            authorities = answer.authority.records;
        } else {
            left_out |= !answer.interchangeable;
        }
        let mut additional = self.put_additional(answer, limit, fill);
        if let Some(opt) = opt {
            self.message.extend_from_slice(&opt.0);
            additional += 1;
        }
        let set = |flag: u16, on: bool| if on { flag } else { 0 };
        let truncated = left_out && (room.tell || !answer.interchangeable);
        let said = flags::RESPONSE
            | set(flags::AUTHORITATIVE, answer.authoritative)
            | set(flags::TRUNCATED, truncated)
            | set(flags::RECURSION_AVAILABLE, recursion)
            | request.flags()
            | answer.code;
        let header = [request.id, said, 1, answers, authorities, additional];
        for (word, number) in self.message.chunks_exact_mut(2).zip(header) {
            word.copy_from_slice(&number.to_be_bytes());
        }
    }

    /// Tells the client that what is in [`Self::message`] is not all.
    pub(crate) fn truncate(&mut self) {
        if let Some(byte) = self.message.get_mut(2) {
            *byte |= (flags::TRUNCATED >> 8) as u8;
        }
    }

    /// Puts as many items as may be, and says how many records these were, and whether there was no room for more.
    fn put_items(
        &mut self,
        answer: &Encoded,
        most_records: Option<usize>,
        limit: usize,
        fill: Fill<'_>,
    ) -> (u16, bool) {
        self.placed.clear();
        self.arrange(answer);
        let wanted = match answer.most {
            0 => answer.items.len(),
            most => most.min(answer.items.len()),
        };
        let mut rank_end = 0;
        let (mut records, mut glue) = (0, 0);
        for place in 0..wanted {
            if answer.order == Order::Shuffled {
                if place >= rank_end {
                    let rank = answer.items[place].rank;
                    let more = answer.items[place..].iter();
                    rank_end = place + more.take_while(|item| item.rank == rank).count();
                }
                let other = place + self.rng.below((rank_end - place) as u64) as usize;
                self.order.swap(place, other);
            }
            let number = self.order[place];
            let item = &answer.items[number as usize];
            let placed = Placed {
                at: self.message.len(),
            };
            let after = records + usize::from(item.answers.records);
            let of_answers = placed.at + Encoded::length(item.answers, Some((item, placed)));
            let of_glue = glue + Encoded::length(item.additional, Some((item, placed)));
            let first = self.placed.is_empty();
            if of_answers > limit || (!first && most_records.is_some_and(|most| after > most)) {
                return (records as u16, true);
            }
            answer.put(item.answers, Some((item, placed)), fill, &mut self.message);
            if of_answers + of_glue > limit {
                if first {
                    // Better without glue than nothing at all.
                    return (after as u16, true);
                }
                self.message.truncate(placed.at);
                return (records as u16, true);
            }
            self.placed.push((number, placed));
            (records, glue) = (after, of_glue);
        }
        (records as u16, false)
    }

    /// Fills in the order in which items are tried. If they are shuffled that is done as they are, since mostly few are wanted.
    fn arrange(&mut self, answer: &Encoded) {
        self.order.clear();
        self.order.extend(0..answer.items.len() as u32);
        if answer.order != Order::Weighted {
            return;
        }
        // The smallest of exponentially distributed numbers belongs to each with a probability that is proportional to its rate.
        let mut drawn: Vec<(u8, f64, u32)> = Vec::with_capacity(answer.items.len());
        for (number, item) in (0..).zip(&answer.items) {
            let uniform = ((self.rng.next_u64() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
            let waits = match item.weight {
                0 => f64::INFINITY,
                weight => -uniform.ln() / f64::from(weight),
            };
            drawn.push((item.rank, waits, number));
        }
        drawn.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)));
        for (place, (_, _, number)) in self.order.iter_mut().zip(drawn) {
            *place = number;
        }
    }

    /// Puts the glue of all items that are there, and what else there is room for. Says how many records these were.
    fn put_additional(&mut self, answer: &Encoded, limit: usize, fill: Fill<'_>) -> u16 {
        let mut records = 0;
        for (number, placed) in &self.placed {
            let item = &answer.items[*number as usize];
            answer.put(item.additional, Some((item, *placed)), fill, &mut self.message);
            records += item.additional.records;
        }
        for fragment in &answer.additional {
            if self.message.len() + Encoded::length(*fragment, None) <= limit {
                answer.put(*fragment, None, fill, &mut self.message);
                records += fragment.records;
            }
        }
        records
    }
}

/// An OPT record as bytes.
struct Opt(Vec<u8>);

impl Opt {
    /// The one in the answer to a request with this one: the same size, and for whom it was. No other option is understood.
    fn answering(edns: &Edns, personal: bool) -> Self {
        let mut bytes = Vec::with_capacity(32);
        bytes.push(0); // the root's name
        for word in [41, edns.payload, 0, 0] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        let option = edns.subnet.and_then(|subnet| {
            // Scope 0: the answer is the same for everybody.
            let scope = if personal { subnet.source_prefix() } else { 0 };
            let subnet = ClientSubnet::new(subnet.addr(), subnet.source_prefix(), scope);
            let subnet = EdnsOption::Subnet(subnet);
            Vec::try_from(&subnet).ok()
        });
        match option {
            None => bytes.extend_from_slice(&[0, 0]),
            Some(option) => {
                let length = option.len() as u16;
                for word in [4 + length, EdnsCode::Subnet.into(), length] {
                    bytes.extend_from_slice(&word.to_be_bytes());
                }
                bytes.extend_from_slice(&option);
            }
        }
        Self(bytes)
    }
}
