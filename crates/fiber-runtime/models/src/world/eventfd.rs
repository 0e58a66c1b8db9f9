//! An eventfd: a flag, and whoever sleeps until it is set.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use loom::sync::Notify;

thread_local! {
    /// The descriptors of the running iteration. loom runs its threads on one thread of the system.
    static OPEN: RefCell<HashMap<i32, Arc<Notify>>> = RefCell::default();
}

/// In the place of `std::os::fd::OwnedFd`.
pub(crate) struct OwnedFd(i32);

/// In the place of `std::os::fd::AsRawFd`.
pub(crate) trait AsRawFd {
    fn as_raw_fd(&self) -> i32;
}

impl AsRawFd for OwnedFd {
    fn as_raw_fd(&self) -> i32 {
        self.0
    }
}

pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    OPEN.with_borrow_mut(|open| {
        let fd = open.len() as i32;
        open.insert(fd, Arc::new(Notify::new()));
        Ok(OwnedFd(fd))
    })
}

fn find(fd: i32) -> Arc<Notify> {
    OPEN.with_borrow(|open| Arc::clone(&open[&fd]))
}

/// Closes everything; at the end of an iteration, because loom's objects do not outlive one.
pub(crate) fn close_all() {
    OPEN.with_borrow_mut(HashMap::clear);
}

pub(crate) fn eventfd_signal(fd: i32) {
    find(fd).notify();
}

/// What a worker's poll does: sleeps until the flag is set, and clears it. It may return for another reason, as an
/// `epoll_wait` may.
pub(crate) fn wait_for_signal(fd: i32) {
    find(fd).wait();
}
