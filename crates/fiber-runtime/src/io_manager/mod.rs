//! Moon's surface: a scheduler with descriptor events and timers, thin over [`Runtime`].
//!
//! For programs that are written around callbacks on descriptors, as the original's are; new code does better with
//! [`crate::net`]. What is different from the original, because it was a defect there:
//! - an event that fires before its fiber parks is not lost, and a second event for the same descriptor and direction
//!   is an error instead of an abort;
//! - closing a descriptor fires its events, and a reused number does not meet its predecessor's;
//! - `stop` returns as soon as the work is done, and a recurring timer does not hold it up;
//! - nothing is printed, and no hook stays in force after the manager is gone.
//!
//! [`monsoon`] has a table from every public name of the original to its place here.
//!
//! ```
//! use std::time::Duration;
//! use fiber_runtime::io_manager::IoManager;
//!
//! let manager = IoManager::new(2, false, "demo")?;
//! manager.schedule(|| println!("on a fiber"));
//! manager.add_timer(Duration::from_millis(1), false, || println!("a little later"));
//! assert!(manager.stop(Duration::from_secs(5)).is_clean());
//! # Ok::<(), std::io::Error>(())
//! ```

mod event;
mod timer;

#[doc = include_str!("monsoon.md")]
pub mod monsoon {}

use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::sync::Spin;
use crate::{FiberBuilder, Handle, Runtime, StopReport};
use event::{Events, Target};
use timer::Timers;

pub use event::Event;
pub use timer::Timer;

/// A runtime with descriptor events and timers. Dropping it stops it, with little patience.
#[derive(Debug)]
pub struct IoManager {
    runtime: Runtime,
    remote: IoHandle,
    listed: Listed,
}

/// The managers of the process, for [`IoHandle::try_current`].
static MANAGERS: Spin<Vec<IoHandle>> = Spin::new(Vec::new());

/// A manager's place in the list, which its end takes out.
#[derive(Debug)]
struct Listed(Arc<Events>);

impl Drop for Listed {
    fn drop(&mut self) {
        let is_other = |manager: &IoHandle| !Arc::ptr_eq(&manager.events, &self.0);
        // Handles are dropped outside the lock.
        let mine: Vec<_> = MANAGERS.lock(|managers| {
            let (others, mine) = std::mem::take(managers).into_iter().partition(is_other);
            *managers = others;
            mine
        });
        drop(mine);
    }
}

/// What callbacks and other threads hold of an [`IoManager`].
#[derive(Clone, Debug)]
pub struct IoHandle {
    name: Arc<str>,
    runtime: Handle,
    events: Arc<Events>,
    timers: Arc<Timers>,
}

impl IoManager {
    /// Starts `threads` workers. With `use_caller` the calling thread is one of them: it works whenever it waits in
    /// [`Runtime::block_on`] or [`IoManager::stop`].
    ///
    /// # Errors
    /// The system gives no more threads or descriptors.
    pub fn new(threads: usize, use_caller: bool, name: &str) -> io::Result<Self> {
        let runtime = Runtime::builder().workers(threads).use_caller(use_caller).name(name).build()?;
        let remote = IoHandle {
            name: name.into(),
            runtime: runtime.handle(),
            events: Arc::default(),
            timers: Arc::default(),
        };
        MANAGERS.lock(|managers| managers.push(remote.clone()));
        let listed = Listed(Arc::clone(&remote.events));
        Ok(Self { runtime, remote, listed })
    }

    /// The runtime below.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// A handle for callbacks and other threads.
    pub fn handle(&self) -> IoHandle {
        self.remote.clone()
    }

    /// Waits until the scheduled work, the pending events and the timers are done, recurring timers ending at once;
    /// cancels what is left after `patience` and reports it.
    pub fn stop(self, patience: Duration) -> StopReport {
        let Self { runtime, remote, listed } = self;
        remote.timers.end_recurring();
        let report = runtime.stop(patience);
        drop(listed);
        report
    }
}

impl std::ops::Deref for IoManager {
    type Target = IoHandle;

    fn deref(&self) -> &IoHandle {
        &self.remote
    }
}

impl IoHandle {
    /// The manager whose fiber calls.
    ///
    /// # Panics
    /// Outside the fibers of a manager.
    #[track_caller]
    pub fn current() -> IoHandle {
        Self::try_current().expect("IoHandle::current() is called in a fiber of an IoManager")
    }

    /// The manager whose fiber calls, if the caller is in one.
    pub fn try_current() -> Option<IoHandle> {
        let runtime = Handle::try_current()?;
        MANAGERS.lock(|managers| managers.iter().find(|manager| manager.runtime.is_of(&runtime)).cloned())
    }

    /// The manager's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `task` as a fiber of any worker.
    pub fn schedule(&self, task: impl FnOnce() + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// Runs `task` as a fiber of this worker.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn schedule_on(&self, worker: usize, task: impl FnOnce() + Send + 'static) {
        drop(self.runtime.spawn_on(worker, task));
    }

    /// Runs `callback` as a fiber, once, when `fd` is ready for `event` (or has failed, or is closed).
    ///
    /// # Errors
    /// `ErrorKind::AlreadyExists` if the descriptor has this event already, `ErrorKind::InvalidInput` if it is negative.
    pub fn add_event(
        &self,
        fd: RawFd,
        event: Event,
        callback: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        self.events.add(&self.runtime, fd, event, Target::Callback(Box::new(callback)))
    }

    /// Unparks the calling fiber, once, when `fd` is ready for `event` (or has failed, or is closed). The fiber calls
    /// [`crate::park`] to wait; an event that comes before that is not lost.
    ///
    /// # Errors
    /// As [`IoHandle::add_event`].
    ///
    /// # Panics
    /// Outside a fiber.
    pub fn add_event_for_fiber(&self, fd: RawFd, event: Event) -> io::Result<()> {
        self.events.add(&self.runtime, fd, event, Target::Fiber(crate::current()))
    }

    /// Forgets an event without firing it. False if there is none.
    pub fn del_event(&self, fd: RawFd, event: Event) -> bool {
        self.events.remove(fd, event).is_some()
    }

    /// Fires an event now. False if there is none.
    pub fn cancel_event(&self, fd: RawFd, event: Event) -> bool {
        let target = self.events.remove(fd, event);
        let found = target.is_some();
        if let Some(target) = target {
            target.fire_from_outside(&self.runtime);
        }
        found
    }

    /// Fires both events of a descriptor now. False if there is none.
    pub fn cancel_all(&self, fd: RawFd) -> bool {
        let read = self.cancel_event(fd, Event::Read);
        let write = self.cancel_event(fd, Event::Write);
        read || write
    }

    /// How many events are pending.
    pub fn pending_events(&self) -> usize {
        self.events.len()
    }

    /// Runs `callback` as a fiber after `delay`, and with `recurring` again after every further `delay`. A delay of more than
    /// a hundred years, such as `Duration::MAX`, counts as a hundred years.
    pub fn add_timer(
        &self,
        delay: Duration,
        recurring: bool,
        callback: impl FnMut() + Send + 'static,
    ) -> Timer {
        self.timers.add(&self.runtime, delay, recurring, callback)
    }

    /// As [`IoHandle::add_timer`] with `recurring`.
    pub fn add_recurring_timer(&self, delay: Duration, callback: impl FnMut() + Send + 'static) -> Timer {
        self.add_timer(delay, true, callback)
    }

    /// When the next timer fires; `None` if there is none.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether a timer has not ended.
    pub fn has_timer(&self) -> bool {
        self.next_timer().is_some()
    }

    /// As [`IoHandle::add_timer`], as long as `condition` is alive when the time has come.
    pub fn add_condition_timer<T: Send + Sync + 'static>(
        &self,
        delay: Duration,
        recurring: bool,
        condition: Weak<T>,
        mut callback: impl FnMut() + Send + 'static,
    ) -> Timer {
        self.add_timer(delay, recurring, move || {
            if condition.upgrade().is_some() {
                callback();
            }
        })
    }
}

/// Spawns one of the manager's own fibers.
fn spawn_named(runtime: &Handle, name: &'static str, body: impl FnOnce() + Send + 'static) -> crate::Fiber {
    runtime.spawn_with(FiberBuilder::new().name(name), body).fiber().clone()
}
