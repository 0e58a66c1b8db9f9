//! The report of a stack overflow: which fiber, how large its stack is, how to give it more.
//!
//! A fiber that runs off its stack touches its guard and the kernel raises SIGSEGV. Without help that is a bare
//! "segmentation fault": std's own handler knows threads' guards only. This handler runs on an alternate stack (the
//! faulting one is full), recognises the guard of the fiber that is running on this thread, prints and aborts; every
//! other fault goes to the handler that was installed before.

use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::GUARD;
use crate::scheduler::worker;
use crate::sync::Spin;
use crate::sys;

/// Bytes of alternate stack a worker thread gives its signal handlers.
const ALTERNATE_STACK: usize = 64 << 10;

/// What SIGSEGV and SIGBUS did before: the addresses of leaked `sigaction`s.
static PREVIOUS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
const SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Installs the handler once for the process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (signal, previous) in SIGNALS.into_iter().zip(&PREVIOUS) {
            // SAFETY: all-zero is a valid sigaction; both structures live through the call; the handler has the
            // SA_SIGINFO signature and is async-signal-safe (see there).
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
                let old = Box::leak(Box::new(std::mem::zeroed::<libc::sigaction>()));
                if libc::sigaction(signal, std::ptr::null(), old) == 0 {
                    // Release pairs with the Acquire load in `chain`.
                    previous.store(std::ptr::from_mut(old) as usize, Ordering::Release);
                    libc::sigaction(signal, &action, std::ptr::null_mut());
                }
            }
        }
    });
}

/// An alternate signal stack for this thread, until dropped. Does nothing if the thread has one as large: the one that std
/// gives its threads is barely as large as the processor's state that the kernel puts there.
pub(crate) struct AlternateStack {
    /// Where ours is mapped, and the stack before it.
    installed: Option<(usize, libc::stack_t)>,
}

/// Alternate stacks that are mapped and not in use: a thread that drives a worker often takes the same one each time.
static FREE: Spin<Vec<usize>> = Spin::new(Vec::new());

impl AlternateStack {
    pub(crate) fn for_this_thread() -> Self {
        // SAFETY: all-zero is a valid stack_t, and sigaltstack only writes the old one here.
        let before = unsafe {
            let mut before: libc::stack_t = std::mem::zeroed();
            libc::sigaltstack(std::ptr::null(), &mut before);
            before
        };
        let is_used_now = before.ss_flags & libc::SS_ONSTACK != 0;
        let is_large = before.ss_flags & libc::SS_DISABLE == 0 && before.ss_size >= ALTERNATE_STACK;
        if is_used_now || is_large {
            return AlternateStack { installed: None };
        }
        let Ok(low) = FREE.lock(Vec::pop).map_or_else(map, Ok) else {
            return AlternateStack { installed: None };
        };
        let stack = libc::stack_t {
            ss_sp: (low + GUARD) as *mut libc::c_void,
            ss_flags: 0,
            ss_size: ALTERNATE_STACK,
        };
        // SAFETY: the stack is mapped, is nobody else's, and stays mapped for ever.
        unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
        AlternateStack { installed: Some((low, before)) }
    }
}

/// A new alternate stack, with a guard below it.
fn map() -> io::Result<usize> {
    let low = sys::map_reserve(GUARD + ALTERNATE_STACK)?;
    // SAFETY: mapped just now, and not used yet.
    unsafe { sys::protect_none(low, GUARD) }?;
    Ok(low)
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        if let Some((low, before)) = self.installed {
            // SAFETY: this thread runs on another stack. The one before was in use when ours was installed; its owner
            // (std, or nobody) has it as long as the thread lives.
            unsafe { libc::sigaltstack(&before, std::ptr::null_mut()) };
            FREE.lock(|free| free.push(low));
        }
    }
}

/// The signal handler. Async-signal-safe: it reads this thread's own worker, writes to descriptor 2 by raw system
/// calls, and neither allocates nor locks.
extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler, and for these signals it holds an address.
    let address = unsafe { (*info).si_addr() } as usize;
    if let Some((name, id, size)) = worker::fiber_whose_guard_holds(address) {
        report(name, id, size);
        // SAFETY: abort may be called from a signal handler.
        unsafe { libc::abort() };
    }
    chain(signal, info, context);
}

fn report(name: Option<&str>, id: u64, size: usize) {
    let mut line = Line { bytes: [0; 512], used: 0 };
    line.text("\nfiber ");
    if let Some(name) = name {
        line.text("'");
        line.text(name);
        line.text("' ");
    }
    line.text("(#");
    line.number(id);
    line.text(") has overflowed its stack of ");
    line.number((size / 1024) as u64);
    line.text(" KiB\nhelp: raise it for this fiber with FiberBuilder::stack_size, or for all with Builder::stack_size; ");
    line.text("run what needs a deep stack with fiber_runtime::offload\n");
    let _ = sys::write(2, &line.bytes[..line.used]);
}

/// A message built without allocation.
struct Line {
    bytes: [u8; 512],
    used: usize,
}

impl Line {
    fn text(&mut self, text: &str) {
        // A long name is cut so that the advice still fits.
        for &byte in text.as_bytes().iter().take(200) {
            if self.used < self.bytes.len() {
                self.bytes[self.used] = byte;
                self.used += 1;
            }
        }
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.text(std::str::from_utf8(&digits[at..]).unwrap_or("?"));
    }
}

/// Does what would have happened without this handler.
fn chain(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let at = SIGNALS.iter().position(|&known| known == signal).unwrap_or(0);
    // Acquire pairs with the Release store in `install`.
    let previous = PREVIOUS[at].load(Ordering::Acquire) as *const libc::sigaction;
    // SAFETY: the pointer is null or a leaked sigaction that nobody writes any more; a handler found in it has the
    // signature that its SA_SIGINFO flag says.
    unsafe {
        let action = previous.as_ref().map(|action| (action.sa_sigaction, action.sa_flags));
        match action {
            Some((address, flags))
                if address != libc::SIG_DFL && address != libc::SIG_IGN && flags & libc::SA_SIGINFO != 0 =>
            {
                let function: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(address);
                function(signal, info, context);
            }
            Some((address, _)) if address != libc::SIG_DFL && address != libc::SIG_IGN => {
                let function: extern "C" fn(i32) = std::mem::transmute(address);
                function(signal);
            }
            _ => {
                // The default action, by faulting again on return.
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, std::ptr::null_mut());
            }
        }
    }
}
