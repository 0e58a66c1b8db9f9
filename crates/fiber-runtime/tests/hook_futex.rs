//! The futex call by number: what the symbol promises to others than `std`.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{on_fibers, wait_for};
use fiber_runtime::{JoinHandle, spawn_local, spawn_on, time, yield_now};

const MILLI: Duration = Duration::from_millis(1);
const WAIT: i32 = libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG;
const WAKE: i32 = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;

fn wait(word: &AtomicU32, expected: u32, deadline: Option<&libc::timespec>) -> Result<i64, i32> {
    let deadline = deadline.map_or(std::ptr::null(), std::ptr::from_ref);
    let nobody = std::ptr::null::<u32>();
    // SAFETY: the word and the deadline live through the call.
    let result = unsafe { libc::syscall(libc::SYS_futex, word, WAIT, expected, deadline, nobody, !0_u32) };
    if result < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) } else { Ok(result) }
}

fn wake(word: &AtomicU32, count: i32) -> i64 {
    // SAFETY: a wake touches no memory.
    unsafe { libc::syscall(libc::SYS_futex, word, WAKE, count) }
}

#[test]
fn results_and_errors_are_the_kernels() {
    let check = || {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 2, None), Err(libc::EAGAIN));
        let mut time = libc::timespec { tv_sec: 1, tv_nsec: 0 };
        assert_eq!(wait(&word, 1, Some(&time)), Err(libc::ETIMEDOUT), "the time has long passed");
        time.tv_nsec = -1;
        assert_eq!(wait(&word, 1, Some(&time)), Err(libc::EINVAL));
        assert_eq!(wake(&word, 1), 0);
        // SAFETY: the arguments of a call that the kernel refuses, and of one that it does not.
        unsafe {
            let nobody = std::ptr::null::<u32>();
            let result = libc::syscall(libc::SYS_futex, nobody, WAIT, 0, nobody, nobody, !0_u32);
            let error = std::io::Error::last_os_error().raw_os_error();
            assert_eq!((result, error), (-1, Some(libc::EFAULT)));
            assert_eq!(libc::syscall(libc::SYS_getpid), i64::from(libc::getpid()));
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // Seven arguments: the last is on the stack on x86-64. An offset that is no multiple of a page is refused.
            let address = libc::syscall(libc::SYS_mmap, 0_usize, page, protection, flags, -1, 0_usize);
            assert!(address > 0, "{:?}", std::io::Error::last_os_error());
            assert_eq!(libc::syscall(libc::SYS_munmap, address, page), 0);
            let refused = libc::syscall(libc::SYS_mmap, 0_usize, page, protection, flags, -1, 1_usize);
            let error = std::io::Error::last_os_error().raw_os_error();
            assert_eq!((refused, error), (-1, Some(libc::EINVAL)));
        }
    };
    check();
    on_fibers(1, check);
}

#[test]
fn a_forked_child_spends_no_wake_on_its_parents_fibers() {
    on_fibers(1, || {
        let word = Arc::new(AtomicU32::new(0));
        let waiter = {
            let word = word.clone();
            spawn_local(move || wait(&word, 0, None))
        };
        yield_now();
        // SAFETY: the child makes a system call, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let woken = wake(&word, i32::MAX);
            // SAFETY: ends the child.
            unsafe { libc::_exit(if woken == 0 { 7 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: the child is the test's own.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 7));
        time::sleep(2 * MILLI);
        assert!(!waiter.is_finished());
        assert_eq!(wake(&word, 1), 1);
        assert_eq!(waiter.join().unwrap(), Ok(0));
    });
}

#[test]
fn a_wake_says_how_many_it_woke_fibers_and_threads_together() {
    let word = Arc::new(AtomicU32::new(0));
    let woken = Arc::new(AtomicUsize::new(0));
    let waiter = {
        let (word, woken) = (word.clone(), woken.clone());
        move || {
            wait(&word, 0, None).unwrap();
            woken.fetch_add(1, Ordering::Relaxed);
        }
    };
    let threads: Vec<_> = (0..3).map(|_| thread::spawn(waiter.clone())).collect();
    let counted = woken.clone();
    on_fibers(2, move || {
        let fibers: Vec<_> = (0..100).map(|at| spawn_on(at % 2, waiter.clone())).collect();
        let parked = || fiber_runtime::Handle::current().metrics().total().parked;
        wait_for("the fibers to wait", || parked() >= 100);
        thread::sleep(20 * MILLI);
        let mut sum = 0;
        for count in [0, 1, 5, 40] {
            let woke = wake(&word, count);
            assert_eq!(woke, i64::from(count.max(1)));
            sum += woke as usize;
            wait_for("those to run", || counted.load(Ordering::Relaxed) == sum);
            time::sleep(2 * MILLI);
            assert_eq!(counted.load(Ordering::Relaxed), sum, "and no others");
        }
        assert_eq!(wake(&word, i32::MAX) as usize, 103 - sum);
        join(fibers);
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(woken.load(Ordering::Relaxed), 103);
}

fn join<T>(fibers: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    fibers.into_iter().map(|fiber| fiber.join().unwrap()).collect()
}
