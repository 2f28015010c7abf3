//! How long an environment's file has to be. LMDB trusts it to be whole: where it is not, it ends the process.
//!
//! A file may rightly be shorter than the pages it counts: LMDB does not write pages that a transaction allocated and freed again.
//! [`Environment`](crate::environment::Environment) therefore keeps the file [`AHEAD`] of its last page (which costs no space, for nothing is
//! written there) before a commit begins. So what the commit before the last one counted is always there, and that much more;
//! only the end of a last commit that was larger may be missing, after a crash.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use lictor_node::store::StoreError;

use crate::error::io_error;

/// How far beyond its last page a file reaches before a commit begins, at least, in bytes.
pub(crate) const AHEAD: u64 = 1 << 20;
/// How much of a larger commit may be missing, in bytes.
const MAX_UNWRITTEN: u64 = 1 << 20;

/// Finds out whether a file that LMDB has not opened yet was cut off. Changes nothing.
///
/// A file that is not there, is empty, or is not LMDB's is none of this function's business.
pub(crate) fn check(path: &Path) -> Result<(), StoreError> {
    let failed = |error| io_error(&path.display(), error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let length = file.metadata().map_err(failed)?.len();
    let Found::Meta(first) = Meta::read(&file, 0).map_err(failed)? else {
        return Ok(());
    };
    let cut_off = |needed: u64| StoreError::Damaged {
        path: path.display().to_string(),
        detail: format!("cut off: {length} of {needed} bytes are there"),
    };
    let second = match Meta::read(&file, first.page).map_err(failed)? {
        Found::Meta(second) => second,
        Found::End => return Err(cut_off(first.bytes())),
        Found::Other => return Ok(()),
    };
    let (older, newer) = if first.transaction < second.transaction {
        (first, second)
    } else {
        (second, first)
    };
    let needed = newer.bytes();
    let sure = older.bytes().saturating_add(AHEAD).min(needed);
    if length < sure || needed.saturating_sub(length) > MAX_UNWRITTEN {
        return Err(cut_off(needed));
    }
    Ok(())
}

/// The part of a meta page that counts here. There are two of them, the first two pages; commits write them in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meta {
    /// The size of a page, in bytes.
    page: u64,
    last_page: u64,
    transaction: u64,
}

enum Found {
    Meta(Meta),
    /// The file ends before it.
    End,
    /// Something else: LMDB knows what to say of it.
    Other,
}

/// LMDB writes its structures as the machine has them in memory.
const WORD: usize = size_of::<usize>();
/// A page's number, two numbers of 16 bits, and one of 32.
const PAGE_HEADER: usize = WORD + 8;
const PAGE_FLAGS: usize = WORD + 2;
const IS_META: u16 = 0x08;
/// In the meta data: the magic number and the version of 32 bits each, an address, the size of the map, and two tables, of which the first
/// begins with the page size.
const PAGE_SIZE: usize = 8 + 2 * WORD;
const TABLE: usize = 8 + 5 * WORD;
const LAST_PAGE: usize = PAGE_SIZE + 2 * TABLE;
const TRANSACTION: usize = LAST_PAGE + WORD;
const META: usize = TRANSACTION + WORD;
const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;

impl Meta {
    fn read(file: &File, at: u64) -> io::Result<Found> {
        let mut content = [0; PAGE_HEADER + META];
        match file.read_exact_at(&mut content, at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Found::End),
            Err(error) => return Err(error),
        }
        Ok(Self::parse(&content).map_or(Found::Other, Found::Meta))
    }

    fn parse(content: &[u8; PAGE_HEADER + META]) -> Option<Self> {
        let (header, meta) = content.split_at(PAGE_HEADER);
        let flags = u16::from_ne_bytes(*header.get(PAGE_FLAGS..)?.first_chunk()?);
        let short = |at: usize| Some(u32::from_ne_bytes(*meta.get(at..)?.first_chunk()?));
        let word = |at: usize| Some(usize::from_ne_bytes(*meta.get(at..)?.first_chunk()?) as u64);
        if flags & IS_META == 0 || short(0)? != MAGIC || short(4)? != VERSION {
            return None;
        }
        let page = short(PAGE_SIZE)?;
        (page.is_power_of_two() && (256..=65536).contains(&page)).then_some(Self {
            page: page.into(),
            last_page: word(LAST_PAGE)?,
            transaction: word(TRANSACTION)?,
        })
    }

    /// How long a file is that has all these pages.
    const fn bytes(self) -> u64 {
        self.last_page.saturating_add(1).saturating_mul(self.page)
    }
}
