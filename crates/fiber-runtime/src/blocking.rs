//! The blocking pool: threads for work that must not hold up a worker.
//!
//! File I/O, name lookup, long computation. The calling fiber parks until its call is done, so the call may live on the
//! fiber's stack, borrow from it, and nothing is allocated for it.
//!
//! # Limits
//! | Limit | Setting ([`crate::Builder`]) | At the limit |
//! |---|---|---|
//! | threads | `blocking_threads`, 16 | calls wait in a queue, first come, first served |
//! | calls in the queue | `blocking_queue`, 1024 | further callers wait for room, in their order |
//! | time a thread waits for work | `blocking_keep_alive`, 10 s | it leaves; the next call starts one again |
//! | threads the system gives | | calls wait for the threads there are; if there is none, the caller runs its call itself |
//!
//! # Shutdown
//! `Runtime::stop` waits for calls that run, as it waits for the fibers that made them. A call cannot be interrupted: at
//! the deadline its fiber is cancelled, and ends when the call has; one that takes longer still is reported.
//!
//! What it does is in [`crate::Metrics`]: threads, calls queued and done, how long they waited, how often the queue was full.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::fiber::cancel::Shield;
use crate::metrics::Metrics;
use crate::scheduler::worker::Worker;
use crate::sync::Spin;
use crate::waiter::{self, Waiter};

/// Runs `body` on a thread of the blocking pool and waits for it; the fiber's worker goes on with other fibers. The call
/// may borrow from the caller, which does not go on, and is not torn down, before the call has ended.
///
/// Runs it inline when there is no worker to spare: in a plain thread, in a simulation (where it must be
/// deterministic), and in a fiber that is unwinding. A panic of `body` goes on in the caller. A cancelled fiber ends
/// after `body` has.
///
/// ```
/// # let runtime = fiber_runtime::Runtime::builder().workers(1).build().unwrap();
/// # runtime.block_on(|| {
/// let name = String::from("/proc/self/status");
/// let length = fiber_runtime::offload(|| std::fs::read(&name)).unwrap().len();
/// assert!(length > 0);
/// # });
/// ```
pub fn offload<F, T>(body: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let pool = Worker::with_current_fiber(|worker, _| {
        (worker.sim().is_none() && !std::thread::panicking()).then(|| worker.shared_ref().clone())
    })
    .flatten();
    match pool {
        Some(shared) => shared.pool.run(body),
        None => body(),
    }
}

/// A call waiting for a thread: a pointer to a `Call<F, T>` on the caller's stack, and how to run it.
struct Job {
    call: *const (),
    /// Also counts the call as done, before the caller goes on.
    run: unsafe fn(*const (), &AtomicU64),
    queued: Instant,
}

// SAFETY: a job is made from a `Call` whose closure and result are `Send`, and the caller waits for its end.
unsafe impl Send for Job {}

struct Call<F, T> {
    body: Spin<Option<F>>,
    result: Spin<Option<Result<T, Box<dyn Any + Send>>>>,
    done: AtomicBool,
    caller: Spin<Option<Waiter>>,
}

impl<F: FnOnce() -> T, T> Call<F, T> {
    /// # Safety
    /// `call` points to a `Call<F, T>` whose caller waits for `done`.
    unsafe fn run(call: *const (), count: &AtomicU64) {
        // SAFETY: the caller's promise.
        let this = unsafe { &*call.cast::<Self>() };
        let body = this.body.lock(Option::take).expect("a call runs once");
        let result = catch_unwind(AssertUnwindSafe(body));
        this.result.lock(|slot| *slot = Some(result));
        let caller = this.caller.lock(Option::take).expect("the caller is stored before the call is queued");
        count.fetch_add(1, Ordering::Relaxed);
        // Release pairs with the Acquire in `Pool::run`. After this store the call may be gone.
        this.done.store(true, Ordering::Release);
        caller.wake();
    }
}

struct Queue {
    jobs: VecDeque<Job>,
    idle: Vec<Thread>,
    threads: usize,
    /// Fibers waiting for room.
    waiting: VecDeque<Waiter>,
    closed: bool,
}

struct Inner {
    queue: Spin<Queue>,
    max_threads: usize,
    max_jobs: usize,
    keep_alive: Duration,
    name: String,
    /// Calls finished.
    done: AtomicU64,
    /// Times a caller found the queue full.
    full: AtomicU64,
    /// How long the calls waited for a thread, all together and the one that waited longest.
    wait_nanos: AtomicU64,
    max_wait_nanos: AtomicU64,
}

/// See the module's documentation.
pub(crate) struct Pool {
    inner: Arc<Inner>,
}

impl Pool {
    pub(crate) fn new(config: &Config) -> Self {
        let queue = Queue {
            jobs: VecDeque::new(),
            idle: Vec::new(),
            threads: 0,
            waiting: VecDeque::new(),
            closed: false,
        };
        Pool {
            inner: Arc::new(Inner {
                queue: Spin::new(queue),
                max_threads: config.blocking_threads,
                max_jobs: config.blocking_queue,
                keep_alive: config.blocking_keep_alive,
                name: format!("{}-blocking", config.name),
                done: AtomicU64::new(0),
                full: AtomicU64::new(0),
                wait_nanos: AtomicU64::new(0),
                max_wait_nanos: AtomicU64::new(0),
            }),
        }
    }

    /// Fills in what the pool knows of itself.
    pub(crate) fn measure(&self, metrics: &mut Metrics) {
        let inner = &*self.inner;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (metrics.blocking_threads, metrics.blocking_idle, metrics.blocking_queued) = inner
            .queue
            .lock(|queue| (queue.threads as u64, queue.idle.len() as u64, queue.jobs.len() as u64));
        metrics.blocking_done = count(&inner.done);
        metrics.blocking_full = count(&inner.full);
        metrics.blocking_wait = Duration::from_nanos(count(&inner.wait_nanos));
        metrics.blocking_wait_max = Duration::from_nanos(count(&inner.max_wait_nanos));
    }

    /// Lets the threads go when they have nothing left to do.
    pub(crate) fn close(&self) {
        let idle = self.inner.queue.lock(|queue| {
            queue.closed = true;
            std::mem::take(&mut queue.idle)
        });
        for thread in idle {
            thread.unpark();
        }
    }

    fn run<F, T>(&self, body: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        let call = Call {
            body: Spin::new(Some(body)),
            result: Spin::new(None),
            done: AtomicBool::new(false),
            caller: Spin::new(Some(Waiter::current())),
        };
        if !self.submit(&call) {
            // The pool is closed or the system has no thread to give: better here than never.
            let body = call.body.lock(Option::take).expect("a refused call has not run");
            return body();
        }
        let mut shield = None;
        // Acquire pairs with the Release in `Call::run`.
        while !call.done.load(Ordering::Acquire) {
            // The call is on this stack: a cancelled fiber waits for it all the same.
            if waiter::wait("offload", None) == waiter::Woken::Cancelled {
                shield.get_or_insert_with(Shield::raise);
            }
        }
        let cancelled = shield.take().is_some();
        let result = call.result.lock(Option::take).expect("a call that is done has a result");
        match result {
            Ok(_) if cancelled => crate::fiber::cancel::unwind(),
            Ok(value) => value,
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Queues the call, waiting for room. False: refused.
    fn submit<F: FnOnce() -> T + Send, T: Send>(&self, call: &Call<F, T>) -> bool {
        enum Next {
            Wake(Thread),
            Start,
            Queued,
            Full,
            Closed,
        }
        let me = Waiter::current();
        loop {
            let next = self.inner.queue.lock(|queue| {
                // A stray wake leaves this caller in the line; it must stand there once.
                queue.waiting.retain(|waiter| *waiter != me);
                if queue.closed {
                    return Next::Closed;
                }
                if queue.jobs.len() >= self.inner.max_jobs {
                    queue.waiting.push_back(me.clone());
                    return Next::Full;
                }
                let call = std::ptr::from_ref(call).cast();
                let job = Job { call, run: Call::<F, T>::run, queued: Instant::now() };
                queue.jobs.push_back(job);
                if let Some(thread) = queue.idle.pop() {
                    Next::Wake(thread)
                } else if queue.threads < self.inner.max_threads {
                    queue.threads += 1;
                    Next::Start
                } else {
                    Next::Queued
                }
            });
            match next {
                Next::Wake(thread) => {
                    thread.unpark();
                    return true;
                }
                Next::Start => return self.start_thread(std::ptr::from_ref(call).cast()),
                Next::Queued => return true,
                Next::Closed => return false,
                Next::Full => {
                    self.inner.full.fetch_add(1, Ordering::Relaxed);
                    if waiter::wait("room in the blocking pool", None) == waiter::Woken::Cancelled {
                        self.leave_line(&me);
                        crate::fiber::cancel::unwind();
                    }
                }
            }
        }
    }

    /// A cancelled caller no longer waits for room. If the news of room has reached it already, the next one gets it.
    #[cold]
    fn leave_line(&self, me: &Waiter) {
        let next = self.inner.queue.lock(|queue| {
            let before = queue.waiting.len();
            queue.waiting.retain(|waiter| waiter != me);
            if queue.waiting.len() == before { queue.waiting.pop_front() } else { None }
        });
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Starts a thread. If the system refuses and there is no other, takes the call back: false.
    #[cold]
    fn start_thread(&self, call: *const ()) -> bool {
        let inner = self.inner.clone();
        let started = std::thread::Builder::new().name(inner.name.clone()).spawn(move || inner.work());
        if started.is_ok() {
            return true;
        }
        self.inner.queue.lock(|queue| {
            queue.threads -= 1;
            if queue.threads > 0 {
                return true;
            }
            let before = queue.jobs.len();
            queue.jobs.retain(|job| job.call != call);
            queue.jobs.len() == before
        })
    }
}

impl Inner {
    /// A thread's life.
    fn work(&self) {
        enum Next {
            Run(Job, Option<Waiter>),
            Wait,
            Leave,
        }
        let me = std::thread::current();
        let mut waited = Duration::ZERO;
        loop {
            let next = self.queue.lock(|queue| {
                // Whoever wakes a thread takes it off the list; one that wakes by itself does so here.
                queue.idle.retain(|thread| thread.id() != me.id());
                match queue.jobs.pop_front() {
                    Some(job) => Next::Run(job, queue.waiting.pop_front()),
                    None if queue.closed || waited >= self.keep_alive => {
                        queue.threads -= 1;
                        Next::Leave
                    }
                    None => {
                        queue.idle.push(me.clone());
                        Next::Wait
                    }
                }
            });
            match next {
                Next::Run(job, waiter) => {
                    waited = Duration::ZERO;
                    if let Some(waiter) = waiter {
                        waiter.wake();
                    }
                    self.count_wait(job.queued.elapsed());
                    // SAFETY: the job's caller waits for it.
                    unsafe { (job.run)(job.call, &self.done) };
                }
                Next::Wait => {
                    let began = Instant::now();
                    std::thread::park_timeout(self.keep_alive.saturating_sub(waited));
                    waited += began.elapsed();
                }
                Next::Leave => return,
            }
        }
    }

    fn count_wait(&self, waited: Duration) {
        let nanos = crate::time::saturating_nanos(waited);
        self.wait_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.max_wait_nanos.fetch_max(nanos, Ordering::Relaxed);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
