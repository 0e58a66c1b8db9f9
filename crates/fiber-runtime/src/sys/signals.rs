//! Signal handlers: who is told that a signal came.
//!
//! A handler may run at any moment on any thread, so what it touches is never freed and takes no lock: a list of
//! *posts* that only grows, each with the set of signals it stands for, the set that has come, and an eventfd that wakes
//! whoever reads it. A post that is given up keeps its place and its eventfd for the next one.
//!
//! ```text
//!   handler, any thread                     listener
//!   for each post that wants the signal:    wait for the eventfd, empty it
//!     pending |= bit                        take pending
//!     write the eventfd                     a bit set after that writes the eventfd again: nothing is lost
//! ```

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};

use super::calls::{eventfd, eventfd_signal};
use crate::sync::Spin;

/// Signals are numbered from 1 to this.
pub(crate) const MAX_SIGNAL: c_int = 64;

/// One listener. See the module's documentation.
pub(crate) struct Post {
    wanted: AtomicU64,
    pending: AtomicU64,
    eventfd: OwnedFd,
    next: *const Post,
}

// SAFETY: `next` is written before the post is published, and read only after.
unsafe impl Send for Post {}
// SAFETY: as above; everything else is atomic or fixed.
unsafe impl Sync for Post {}

/// The newest post; each leads to the one before it.
static POSTS: AtomicPtr<Post> = AtomicPtr::new(null_mut());

/// What changes by lock: posts to be used again, and how many listeners each signal has.
struct Desk {
    free: Vec<&'static Post>,
    listeners: [u32; MAX_SIGNAL as usize + 1],
}

static DESK: Spin<Desk> = Spin::new(Desk { free: Vec::new(), listeners: [0; MAX_SIGNAL as usize + 1] });

/// What was in force before ours, to be called after it, and put back in the end.
struct Before {
    /// The address of the handler, `SIG_DFL` or `SIG_IGN`.
    handler: AtomicUsize,
    /// Its flags.
    flags: AtomicUsize,
    action: UnsafeCell<MaybeUninit<libc::sigaction>>,
}

// SAFETY: `action` is used under the lock of `DESK` only.
unsafe impl Sync for Before {}

static BEFORE: [Before; MAX_SIGNAL as usize + 1] = [const {
    Before {
        handler: AtomicUsize::new(libc::SIG_DFL),
        flags: AtomicUsize::new(0),
        action: UnsafeCell::new(MaybeUninit::uninit()),
    }
}; MAX_SIGNAL as usize + 1];

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

impl Post {
    /// A post for `signals`, which must be between 1 and [`MAX_SIGNAL`]; their default effects end.
    pub(crate) fn open(signals: &[c_int]) -> io::Result<&'static Post> {
        let free = DESK.lock(|desk| desk.free.pop());
        let post = match free {
            Some(post) => post,
            None => Self::publish(eventfd()?),
        };
        // Of an earlier listener.
        post.take();
        let _ = super::read(post.fd(), &mut [0; 8]);
        let mut wanted = 0;
        for &signal in signals.iter().filter(|&&signal| (1..=MAX_SIGNAL).contains(&signal)) {
            if wanted & bit(signal) != 0 {
                continue;
            }
            let installed = DESK.lock(|desk| {
                let listeners = &mut desk.listeners[signal as usize];
                if *listeners == 0 {
                    install(signal)?;
                }
                *listeners += 1;
                io::Result::Ok(())
            });
            if let Err(error) = installed {
                post.close();
                return Err(error);
            }
            wanted |= bit(signal);
            // Release: the post is ready to be found.
            post.wanted.store(wanted, Ordering::Release);
        }
        Ok(post)
    }

    /// Gives the post up. Signals without listeners have their former effects again.
    pub(crate) fn close(&'static self) {
        let wanted = self.wanted.swap(0, Ordering::AcqRel);
        DESK.lock(|desk| {
            for signal in (1..=MAX_SIGNAL).filter(|&signal| wanted & bit(signal) != 0) {
                let listeners = &mut desk.listeners[signal as usize];
                *listeners -= 1;
                if *listeners == 0 {
                    restore(signal);
                }
            }
            desk.free.push(self);
        });
    }

    fn publish(eventfd: OwnedFd) -> &'static Post {
        let post: &'static mut Post = Box::leak(Box::new(Post {
            wanted: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            eventfd,
            next: std::ptr::null(),
        }));
        let mut newest = POSTS.load(Ordering::Acquire);
        loop {
            post.next = newest;
            // Release pairs with the Acquire in `arrived`.
            match POSTS.compare_exchange_weak(newest, post, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return post,
                Err(now) => newest = now,
            }
        }
    }

    /// The signals that have come, one bit each from bit 0 for signal 1.
    pub(crate) fn take(&self) -> u64 {
        self.pending.swap(0, Ordering::AcqRel)
    }

    /// Puts back signals that were taken and not handled.
    pub(crate) fn put_back(&self, signals: u64) {
        self.pending.fetch_or(signals, Ordering::AcqRel);
        eventfd_signal(self.fd());
    }

    /// The eventfd that is readable when signals have come.
    pub(crate) fn fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

/// The handler. Async-signal-safe: atomics, and one raw system call that leaves `errno` alone.
extern "C" fn arrived(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let mut post = POSTS.load(Ordering::Acquire).cast_const();
    // SAFETY: null, or a post, which is never freed.
    while let Some(this) = unsafe { post.as_ref() } {
        if this.wanted.load(Ordering::Acquire) & bit(signal) != 0 {
            this.pending.fetch_or(bit(signal), Ordering::AcqRel);
            eventfd_signal(this.fd());
        }
        post = this.next;
    }
    let before = &BEFORE[signal as usize];
    let handler = before.handler.load(Ordering::Acquire);
    if matches!(handler, libc::SIG_DFL | libc::SIG_IGN) {
        return;
    }
    if before.flags.load(Ordering::Acquire) & libc::SA_SIGINFO as usize != 0 {
        // SAFETY: with this flag the address is that of a function of three arguments, which the program installed.
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
            unsafe { std::mem::transmute(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: without the flag it has one argument.
        let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
        handler(signal);
    }
}

/// Installs the handler for a signal that has none of ours. Called under the lock of [`DESK`].
fn install(signal: c_int) -> io::Result<()> {
    // SAFETY: a sigaction of zeros is valid: no flags, no mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = arrived as *const () as usize;
    // On the alternate stack: a fiber's own may be small. Restarting: a thread's system calls need not know of it.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    let before = &BEFORE[signal as usize];
    let mut old = MaybeUninit::uninit();
    // SAFETY: reads what is in force, and changes nothing.
    if unsafe { libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded.
    let old: libc::sigaction = unsafe { old.assume_init() };
    // Before ours can run.
    before.flags.store(old.sa_flags as usize, Ordering::Release);
    before.handler.store(old.sa_sigaction, Ordering::Release);
    // SAFETY: under the lock, as the caller promises.
    unsafe { (*before.action.get()).write(old) };
    // SAFETY: the action is valid, and its handler is async-signal-safe.
    if unsafe { libc::sigaction(signal, &raw const action, null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Puts back what was in force before, unless somebody has replaced our handler since. Called under the lock of [`DESK`].
fn restore(signal: c_int) {
    let mut now = MaybeUninit::uninit();
    // SAFETY: reads what is in force, and changes nothing.
    if unsafe { libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) } != 0 {
        return;
    }
    // SAFETY: the call succeeded.
    let now: libc::sigaction = unsafe { now.assume_init() };
    if now.sa_sigaction != arrived as *const () as usize {
        return;
    }
    let before = &BEFORE[signal as usize];
    // SAFETY: `install` has written it, and put ours in its place; under the lock.
    unsafe { libc::sigaction(signal, (*before.action.get()).as_ptr(), null_mut()) };
}

/// Sends `signal` to process `pid`.
///
/// # Safety
/// The process is a child that has not been reaped, so that the number is its own; or the caller's.
pub(crate) unsafe fn kill(pid: u32, signal: c_int) -> io::Result<()> {
    // SAFETY: plain numbers; whom they concern is the caller's promise.
    super::raw::check(unsafe {
        super::raw::syscall6(libc::SYS_kill, pid as usize, signal as usize, 0, 0, 0, 0)
    })
    .map(drop)
}

/// Sends `signal` to the calling thread. If it is not blocked, its handler has run when this returns.
pub(crate) fn raise(signal: c_int) -> io::Result<()> {
    // SAFETY: plain numbers: this process, and a thread of it that is alive, for it makes the call.
    super::raw::check(unsafe {
        let thread = super::raw::syscall6(libc::SYS_gettid, 0, 0, 0, 0, 0, 0);
        let process = std::process::id() as usize;
        super::raw::syscall6(libc::SYS_tgkill, process, thread as usize, signal as usize, 0, 0, 0)
    })
    .map(drop)
}
