//! Signals as events: in fibers and threads, for several listeners, and what is in force afterwards.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::collections::BTreeSet;
use std::io::ErrorKind;

use common::{in_millis, on_fibers, wait_for};
use fiber_runtime::process::Command;
use fiber_runtime::signal::{Signal, Signals};
use fiber_runtime::{spawn, yield_now};

// Each test has signals of its own: they are the process's, and the tests run at the same time.

#[test]
fn a_fiber_waits_for_a_signal_while_others_run() {
    on_fibers(1, || {
        let waiter = spawn(|| {
            let signals = Signals::new([Signal::HANGUP]).unwrap();
            signals.wait().unwrap()
        });
        yield_now();
        yield_now();
        assert!(!waiter.is_finished());
        Signal::HANGUP.raise().unwrap();
        assert_eq!(waiter.join().unwrap(), Signal::HANGUP);
    });
}

#[test]
fn every_listener_hears_of_it_in_fibers_and_in_threads() {
    on_fibers(2, || {
        let listeners: Vec<_> = (0..4).map(|_| Signals::new([Signal::USER1]).unwrap()).collect();
        let thread = Signals::new([Signal::USER1]).unwrap();
        let fibers: Vec<_> =
            listeners.into_iter().map(|signals| spawn(move || signals.wait().unwrap())).collect();
        let thread = std::thread::spawn(move || thread.wait().unwrap());
        Signal::USER1.raise().unwrap();
        for fiber in fibers {
            assert_eq!(fiber.join().unwrap(), Signal::USER1);
        }
        wait_for("the thread", || thread.is_finished());
        assert_eq!(thread.join().unwrap(), Signal::USER1);
    });
}

#[test]
fn signals_before_the_wait_are_kept_and_doubles_are_one() {
    on_fibers(1, || {
        let signals = Signals::new([Signal::USER2, Signal::WINDOW, Signal::USER2]).unwrap();
        assert_eq!(signals.try_wait(), None);
        for signal in [Signal::WINDOW, Signal::USER2, Signal::USER2] {
            signal.raise().unwrap();
        }
        let mut came = BTreeSet::new();
        while came.len() < 2 {
            assert!(came.insert(signals.wait_until(Some(in_millis(30_000))).unwrap()), "{came:?}");
        }
        assert_eq!(came, BTreeSet::from([Signal::USER2, Signal::WINDOW]));
        assert_eq!(signals.wait_until(Some(in_millis(5))).unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_listener_hears_its_own_signals_only_and_after_its_predecessor_starts_anew() {
    let alarm = Signals::new([Signal::ALARM]).unwrap();
    let other = Signals::new([Signal::CHILD]).unwrap();
    Signal::ALARM.raise().unwrap();
    assert_eq!(alarm.wait_until(Some(in_millis(30_000))).unwrap(), Signal::ALARM);
    assert_ne!(other.try_wait(), Some(Signal::ALARM));
    Signal::ALARM.raise().unwrap();
    drop(alarm);
    // The post may be used again; what came for the listener before it does not count.
    let again = Signals::new([Signal::ALARM]).unwrap();
    assert_eq!(again.try_wait(), None);
}

#[test]
fn what_was_in_force_comes_back_with_the_last_listener() {
    /// The signals with a handler of the process's, as the kernel lists them.
    fn caught(signal: Signal) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
        mask & 1 << (signal.as_raw() - 1) != 0
    }
    let signal = Signal::from_raw(libc_sigio()).unwrap();
    assert!(!caught(signal));
    let one = Signals::new([signal]).unwrap();
    let other = Signals::new([signal]).unwrap();
    assert!(caught(signal));
    drop(one);
    assert!(caught(signal));
    drop(other);
    assert!(!caught(signal));
}

/// `SIGIO`, which nothing else here uses.
fn libc_sigio() -> i32 {
    29
}

#[test]
fn impossible_signals_are_refused() {
    for number in [0, -1, 65, 1000] {
        assert_eq!(Signal::from_raw(number).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    // SIGKILL, SIGSTOP, SIGSEGV, and one that the C library keeps for itself.
    for number in [9, 19, 11, 32] {
        let refused = Signals::new([Signal::from_raw(number).unwrap()]);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput, "signal {number}");
    }
}

#[test]
fn a_child_process_does_not_inherit_the_handler() {
    on_fibers(1, || {
        let _signals = Signals::new([Signal::QUIT]).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        child.signal(Signal::QUIT).unwrap();
        let status = child.wait_until(Some(in_millis(30_000))).unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::QUIT.as_raw()));
    });
}
