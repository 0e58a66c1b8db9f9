//! A dump when the process gets a signal.
//!
//! The handler writes an eventfd; a thread that sleeps in the kernel until then makes the dump. Before the first signal
//! that thread costs nothing but its existence.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::sys;

/// The eventfd, for the handler; -1 before there is one.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Writes a [`Dump`](super::Dump) to the standard error whenever the process gets `signal`, as in `kill -USR1 <pid>`.
/// Replaces what `signal` did before. May be called again, for other signals too.
///
/// # Errors
/// `EINVAL` for a signal that cannot be caught; what the system says when it has no thread or descriptor to give.
pub fn dump_on_signal(signal: i32) -> io::Result<()> {
    start_thread()?;
    // SAFETY: all-zero is a valid sigaction; the structure lives through the call; the handler makes one system call.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaction(signal, &action, null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn start_thread() -> io::Result<()> {
    static STARTED: Mutex<bool> = Mutex::new(false);
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*started {
        let wake = sys::eventfd_to_wait_on()?;
        let raw = wake.as_raw_fd();
        std::thread::Builder::new().name("moon-dump".to_owned()).spawn(move || serve(&wake))?;
        // The thread keeps the descriptor open for ever.
        WAKE.store(raw, Ordering::Release);
        *started = true;
    }
    Ok(())
}

fn serve(wake: &OwnedFd) {
    let mut count = [0; 8];
    loop {
        match sys::read(wake.as_raw_fd(), &mut count) {
            Ok(_) => {
                // One write: lines of other threads do not come in between. If it fails there is nobody to tell.
                let text = super::dump().to_string();
                let _ = io::stderr().lock().write_all(text.as_bytes());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

extern "C" fn handler(_signal: i32) {
    // Acquire pairs with the Release in `start_thread`.
    let fd = WAKE.load(Ordering::Acquire);
    if fd >= 0 {
        sys::eventfd_signal(fd);
    }
}
