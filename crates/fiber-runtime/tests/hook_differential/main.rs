//! The same random calls with and without the hooks: every return value, `errno` and byte must be the same.
//!
//! A seed makes a pair of descriptors (sockets of each kind, pipes, a counter, a file) and a list of calls on them. They
//! are made three times, each time on new descriptors: on threads by system call, on threads through the symbols, and
//! in fibers of one worker through the symbols. One actor makes the calls and may block; the director, who never does,
//! watches it, and completes what blocks: sends when the actor receives, receives when it sends. Whatever has a time
//! limit of its own is left to it. So no result depends on timing, and what the kernel does for threads is the measure.
//!
//! What a seed has found is a test of its own below. `HOOK_SEEDS=from..to` runs others.
//!
//! Left out, because it is known to differ: what is no number (fewer or more than eight bytes, zero, the greatest one)
//! written to a counter that is full is refused by the kernel at once, and by the hook when there is room.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod actors;
mod calls;
#[path = "../common/mod.rs"]
mod common;

use std::fmt::Write as _;

use actors::{Director, FiberActor, ThreadActor};
use calls::{Call, Door, Family, Step, generate};
use common::on_fibers;

#[test]
fn random_calls_have_the_same_results_with_and_without_hooks() {
    let seeds = std::env::var("HOOK_SEEDS").ok().and_then(|range| {
        let (from, to) = range.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    for seed in seeds.unwrap_or(0..120) {
        check(seed);
    }
}

#[test]
fn poll_of_a_file_for_what_never_comes_waits_for_its_time() {
    check_calls(Family::File, [(0, Call::Poll(libc::POLLRDHUP, 2))]);
}

#[test]
fn a_vectored_message_with_waitall_is_complete() {
    for family in [Family::UnixStream, Family::Tcp] {
        check_calls(family, [(1, Call::RecvMsg(vec![45, 4096, 5], libc::MSG_WAITALL))]);
    }
}

#[test]
fn only_tcp_waits_for_all_in_order_to_look_at_it() {
    for family in [Family::UnixStream, Family::Tcp] {
        let flags = libc::MSG_WAITALL | libc::MSG_PEEK;
        check_calls(family, [(1, Call::Recv(500, flags)), (1, Call::RecvMsg(vec![90, 900], flags))]);
    }
}

#[test]
fn nothing_in_several_buffers_is_not_a_datagram() {
    let calls = [(0, Call::Writev(vec![0, 0])), (0, Call::Write(0)), (0, Call::Write(5))];
    check_calls(Family::UnixDatagram, calls.into_iter().chain([(1, Call::Read(9)), (1, Call::Read(9))]));
}

#[test]
fn a_number_that_a_counter_has_no_room_for_waits() {
    check_calls(Family::Counter, [(0, Call::Add(3)), (1, Call::Add(u64::MAX - 1))]);
}

#[test]
fn a_datagram_socket_that_was_shut_down_gives_nothing_and_does_not_wait() {
    for family in [Family::UnixDatagram, Family::UnixPacket, Family::Udp] {
        let calls = [
            Call::Shutdown(libc::SHUT_RD),
            Call::Recv(5, 0),
            Call::Read(5),
            Call::Readv(vec![5, 5]),
            Call::NonBlocking(true, false),
            Call::Recv(5, 0),
        ];
        check_calls(family, calls.map(|call| (0, call)));
    }
}

/// Makes these calls in all ways and compares.
#[track_caller]
fn check_calls(family: Family, calls: impl IntoIterator<Item = (usize, Call)>) {
    let steps = calls.into_iter().map(|(side, call)| {
        let limited = call.receives().is_none();
        Step { side, open: true, call, limited, large: false }
    });
    check_steps(0, family, steps.collect());
}

/// Runs a seed's calls in all ways and compares.
#[track_caller]
fn check(seed: u64) {
    let (family, steps) = generate(seed);
    check_steps(seed, family, steps);
}

#[track_caller]
fn check_steps(seed: u64, family: Family, steps: Vec<Step>) {
    let expected = on_threads(seed, family, &steps, Door::SystemCall);
    let threads = on_threads(seed, family, &steps, Door::Symbol);
    compare(seed, family, &steps, "threads through the symbols", &expected, &threads);
    let (steps, fibers) = on_fibers(1, move || {
        let lines = Director::new(seed, family, Door::Symbol, FiberActor::start).run(&steps);
        (steps, lines)
    });
    compare(seed, family, &steps, "fibers", &expected, &fibers);
}

fn on_threads(seed: u64, family: Family, steps: &[Step], door: Door) -> Vec<String> {
    Director::new(seed, family, door, ThreadActor::start).run(steps)
}

#[track_caller]
fn compare(seed: u64, family: Family, steps: &[Step], who: &str, expected: &[String], found: &[String]) {
    let differs = expected.iter().zip(found).position(|(expected, found)| expected != found);
    let Some(at) = differs.or((expected.len() != found.len()).then_some(expected.len().min(found.len())))
    else {
        return;
    };
    let mut text = format!("seed {seed}, {family:?}: {who} differ at call {at}\n");
    for (number, step) in steps.iter().enumerate().take(at + 1) {
        let result = expected.get(number).map_or("-", String::as_str);
        let _ = writeln!(text, "{number:3} {step:?}\n      {result}");
    }
    let _ = writeln!(text, "      {} <- {who}", found.get(at).map_or("-", String::as_str));
    panic!("{text}");
}
