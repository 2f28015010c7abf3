//! An executor in a few lines: threads that take futures from one queue.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::{fmt, io};

use lictor_runtime::Executor;

/// A pool of threads. They end when the pool and all its futures are gone.
pub(crate) struct Pool {
    queue: Sender<Arc<Job>>,
}

impl Pool {
    /// Starts the threads.
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..threads {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new().spawn(move || work(&jobs))?;
        }
        Ok(Self { queue })
    }
}

impl Executor for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn spawn_detached(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        Arc::new(Job {
            future: Mutex::new(Some(future)),
            queue: self.queue.clone(),
        })
        .wake();
    }

    fn block_on(&self, mut future: Pin<&mut dyn Future<Output = ()>>) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        while future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            thread::park();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

/// A future that was spawned. Waking it puts it in the queue.
struct Job {
    /// `None` once it is done. The lock makes a second thread, that takes it while a first one polls, wait and then
    /// poll it again: it was woken for a reason.
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    queue: Sender<Arc<Self>>,
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        let queue = self.queue.clone();
        // Without threads there is nobody to run it.
        let _ = queue.send(self);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn work(jobs: &Mutex<Receiver<Arc<Job>>>) {
    loop {
        let taken = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = taken else { return };
        let waker = Waker::from(Arc::clone(&job));
        let mut future = job.future.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = future.as_mut()
            && running.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        {
            *future = None;
        }
    }
}
