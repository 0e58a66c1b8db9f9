//! The definitions of the libc symbols: whose call it is, and the return value. Everything else is elsewhere.
//!
//! Each begins with the question whether the caller is in a fiber; if not, it is one raw system call. A new symbol is
//! defined in the file of its kind, listed in that file's `SYMBOLS`, and described in `hook/table.md`; a test holds the
//! two against each other.

use super::self_test::Probe;

mod descriptor;
mod destructor;
mod futex;
mod lock;
mod name;
mod process;
mod readiness;
mod socket;
mod stream;
mod time;
mod transfer;

/// A symbol that is defined here.
pub(super) struct Symbol {
    /// Its name, by which the linker finds it.
    pub(super) name: &'static str,
    /// The function's address. A reference to it takes the definition into the program.
    pub(super) address: *const (),
}

impl Symbol {
    const fn new(name: &'static str, address: *const ()) -> Self {
        Symbol { name, address }
    }
}

// SAFETY: the addresses are of functions, which every thread may call.
unsafe impl Sync for Symbol {}

/// Every symbol that is defined, by kind.
pub(super) static TABLE: [&[Symbol]; 11] = [
    socket::SYMBOLS,
    stream::SYMBOLS,
    readiness::SYMBOLS,
    descriptor::SYMBOLS,
    time::SYMBOLS,
    futex::SYMBOLS,
    process::SYMBOLS,
    lock::SYMBOLS,
    name::SYMBOLS,
    destructor::SYMBOLS,
    transfer::SYMBOLS,
];

/// Whether the call is a fiber's. If not, a self test that is running learns that the call arrived here.
#[inline]
fn in_fiber(probe: Probe) -> bool {
    super::is_cooperative() || {
        probe.arrived();
        false
    }
}
