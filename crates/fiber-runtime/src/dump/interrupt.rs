//! Looking at a worker that does not answer: its thread is interrupted by a signal, whose handler fills the capture.
//!
//! The signal is SIGURG, whose default is to be ignored and which nearly nobody uses; a handler that was installed before
//! still gets every SIGURG that is not ours. It is sent to a worker's thread only when that worker has run one fiber for
//! long: by the hog monitor and by a dump. It is installed on first use.
//!
//! ```text
//!   asker (one at a time)                     handler, on the worker's thread
//!   ---------------------                     -------------------------------
//!   capture, port -> slot
//!   state = ASKED           (Release)
//!   tgkill                                    state ASKED -> FILLING?   (Acquire)
//!                                             fill the capture
//!                                             state = FILLED            (Release)
//!   wait until state is FILLED (Acquire), or take it back: ASKED -> IDLE
//! ```
//! The handler is async-signal-safe: it reads what belongs to its thread, writes memory allocated before, and makes no
//! call that locks.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use super::capture::Capture;
use super::registers;
use crate::scheduler::port::Port;
use crate::scheduler::worker::Worker;
use crate::sys;

/// See the module's documentation.
const SIGNAL: i32 = libc::SIGURG;

/// How long a thread may take to get to the handler. One that takes longer is not running (SIGSTOP, a debugger), is in
/// an uninterruptible sleep, or has blocked the signal.
const PATIENCE: Duration = Duration::from_millis(500);

const IDLE: u32 = 0;
const ASKED: u32 = 1;
const FILLING: u32 = 2;
const FILLED: u32 = 3;
/// The thread ran no fiber at that moment.
const NOTHING: u32 = 4;

struct Slot {
    state: AtomicU32,
    port: AtomicPtr<Port>,
    capture: AtomicPtr<Capture>,
}

static SLOT: Slot = Slot {
    state: AtomicU32::new(IDLE),
    port: AtomicPtr::new(null_mut()),
    capture: AtomicPtr::new(null_mut()),
};

/// Held by the asker.
static ASKER: Mutex<()> = Mutex::new(());

/// What SIGURG did before: the address of a leaked `sigaction`.
static PREVIOUS: AtomicUsize = AtomicUsize::new(0);

/// What came of an attempt.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupted {
    /// The capture is filled.
    Filled,
    /// The worker ran no fiber at that moment.
    NoFiber,
    /// Nobody drives the worker, or its thread does not react.
    Silent,
}

/// Fills `capture` on the thread that drives the worker of `port`, whatever that thread does. Blocks; not for fibers.
pub(crate) fn capture(port: &'static Port, capture: &mut Capture) -> Interrupted {
    install();
    let thread = port.thread();
    if thread == 0 {
        return Interrupted::Silent;
    }
    let _alone = ASKER.lock().unwrap_or_else(PoisonError::into_inner);
    SLOT.port.store(std::ptr::from_ref(port).cast_mut(), Ordering::Relaxed);
    SLOT.capture.store(capture, Ordering::Relaxed);
    // Release publishes the two above and the capture.
    SLOT.state.store(ASKED, Ordering::Release);
    if sys::signal_thread(thread, SIGNAL).is_err() {
        SLOT.state.store(IDLE, Ordering::Relaxed);
        return Interrupted::Silent;
    }
    let began = Instant::now();
    loop {
        match SLOT.state.load(Ordering::Acquire) {
            // Once it fills it comes to an end soon, and the capture is not ours before.
            ASKED if began.elapsed() > PATIENCE => {
                if SLOT.state.compare_exchange(ASKED, IDLE, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return Interrupted::Silent;
                }
            }
            ASKED | FILLING => std::thread::sleep(Duration::from_micros(50)),
            outcome => {
                SLOT.state.store(IDLE, Ordering::Relaxed);
                return if outcome == FILLED { Interrupted::Filled } else { Interrupted::NoFiber };
            }
        }
    }
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all-zero is a valid sigaction; both structures live through the calls; the handler has the SA_SIGINFO
        // signature and is async-signal-safe.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            let old = Box::leak(Box::new(std::mem::zeroed::<libc::sigaction>()));
            if libc::sigaction(SIGNAL, std::ptr::null(), old) == 0 {
                // Release pairs with the Acquire in `chain`.
                PREVIOUS.store(std::ptr::from_mut(old) as usize, Ordering::Release);
                libc::sigaction(SIGNAL, &action, null_mut());
            }
        }
    });
}

/// The signal handler. See the module's documentation.
extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let asked = Worker::with_current(|worker| {
        let is_ours = || SLOT.port.load(Ordering::Relaxed).cast_const() == std::ptr::from_ref(worker.port());
        if !is_ours()
            || SLOT.state.compare_exchange(ASKED, FILLING, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        // Read again, ordered by the exchange: an asker who gave up may have been followed by another's.
        let ours = is_ours();
        if !ours {
            SLOT.state.store(ASKED, Ordering::Release);
        }
        ours
    });
    if asked != Some(true) {
        return chain(signal, info, context);
    }
    // SAFETY: the asker does not touch the capture until the state says so, and waits for that; the kernel passes the
    // context.
    let filled = Worker::with_current(|worker| unsafe {
        let capture = &mut *SLOT.capture.load(Ordering::Relaxed);
        capture.fill_interrupted(worker, registers::of_interrupted(context))
    });
    let outcome = if filled == Some(true) { FILLED } else { NOTHING };
    // Release publishes the capture.
    SLOT.state.store(outcome, Ordering::Release);
}

/// Does what would have happened without this handler. SIGURG is ignored by default.
fn chain(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // Acquire pairs with the Release in `install`.
    let previous = PREVIOUS.load(Ordering::Acquire) as *const libc::sigaction;
    // SAFETY: the pointer is null or a leaked sigaction that nobody writes any more; a handler found in it has the
    // signature that its flags say.
    unsafe {
        let Some(action) = previous.as_ref() else { return };
        let address = action.sa_sigaction;
        if address == libc::SIG_DFL || address == libc::SIG_IGN {
            return;
        }
        if action.sa_flags & libc::SA_SIGINFO != 0 {
            let function: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute(address);
            function(signal, info, context);
        } else {
            let function: extern "C" fn(i32) = std::mem::transmute(address);
            function(signal);
        }
    }
}
