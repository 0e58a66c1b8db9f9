//! What a runtime is told when it is built, with defaults and limits.

use std::io;
use std::time::Duration;

use crate::monitor::OnHog;
use crate::stack;

/// Bytes of stack a fiber gets unless told otherwise, the guard page not counted. Unoptimised code needs more: frames are
/// several times larger.
pub(crate) const DEFAULT_STACK: usize = if cfg!(debug_assertions) { 256 * 1024 } else { 64 * 1024 };

/// More workers than this is a mistake.
pub(crate) const MAX_WORKERS: usize = 1024;

/// Threads of the blocking pool unless told otherwise.
const DEFAULT_BLOCKING_THREADS: usize = 16;
/// Calls that may wait for a thread of the blocking pool; a caller beyond that waits for room.
const DEFAULT_BLOCKING_QUEUE: usize = 1024;
/// How long a thread of the blocking pool waits for work before it leaves.
const DEFAULT_BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a fiber may hold its worker unless told otherwise. Go's monitor takes the processor away after as long.
const DEFAULT_HOG_LIMIT: Duration = Duration::from_millis(10);

/// A validated configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) workers: usize,
    pub(crate) use_caller: bool,
    pub(crate) name: String,
    pub(crate) stack_class: u8,
    pub(crate) blocking_threads: usize,
    pub(crate) blocking_queue: usize,
    pub(crate) blocking_keep_alive: Duration,
    /// Whether libc calls of its fibers are hooked.
    pub(crate) hooks: bool,
    /// Whether to measure how deep stacks are used.
    pub(crate) stack_probe: bool,
    /// Whether SIGUSR1 gives a dump.
    pub(crate) dump_on_signal: bool,
    /// How long a fiber may hold its worker before it is reported; zero: for ever.
    pub(crate) hog_limit: Duration,
    /// Who else is told.
    pub(crate) on_hog: Option<OnHog>,
}

impl Config {
    /// The configuration of a simulation: one worker, the calling thread.
    pub(crate) fn for_simulation() -> Self {
        Config { workers: 1, use_caller: true, name: "sim".to_owned(), ..Config::default() }
    }

    /// Checks the limits.
    pub(crate) fn validate(&self) -> io::Result<()> {
        let refuse = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        if self.workers == 0 || self.workers > MAX_WORKERS {
            return refuse(format!("a runtime has 1 to {MAX_WORKERS} workers, not {}", self.workers));
        }
        if self.blocking_threads == 0 || self.blocking_queue == 0 {
            return refuse(format!(
                "the blocking pool needs threads and a queue, not {} and {}",
                self.blocking_threads, self.blocking_queue
            ));
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            use_caller: false,
            name: "moon".to_owned(),
            stack_class: stack::class_of(DEFAULT_STACK),
            blocking_threads: DEFAULT_BLOCKING_THREADS,
            blocking_queue: DEFAULT_BLOCKING_QUEUE,
            hooks: true,
            stack_probe: false,
            dump_on_signal: false,
            hog_limit: DEFAULT_HOG_LIMIT,
            on_hog: None,
            blocking_keep_alive: DEFAULT_BLOCKING_KEEP_ALIVE,
        }
    }
}
