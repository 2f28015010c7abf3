//! What is said by programs that handlers have left behind.
//!
//! Such a program may say something at any time, and if nobody could hear that, it would be killed by it. So somebody listens, and forgets.

use std::collections::VecDeque;
use std::io::{self, PipeReader};
use std::sync::{Mutex, PoisonError};

use async_io::Async;
use futures_lite::AsyncReadExt as _;
use lictor_runtime::{Runtime, Task};

/// How many pipes are listened to. Each is a file that is open.
const PIPES_MAX: usize = 64;

/// How much is read at once.
const PIECE: usize = 1024;

/// All pipes that are listened to, until this is dropped.
pub(super) struct Leftovers {
    runtime: Runtime,
    /// The oldest first.
    pipes: Mutex<VecDeque<Task<()>>>,
}

impl Leftovers {
    /// None yet.
    pub(super) fn new(runtime: Runtime) -> Self {
        Self {
            runtime,
            pipes: Mutex::default(),
        }
    }

    /// Listens until nobody can write any more. If there are too many pipes it is the oldest that is closed.
    pub(super) fn listen(&self, pipe: Async<PipeReader>) {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        pipes.retain(|pipe| !pipe.is_finished());
        if pipes.len() >= PIPES_MAX {
            tracing::warn!(
                "what watch handlers leave behind has the outputs of {PIPES_MAX} of them open: the oldest is closed, and programs that still write to it may end"
            );
            pipes.pop_front();
        }
        pipes.push_back(self.runtime.spawn(forget(pipe)));
    }
}

async fn forget(pipe: Async<PipeReader>) {
    let mut piece = [0; PIECE];
    loop {
        match (&pipe).read(&mut piece).await {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write as _};
    use std::time::Instant;

    use super::*;
    use crate::process_group::testing::PATIENCE;

    fn pipe(leftovers: &Leftovers) -> PipeWriter {
        let (reader, writer) = io::pipe().unwrap();
        leftovers.listen(Async::new(reader).unwrap());
        writer
    }

    /// Writes until that fails. The end of a pipe is closed on some other thread.
    fn fails(mut writer: &PipeWriter) -> io::ErrorKind {
        let begun = Instant::now();
        loop {
            if let Err(error) = writer.write_all(b"x") {
                return error.kind();
            }
            assert!(begun.elapsed() < PATIENCE, "somebody still listens");
            std::thread::yield_now();
        }
    }

    #[test]
    fn so_many_are_listened_to_and_the_oldest_is_let_go() {
        let leftovers = Leftovers::new(lictor_runtime_smol::runtime());
        let writers: Vec<_> = (0..=PIPES_MAX).map(|_| pipe(&leftovers)).collect();
        assert_eq!(fails(&writers[0]), io::ErrorKind::BrokenPipe);
        for mut writer in &writers[1..] {
            // More than a pipe holds.
            writer.write_all(&vec![b'x'; 100_000]).unwrap();
        }
        // Those that have ended do not count.
        drop(writers);
        let begun = Instant::now();
        while !leftovers.pipes.lock().unwrap().iter().all(Task::is_finished) {
            assert!(begun.elapsed() < PATIENCE, "nobody can write any more");
            std::thread::yield_now();
        }
        let last = pipe(&leftovers);
        assert_eq!(leftovers.pipes.lock().unwrap().len(), 1);
        drop(leftovers);
        assert_eq!(fails(&last), io::ErrorKind::BrokenPipe);
    }
}
