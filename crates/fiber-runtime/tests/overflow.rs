//! A fiber that runs off its stack: the process says which, how large its stack was and how to raise it, and aborts.
//! Every test does its harm in a child process.

#![allow(clippy::unwrap_used, reason = "a test unwraps what it has arranged")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use fiber_runtime::{FiberBuilder, Runtime, sim, spawn, yield_now};

/// Set in the child process.
const CHILD: &str = "FIBER_RUNTIME_OVERFLOW_CHILD";

/// Whether this is the child.
fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs the named test again, alone in a process.
fn run_child(test: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap()
}

/// What the child wrote to its standard error, and the signal that ended it.
fn end_of_child(test: &str) -> (String, Option<i32>) {
    let output = run_child(test);
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.signal())
}

#[expect(unconditional_recursion, reason = "it is to overflow the stack")]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth + 1) + frame[3]
}

fn small(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).stack_size(64 << 10).build().unwrap()
}

#[test]
fn the_report_names_the_fiber_its_stack_and_the_remedy() {
    if is_child() {
        let fiber = FiberBuilder::new().name("deep").stack_size(32 << 10);
        let result = small(1).handle().spawn_with(fiber, || recurse(0)).join();
        unreachable!("the overflow gave {result:?}");
    }
    let (message, signal) = end_of_child("the_report_names_the_fiber_its_stack_and_the_remedy");
    assert_eq!(signal, Some(libc::SIGABRT), "{message}");
    assert!(message.contains("fiber 'deep' (#"), "{message}");
    assert!(message.contains("overflowed its stack of 32 KiB"), "{message}");
    assert!(message.contains("FiberBuilder::stack_size"), "{message}");
    assert!(message.contains("Builder::stack_size") && message.contains("offload"), "{message}");
}

#[test]
fn a_fiber_without_a_name_is_reported_by_its_number() {
    if is_child() {
        let result = small(1).block_on(|| spawn(|| recurse(0)).join());
        unreachable!("the overflow gave {result:?}");
    }
    let (message, signal) = end_of_child("a_fiber_without_a_name_is_reported_by_its_number");
    assert_eq!(signal, Some(libc::SIGABRT), "{message}");
    assert!(message.contains("fiber (#"), "{message}");
    assert!(message.contains("overflowed its stack of 64 KiB"), "{message}");
}

#[test]
fn a_very_long_name_leaves_room_for_the_advice() {
    if is_child() {
        let fiber = FiberBuilder::new().name("long ".repeat(1000));
        let result = small(1).handle().spawn_with(fiber, || recurse(0)).join();
        unreachable!("the overflow gave {result:?}");
    }
    let (message, signal) = end_of_child("a_very_long_name_leaves_room_for_the_advice");
    assert_eq!(signal, Some(libc::SIGABRT), "{message}");
    assert!(message.contains("long long") && message.contains("stack_size"), "{message}");
}

#[test]
fn a_frame_larger_than_the_guard_does_not_jump_over_it() {
    #[expect(clippy::large_stack_arrays, reason = "it is to be larger than the stack")]
    #[inline(never)]
    fn has_a_large_frame(turns: usize) -> u8 {
        let mut frame = [0_u8; 96 << 10];
        frame.iter_mut().take(turns).for_each(|byte| *byte = turns as u8);
        std::hint::black_box(&frame)[turns / 2]
    }
    if is_child() {
        // Its neighbour's stack is there, too, and must not be written to.
        let result = small(1).block_on(|| {
            let neighbour = spawn(yield_now);
            let deep = spawn(|| has_a_large_frame(10));
            (deep.join(), neighbour.join())
        });
        unreachable!("the overflow gave {result:?}");
    }
    let (message, signal) = end_of_child("a_frame_larger_than_the_guard_does_not_jump_over_it");
    assert_eq!(signal, Some(libc::SIGABRT), "{message}");
    assert!(message.contains("overflowed its stack of 64 KiB"), "{message}");
}

#[test]
fn the_callers_worker_reports_too() {
    if is_child() {
        let runtime = Runtime::builder().workers(1).use_caller(true).stack_size(64 << 10).build().unwrap();
        let sum = runtime.block_on(|| recurse(0));
        unreachable!("the overflow gave {sum}");
    }
    let (message, signal) = end_of_child("the_callers_worker_reports_too");
    assert_eq!(signal, Some(libc::SIGABRT), "{message}");
    assert!(message.contains("fiber 'block_on'"), "{message}");
}

#[test]
fn a_simulation_reports_too() {
    if is_child() {
        let sum = sim::Sim::new(1).run(|| recurse(0));
        unreachable!("the overflow gave {sum}");
    }
    let (message, signal) = end_of_child("a_simulation_reports_too");
    assert_eq!(signal, Some(libc::SIGABRT), "{message}");
    assert!(message.contains("fiber 'main'"), "{message}");
}

#[test]
fn the_overflow_of_a_thread_is_still_stds_to_report() {
    if is_child() {
        let _runtime = small(1);
        let thread = std::thread::Builder::new().name("plain".to_owned()).stack_size(256 << 10);
        let result = thread.spawn(|| recurse(0)).unwrap().join();
        unreachable!("the overflow gave {result:?}");
    }
    let (message, signal) = end_of_child("the_overflow_of_a_thread_is_still_stds_to_report");
    assert_eq!(signal, Some(libc::SIGABRT), "{message}");
    assert!(message.contains("thread 'plain'") && message.contains("has overflowed its stack"), "{message}");
}

/// Reads an address at which nothing is.
fn fault() -> u8 {
    let nowhere = std::hint::black_box(16_usize) as *const u8;
    // SAFETY: none: the child process is to fault here.
    unsafe { nowhere.read_volatile() }
}

#[test]
fn a_fault_that_is_no_overflow_ends_the_process_as_it_would_have() {
    if is_child() {
        let value = small(1).block_on(fault);
        unreachable!("address 16 holds {value}");
    }
    let (message, signal) = end_of_child("a_fault_that_is_no_overflow_ends_the_process_as_it_would_have");
    assert_eq!(signal, Some(libc::SIGSEGV), "{message}");
    assert!(!message.contains("overflowed"), "{message}");
}

extern "C" fn exit_with_42(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: may be called in a signal handler.
    unsafe { libc::_exit(42) };
}

#[test]
fn a_handler_that_was_there_before_gets_other_faults() {
    if is_child() {
        // SAFETY: all-zero is a valid sigaction, and the handler has the signature that its flag says.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = exit_with_42 as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()), 0);
        }
        let value = small(1).block_on(fault);
        unreachable!("address 16 holds {value}");
    }
    let output = run_child("a_handler_that_was_there_before_gets_other_faults");
    assert_eq!(output.status.code(), Some(42), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_panic_with_backtrace_fits_the_default_stack_of_release_builds() {
    if is_child() {
        let error = small(1).block_on(|| spawn(|| panic!("with backtrace")).join()).unwrap_err();
        assert_eq!(error.message(), Some("with backtrace"));
        return;
    }
    let output = run_child("a_panic_with_backtrace_fits_the_default_stack_of_release_builds");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    assert!(message.contains("with backtrace") && message.contains("stack backtrace"), "{message}");
}
