//! Where a suspended or interrupted fiber stands: the three registers from which its stack can be unwound.
//!
//! Known for x86-64. Elsewhere every function here says "unknown", and a dump has no backtraces.

use crate::fiber::header::Header;
use crate::stack;

/// Instruction pointer, stack pointer, frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    pub(crate) bp: u64,
}

/// The part of a fiber's stack that frames can be on: from above the guard to the link that corosensei keeps at the base.
pub(crate) fn frames_of(fiber: &Header) -> std::ops::Range<u64> {
    let guard = fiber.stack_guard.get();
    let top = guard.1 + stack::stack_size(fiber.class);
    // The yielder is the link. It is null for a moment at the start of a fiber.
    let link = fiber.yielder.get() as usize;
    let end = if (guard.1..top).contains(&link) { link } else { guard.1 };
    guard.1 as u64..end as u64
}

/// The registers of a suspended fiber.
///
/// corosensei pushes frame pointer, one more register and the address to go on at, and keeps the resulting stack pointer
/// in the `Coroutine`, in a private field. The coroutine holds two pointers into its stack, this one and the one it began
/// with, and the stack has grown downwards since: it is the lower one.
///
/// ```text
///   frame of `suspend`'s caller
///   saved rbp
///   saved rbx
///   address to go on at     <- stack pointer in the coroutine
/// ```
///
/// # Safety
/// The fiber is suspended, has been resumed at least once, and stays so meanwhile: the caller is its worker.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn of_suspended(fiber: &Header) -> Option<Registers> {
    let frames = frames_of(fiber);
    let coroutine = fiber.coroutine.get();
    let words = std::mem::size_of_val(&fiber.coroutine) / 8;
    let saved = (0..words)
        .map(|at| {
            // SAFETY: inside the cell, which nobody changes while the fiber is suspended.
            unsafe { load(coroutine.cast::<u64>().add(at)) }
        })
        .filter(|word| frames.contains(word) && word.is_multiple_of(8))
        .min()?;
    if saved + 24 > frames.end {
        return None;
    }
    let at = saved as *const u64;
    // SAFETY: three words of the fiber's stack, above the guard and below its end; nobody runs on it.
    let (ip, bp) = unsafe { (load(at), load(at.add(2))) };
    Some(Registers { ip, sp: saved + 24, bp })
}

/// The registers of a suspended fiber: unknown on this processor.
///
/// # Safety
/// None.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) unsafe fn of_suspended(_fiber: &Header) -> Option<Registers> {
    None
}

/// The registers of a thread that a signal has interrupted.
///
/// # Safety
/// `context` is what the kernel passed to the handler as its third argument.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn of_interrupted(context: *const libc::c_void) -> Option<Registers> {
    // SAFETY: the caller's promise.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let register = |at: i32| registers[at as usize] as u64;
    Some(Registers { ip: register(libc::REG_RIP), sp: register(libc::REG_RSP), bp: register(libc::REG_RBP) })
}

/// The registers of an interrupted thread: unknown on this processor.
///
/// # Safety
/// None.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) unsafe fn of_interrupted(_context: *const libc::c_void) -> Option<Registers> {
    None
}

/// Reads a word, whatever the compiler thinks of the memory: padding and stacks of others are read here as a debugger
/// reads them.
///
/// # Safety
/// The word is mapped, and no other thread writes it.
#[cfg(target_arch = "x86_64")]
unsafe fn load(from: *const u64) -> u64 {
    let word: u64;
    // SAFETY: the caller's promise; one load.
    unsafe {
        std::arch::asm!("mov {word}, [{from}]", from = in(reg) from, word = lateout(reg) word,
            options(nostack, readonly, preserves_flags));
    }
    word
}

/// Copies `count` words. As for [`load`], and unknown to sanitizers, for whom parts of a stack are out of bounds.
///
/// # Safety
/// `count` words at `from` are mapped and no other thread writes them; `to` has room for as many; they do not overlap.
pub(crate) unsafe fn copy_words(from: u64, to: *mut u64, count: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise. The direction flag is clear, as the calling convention has it.
    unsafe {
        std::arch::asm!("rep movsq", inout("rsi") from => _, inout("rdi") to => _, inout("rcx") count => _,
            options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(from as *const u64, to, count);
    }
}
