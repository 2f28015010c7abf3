//! Threads for what takes long and has time: archives are made, and checked, while all else goes on.

use std::io;
use std::thread;

/// By how much such a thread stands back behind the others of the process, as `nice` counts: it gets about a tenth of a processor that others
/// want as well, and all of one that nobody wants. Not the most there is: nobody should wait long for what it holds for a moment.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NICE: i32 = 10;

/// Does `work` on a thread of its own, which stands back where the system has priorities of threads. Fails if there can be no thread.
pub(super) fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name("lictor-archive".to_owned())
        .spawn(move || {
            stand_back();
            work();
        })
        .map(drop)
}

/// The same, and gives what comes of it. The work is done to its end even if nobody waits for it any more.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, done) = async_channel::bounded(1);
    spawn(move || {
        // Whoever asked may have gone.
        let _ = sender.try_send(work());
    })?;
    done.recv()
        .await
        .map_err(|_| io::Error::other("the work was broken off by a fault of the program"))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn stand_back() {
    use rustix::process::{getpriority_process, setpriority_process};

    // Of this thread alone, as Linux has it. It may stand further back already, as the whole process may.
    let stood_back = getpriority_process(None).and_then(|before| {
        if before >= NICE {
            return Ok(());
        }
        setpriority_process(None, NICE)
    });
    if let Err(error) = stood_back {
        tracing::debug!(%error, "a thread that makes archives has the priority of all others");
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn stand_back() {}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn what_comes_of_it_is_given() {
        assert_eq!(block_on(run(|| 7)).unwrap(), 7);
    }

    #[test]
    fn a_panic_is_an_error_of_whoever_waits() {
        let error = block_on(run(|| panic!("this one is meant to be"))).unwrap_err();
        assert!(error.to_string().contains("broken off"), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn it_stands_back_alone() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        assert_eq!(block_on(run(nice)).unwrap(), NICE.max(before));
        assert_eq!(nice(), before, "nobody else does");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn nobody_comes_forward() {
        let further_back = NICE + 5;
        let nice = thread::spawn(move || {
            rustix::process::setpriority_process(None, further_back).unwrap();
            stand_back();
            rustix::process::getpriority_process(None).unwrap()
        });
        assert_eq!(nice.join().unwrap(), further_back);
    }
}
