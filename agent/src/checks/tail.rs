//! The end of an output of any length.

use std::collections::VecDeque;
use std::io::{self, PipeReader, Read as _};

use async_io::Async;
use futures_lite::AsyncReadExt as _;

use super::text;

/// How much is read at once.
const PIECE: usize = 16 * 1024;

/// How many pieces are read after a program has ended: more than a pipe holds. Somebody may still be writing.
const LAST_PIECES: usize = 64;

/// Keeps the last bytes of what is written to it.
#[derive(Debug)]
pub(crate) struct Tail {
    kept: VecDeque<u8>,
    limit: usize,
    total: u64,
}

impl Tail {
    /// Keeps up to `limit` bytes.
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            limit,
            total: 0,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let bytes = &bytes[bytes.len().saturating_sub(self.limit)..];
        let room = self.limit - bytes.len();
        self.kept.drain(..self.kept.len().saturating_sub(room));
        self.kept.extend(bytes);
    }

    /// Takes what comes through a pipe until nobody can write any more.
    pub(crate) async fn read_all(&mut self, mut pipe: &Async<PipeReader>) {
        let mut piece = vec![0; PIECE];
        while let Ok(read) = pipe.read(&mut piece).await {
            if read == 0 {
                return;
            }
            self.push(&piece[..read]);
        }
    }

    /// Takes what a program that has ended has left in its pipe, and waits for nothing. Says whether somebody may still write.
    pub(crate) fn read_rest(&mut self, pipe: &Async<PipeReader>) -> bool {
        let mut piece = vec![0; PIECE];
        for _ in 0..LAST_PIECES {
            match pipe.get_ref().read(&mut piece) {
                Ok(0) => return false,
                Ok(read) => self.push(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// What was kept, and how much was not.
    pub(crate) fn into_text(mut self) -> String {
        if self.total <= self.limit as u64 {
            return text::lossy(self.kept.into());
        }
        let captured = self.kept.len();
        // Where it was cut, there may be the end of a character.
        let torn = self
            .kept
            .iter()
            .take(3)
            .take_while(|byte| **byte & 0xc0 == 0x80)
            .count();
        self.kept.drain(..torn);
        let kept = text::lossy(self.kept.into());
        format!("Captured {captured} of {} bytes\n...\n\n{kept}", self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(limit: usize, pieces: &[&str]) -> String {
        let mut tail = Tail::new(limit);
        for piece in pieces {
            tail.push(piece.as_bytes());
            assert!(tail.kept.len() <= limit);
        }
        tail.into_text()
    }

    #[test]
    fn what_fits_is_kept_as_it_is() {
        assert_eq!(tail(6, &[]), "");
        assert_eq!(tail(6, &["abc", "", "def"]), "abcdef");
    }

    #[test]
    fn of_what_does_not_fit_the_end_is_kept() {
        assert_eq!(tail(6, &["abc", "defg"]), "Captured 6 of 7 bytes\n...\n\nbcdefg");
        assert_eq!(tail(2, &["abc", "defg"]), "Captured 2 of 7 bytes\n...\n\nfg");
        assert_eq!(tail(0, &["abc"]), "Captured 0 of 3 bytes\n...\n\n");
    }

    #[test]
    fn no_character_is_cut_in_two() {
        assert_eq!(tail(4, &["aääb"]), "Captured 4 of 6 bytes\n...\n\näb");
    }
}
