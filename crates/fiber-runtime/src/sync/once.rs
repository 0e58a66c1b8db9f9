//! Doing something once, and values that are made once: what others wait for while one works.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use super::Spin;
use super::wait::{Enter, WaitList, Waited, Wakes, wait};
use crate::fiber::cancel;
use crate::waiter::Waiter;

const INCOMPLETE: u8 = 0;
const RUNNING: u8 = 1;
/// The routine panicked, and those who do not ask for it are not to go on.
const POISONED: u8 = 2;
const COMPLETE: u8 = 3;

/// Runs a routine once in all; those who come meanwhile wait for its end.
///
/// As with [`std::sync::Once`], a routine that panics poisons it: later calls panic, except for
/// [`Once::call_once_force`]. A routine that is unwound because its fiber is *cancelled*, or because of a
/// [deadline](crate::with_deadline) around it, has not run: the next caller runs its own. A routine that calls the same
/// `Once` again panics, instead of waiting for itself.
///
/// ```
/// use fiber_runtime::sync::Once;
///
/// static START: Once = Once::new();
/// START.call_once(|| { /* ... */ });
/// START.call_once(|| unreachable!());
/// assert!(START.is_completed());
/// ```
pub struct Once {
    /// Changed only under the lock.
    phase: AtomicU8,
    state: Spin<State>,
}

/// # Invariants
/// There is a runner while the phase is `RUNNING`. Nobody waits once it is `COMPLETE`.
struct State {
    runner: Option<Waiter>,
    waiters: WaitList<()>,
}

/// What the routine of [`Once::call_once_force`] is told.
#[derive(Debug)]
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// True if the routine of an earlier call panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

/// What a panic means for those who come later.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnPanic {
    Poison,
    TryAgain,
}

/// What a caller has to do.
enum Step {
    Nothing,
    Run { poisoned: bool },
    RefusePoisoned,
    RefuseReentrant,
}

impl Once {
    /// Nothing has run.
    pub const fn new() -> Self {
        Self {
            phase: AtomicU8::new(INCOMPLETE),
            state: Spin::new(State { runner: None, waiters: WaitList::new() }),
        }
    }

    /// Runs `routine`, unless it or another has run; waits for one that is running.
    ///
    /// # Panics
    /// If an earlier routine panicked, if `routine` does, or if this is called from within the running routine.
    pub fn call_once(&self, routine: impl FnOnce()) {
        if !self.is_completed() {
            self.run(OnPanic::Poison, false, |_| {
                routine();
                true
            });
        }
    }

    /// As [`Once::call_once`], also after a routine that panicked.
    ///
    /// # Panics
    /// If `routine` does, or if this is called from within the running routine.
    pub fn call_once_force(&self, routine: impl FnOnce(&OnceState)) {
        if !self.is_completed() {
            self.run(OnPanic::Poison, true, |poisoned| {
                routine(&OnceState { poisoned });
                true
            });
        }
    }

    /// Whether a routine has run to its end.
    #[inline]
    pub fn is_completed(&self) -> bool {
        // Pairs with the releasing store in `run_now`: who sees COMPLETE sees what the routine did.
        self.phase.load(Ordering::Acquire) == COMPLETE
    }

    /// Waits until a routine has run to its end, whoever calls it.
    ///
    /// # Panics
    /// If the routine panicked, or if this is called from within it.
    pub fn wait(&self) {
        self.wait_deadline(None);
    }

    /// As [`Once::wait`], at most until `deadline`. False if no routine has run by then.
    ///
    /// # Panics
    /// As [`Once::wait`].
    pub fn wait_until(&self, deadline: Instant) -> bool {
        self.wait_deadline(Some(deadline))
    }

    fn wait_deadline(&self, deadline: Option<Instant>) -> bool {
        if self.is_completed() {
            return true;
        }
        let me = Waiter::current();
        loop {
            let look = |state: &mut State, (): &mut ()| match self.phase.load(Ordering::Relaxed) {
                COMPLETE => Enter::Ready(Step::Nothing),
                POISONED => Enter::Ready(Step::RefusePoisoned),
                RUNNING if state.runner.as_ref() == Some(&me) => Enter::Ready(Step::RefuseReentrant),
                _ => Enter::Back,
            };
            match self.wait_in_line(deadline, look) {
                Waited::Ready(step) => return step.permitted().is_none(),
                Waited::Notified(()) => {}
                Waited::TimedOut(()) => return self.is_completed(),
            }
        }
    }

    /// Runs `routine` if need be, which says whether it has done the job.
    #[cold]
    fn run(&self, on_panic: OnPanic, even_if_poisoned: bool, routine: impl FnOnce(bool) -> bool) {
        let me = Waiter::current();
        loop {
            let look = |state: &mut State, (): &mut ()| match self.phase.load(Ordering::Relaxed) {
                COMPLETE => Enter::Ready(Step::Nothing),
                POISONED if !even_if_poisoned => Enter::Ready(Step::RefusePoisoned),
                RUNNING if state.runner.as_ref() == Some(&me) => Enter::Ready(Step::RefuseReentrant),
                RUNNING => Enter::Back,
                phase => {
                    state.runner = Some(me.clone());
                    self.phase.store(RUNNING, Ordering::Relaxed);
                    Enter::Ready(Step::Run { poisoned: phase == POISONED })
                }
            };
            if let Waited::Ready(step) = self.wait_in_line(None, look) {
                if let Some(poisoned) = step.permitted() {
                    self.run_now(on_panic, || routine(poisoned));
                }
                return;
            }
        }
    }

    /// Runs the routine, as the runner, and ends the phase however it ends.
    fn run_now(&self, on_panic: OnPanic, routine: impl FnOnce() -> bool) {
        // Unwind safety is the caller's: the unwinding goes on below.
        let done = catch_unwind(AssertUnwindSafe(routine));
        let phase = match &done {
            Ok(true) => COMPLETE,
            Err(payload) if on_panic == OnPanic::Poison && !cancel::is_unwinding(&**payload) => POISONED,
            Ok(false) | Err(_) => INCOMPLETE,
        };
        let mut wakes = Wakes::new();
        let runner = self.state.lock(|state| {
            // Pairs with the acquiring load in `is_completed`.
            self.phase.store(phase, Ordering::Release);
            state.waiters.notify_all(&mut wakes);
            state.runner.take()
        });
        wakes.wake();
        drop(runner);
        if let Err(payload) = done {
            resume_unwind(payload);
        }
    }

    fn wait_in_line(
        &self,
        deadline: Option<Instant>,
        look: impl FnOnce(&mut State, &mut ()) -> Enter<Step>,
    ) -> Waited<Step, ()> {
        // Everybody is notified at the end of a routine, so nobody has anything to pass on.
        wait((&self.state, |state| &mut state.waiters), "once", (), deadline, look, || {}, |_, _, (), _| {})
    }
}

impl Step {
    /// `Some` if the caller is to run its routine.
    #[track_caller]
    fn permitted(self) -> Option<bool> {
        match self {
            Step::Nothing => None,
            Step::Run { poisoned } => Some(poisoned),
            Step::RefusePoisoned => panic!("an initialisation that is waited for has panicked"),
            Step::RefuseReentrant => panic!("an initialisation that is under way was asked for by itself"),
        }
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("completed", &self.is_completed()).finish_non_exhaustive()
    }
}

/// A value that is set once, by whoever comes first.
///
/// As with [`std::sync::OnceLock`], an initialisation that panics leaves the cell empty, and the next caller tries. So
/// does one whose fiber is cancelled. Reading a value that is there is one load.
///
/// ```
/// use fiber_runtime::sync::OnceCell;
///
/// let config = OnceCell::new();
/// assert!(config.get().is_none());
/// assert_eq!(config.get_or_init(|| 42), &42);
/// assert_eq!(config.set(7), Err(7));
/// ```
///
/// # Invariants
/// The value is there if and only if `once` is complete. Only the runner of `once` writes it.
pub struct OnceCell<T> {
    once: Once,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the cell gives out the value as a whole only when it is owned or borrowed exclusively.
unsafe impl<T: Send> Send for OnceCell<T> {}
// SAFETY: a shared cell takes the value in on one thread, to be dropped on another (`T: Send`), and shares it
// (`T: Sync`).
unsafe impl<T: Send + Sync> Sync for OnceCell<T> {}

impl<T: UnwindSafe> UnwindSafe for OnceCell<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceCell<T> {}

impl<T> OnceCell<T> {
    /// An empty cell.
    pub const fn new() -> Self {
        Self { once: Once::new(), value: UnsafeCell::new(None) }
    }

    /// The value, if it is there.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if !self.once.is_completed() {
            return None;
        }
        // SAFETY: `once` is complete: the value was written before, and is written no more.
        unsafe { (*self.value.get()).as_ref() }
    }

    /// The value, if it is there; the exclusive borrow shows that nobody is making it.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// Sets the value; waits for an initialisation that is under way.
    ///
    /// # Errors
    /// There is a value already; the new one comes back.
    ///
    /// # Panics
    /// If called from within the initialisation.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("an initialisation runs once"));
        value.map_or(Ok(()), Err)
    }

    /// The value, made by `init` if there is none. Waits for another's initialisation that is under way.
    ///
    /// # Panics
    /// If `init` panics, which leaves the cell as it was, or if called from within the initialisation.
    pub fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        let value: Result<&T, std::convert::Infallible> = self.get_or_try_init(|| Ok(init()));
        match value {
            Ok(value) => value,
        }
    }

    /// As [`OnceCell::get_or_init`], with an `init` that may fail, which leaves the cell as it was.
    ///
    /// # Errors
    /// That of `init`.
    ///
    /// # Panics
    /// As [`OnceCell::get_or_init`].
    pub fn get_or_try_init<E>(&self, init: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        self.initialise(OnPanic::TryAgain, init)
    }

    /// Waits until somebody has set the value.
    ///
    /// # Panics
    /// If called from within the initialisation.
    pub fn wait(&self) -> &T {
        self.once.wait();
        self.get().expect("the cell has a value once it is complete")
    }

    /// As [`OnceCell::wait`], at most until `deadline`.
    ///
    /// # Panics
    /// As [`OnceCell::wait`].
    pub fn wait_until(&self, deadline: Instant) -> Option<&T> {
        self.once.wait_until(deadline);
        self.get()
    }

    /// Takes the value out; the exclusive borrow shows that nobody uses it.
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }

    /// The value, if it was set.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    fn initialise<E>(&self, on_panic: OnPanic, init: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let mut failed = None;
        self.once.run(on_panic, false, |_| match init() {
            Ok(value) => {
                // SAFETY: the runner of `once` is alone with the value until it is complete.
                unsafe { *self.value.get() = Some(value) };
                true
            }
            Err(error) => {
                failed = Some(error);
                false
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(self.get().expect("the cell has a value once it is complete")),
        }
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<T> for OnceCell<T> {
    fn from(value: T) -> Self {
        Self {
            once: Once { phase: AtomicU8::new(COMPLETE), ..Once::new() },
            value: UnsafeCell::new(Some(value)),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => f.debug_tuple("OnceCell").field(value).finish(),
            None => f.write_str("OnceCell(<empty>)"),
        }
    }
}

/// A value that is made when it is first used.
///
/// As with [`std::sync::LazyLock`], an initialisation that panics poisons it: later uses panic. One whose fiber is
/// cancelled has not happened, and the next use makes the value; for that the function must be callable again (`Fn`).
///
/// ```
/// use fiber_runtime::sync::Lazy;
///
/// static NAMES: Lazy<Vec<&str>> = Lazy::new(|| vec!["one", "two"]);
/// assert_eq!(NAMES.len(), 2);
/// ```
pub struct Lazy<T, F = fn() -> T> {
    cell: OnceCell<T>,
    init: F,
}

impl<T, F: Fn() -> T> Lazy<T, F> {
    /// A value to be made by `init`.
    pub const fn new(init: F) -> Self {
        Self { cell: OnceCell::new(), init }
    }

    /// The value, made now if it was not used before.
    ///
    /// # Panics
    /// If the initialisation panics or has panicked, or if called from within it.
    #[inline]
    pub fn force(this: &Self) -> &T {
        match this.cell.get() {
            Some(value) => value,
            None => this.make(),
        }
    }

    #[cold]
    fn make(&self) -> &T {
        let value: Result<&T, std::convert::Infallible> =
            self.cell.initialise(OnPanic::Poison, || Ok((self.init)()));
        match value {
            Ok(value) => value,
        }
    }
}

impl<T, F: Fn() -> T> Deref for Lazy<T, F> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        Self::force(self)
    }
}

impl<T: Default> Default for Lazy<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for Lazy<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cell.get() {
            Some(value) => f.debug_tuple("Lazy").field(value).finish(),
            None => f.write_str("Lazy(<not made>)"),
        }
    }
}
