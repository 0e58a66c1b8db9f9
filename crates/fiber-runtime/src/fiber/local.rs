//! Values that each fiber has for itself.
//!
//! `thread_local!` is shared by all fibers of a worker, which is right for caches and wrong for what belongs to a piece of
//! work: a request's number, a transaction, a depth of recursion. [`fiber_local!`](crate::fiber_local!) is the latter.
//!
//! The values live in a short list in the fiber's extras, each in a box of its own, so that they stay where they are while
//! the list grows. They are dropped on the fiber's own stack after its closure has returned and before it can be joined,
//! the one made last first. So a value need not be `Send`, and its destructor may do what fibers do.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::thread::LocalKey;

use super::header::Header;
use crate::scheduler::worker::Worker;

/// Declares values that each fiber has for itself, as `std::thread_local!` does for threads. Outside fibers the thread
/// has one.
///
/// ```
/// use std::cell::Cell;
///
/// fiber_runtime::fiber_local! {
///     /// How deep the parser of this fiber is.
///     pub static DEPTH: Cell<u32> = Cell::new(0);
/// }
///
/// # let runtime = fiber_runtime::Runtime::builder().workers(1).build().unwrap();
/// # runtime.block_on(|| {
/// DEPTH.set(3);
/// let other = fiber_runtime::spawn(|| DEPTH.get());
/// assert_eq!(other.join().unwrap(), 0);
/// assert_eq!(DEPTH.get(), 3);
/// # });
/// ```
///
/// A reference to the value does not leave [`with`](crate::FiberLocal::with), and so not the fiber:
///
/// ```compile_fail
/// fiber_runtime::fiber_local! { static NAME: String = String::new(); }
/// let name: &'static String = NAME.with(|name| name);
/// ```
#[macro_export]
macro_rules! fiber_local {
    () => {};
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $value:expr; $($rest:tt)*) => {
        $crate::fiber_local!($(#[$attribute])* $visibility static $name: $type = $value);
        $crate::fiber_local!($($rest)*);
    };
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $value:expr) => {
        $(#[$attribute])*
        $visibility static $name: $crate::FiberLocal<$type> = {
            fn init() -> $type {
                $value
            }
            ::std::thread_local! {
                static OF_THREAD: $type = init();
            }
            $crate::FiberLocal::new(init, OF_THREAD)
        };
    };
}

/// A value that each fiber has for itself, made on first use. Declared with [`fiber_local!`](crate::fiber_local!).
pub struct FiberLocal<T: 'static> {
    init: fn() -> T,
    of_thread: LocalKey<T>,
}

/// A [`FiberLocal`] was used for the first time, or once more, after the fiber (or thread) had dropped its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fiber has ended and dropped its fiber-local values")]
pub struct AccessError;

impl<T: 'static> FiberLocal<T> {
    #[doc(hidden)]
    pub const fn new(init: fn() -> T, of_thread: LocalKey<T>) -> Self {
        FiberLocal { init, of_thread }
    }

    /// Calls `body` with the fiber's value, or the thread's outside fibers. `body` may suspend.
    ///
    /// # Panics
    /// In destructors that run when the fiber has dropped its values: those of such values, and of a result that nobody
    /// joins.
    #[track_caller]
    pub fn with<R>(&'static self, body: impl FnOnce(&T) -> R) -> R {
        self.try_with(body).expect("a fiber-local value is used before its fiber ends")
    }

    /// As [`with`](FiberLocal::with).
    ///
    /// # Errors
    /// Instead of the panic.
    pub fn try_with<R>(&'static self, body: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        match Worker::with_current_fiber(|_, fiber| self.of_fiber(fiber)) {
            // SAFETY: a value is dropped when its fiber's closure has returned or later, one after the other, each taken
            // out of the list before, so not while anybody on the fiber's stack is in here with it; other threads do
            // not see it, and the fiber does not change its own.
            Some(value) => Ok(body(unsafe { value?.as_ref() })),
            None => self.of_thread.try_with(body).map_err(|_| AccessError),
        }
    }

    fn of_fiber(&'static self, fiber: &Header) -> Result<NonNull<T>, AccessError> {
        // A static's address is its identity: it holds a function pointer, so no two share one.
        let key = std::ptr::from_ref(self).addr();
        let locals = &fiber.extras().locals;
        if let Some(value) = locals.find(key) {
            return Ok(value.cast());
        }
        if locals.closed.get() {
            return Err(AccessError);
        }
        // It may use other values, and even this one: then that one stays.
        let fresh = (self.init)();
        if let Some(value) = locals.find(key) {
            return Ok(value.cast());
        }
        let value = NonNull::from(Box::leak(Box::new(fresh)));
        locals.slots.borrow_mut().push(Slot { key, value: value.cast(), discard: discard::<T> });
        Ok(value)
    }
}

impl<T: 'static> FiberLocal<Cell<T>> {
    /// Sets the value.
    #[track_caller]
    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    /// A copy of the value.
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value and leaves the default.
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Sets the value and returns what it was.
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> FiberLocal<RefCell<T>> {
    /// Calls `body` with the value borrowed.
    #[track_caller]
    pub fn with_borrow<R>(&'static self, body: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| body(&cell.borrow()))
    }

    /// Calls `body` with the value borrowed exclusively.
    #[track_caller]
    pub fn with_borrow_mut<R>(&'static self, body: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| body(&mut cell.borrow_mut()))
    }

    /// Takes the value and leaves the default.
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets the value and returns what it was.
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for FiberLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FiberLocal").finish_non_exhaustive()
    }
}

/// The values of one fiber.
#[derive(Default)]
pub(super) struct Locals {
    slots: RefCell<Vec<Slot>>,
    /// The fiber drops its values: no new ones.
    closed: Cell<bool>,
}

struct Slot {
    key: usize,
    /// From a `Box<T>` of the static's type.
    value: NonNull<()>,
    discard: unsafe fn(NonNull<()>),
}

/// # Safety
/// `value` is from a `Box<T>` and not used again.
unsafe fn discard<T>(value: NonNull<()>) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(value.cast::<T>().as_ptr()) });
}

impl Locals {
    fn find(&self, key: usize) -> Option<NonNull<()>> {
        self.slots.borrow().iter().find(|slot| slot.key == key).map(|slot| slot.value)
    }

    /// The fiber's closure has returned: drops the values, on the fiber's own stack. A destructor's panic has been
    /// printed, and ends there.
    pub(super) fn close(&self) {
        self.closed.set(true);
        // Taken out first: its destructor finds the others and not itself.
        while let Some(slot) = { self.slots.borrow_mut().pop() } {
            // SAFETY: the slot's value, out of the list and hence used by nobody.
            let _ = catch_unwind(AssertUnwindSafe(|| unsafe { (slot.discard)(slot.value) }));
        }
    }
}

impl Drop for Locals {
    fn drop(&mut self) {
        // They are of the fiber's thread, and this may be another.
        debug_assert!(self.slots.get_mut().is_empty(), "a fiber drops its values at its end");
    }
}
