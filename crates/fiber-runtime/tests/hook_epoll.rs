//! Event loops that know nothing of fibers: `epoll_wait` and its kin park the fiber that calls them.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::beside::beside_a_ticker;
use common::{in_millis, on_fibers, wait_for};
use fiber_runtime::{hook, no_yield, spawn, spawn_local, time, with_deadline, yield_now};
use libc::{c_int, epoll_event};

/// An epoll instance, by libc's functions.
struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> Self {
        // SAFETY: the descriptor returned is new, and owned by nobody else.
        Self(unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) })
    }

    fn add(&self, fd: &impl AsRawFd, events: c_int) {
        let number = fd.as_raw_fd();
        let mut event = epoll_event { events: events.cast_unsigned(), u64: number as u64 };
        // SAFETY: the event lives through the call.
        let added =
            unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, number, &raw mut event) };
        assert_eq!(added, 0, "{}", std::io::Error::last_os_error());
    }

    /// The descriptors that have events, at most `MOST`.
    fn wait<const MOST: usize>(&self, timeout_ms: c_int) -> Result<Vec<RawFd>, c_int> {
        let mut events = [const { epoll_event { events: 0, u64: 0 } }; MOST];
        // SAFETY: there is room for as many events as are asked for.
        let count =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), MOST as c_int, timeout_ms) };
        match usize::try_from(count) {
            Ok(count) => Ok(events[..count].iter().map(|event| event.u64 as RawFd).collect()),
            Err(_) => Err(errno()),
        }
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

#[test]
fn polls_of_mio_in_several_fibers_are_woken_by_threads() {
    const LOOPS: usize = 8;
    const ROUNDS: usize = 50;

    on_fibers(1, || {
        let wakers: Vec<_> = (0..LOOPS)
            .map(|_| {
                let mut poll = mio::Poll::new().unwrap();
                let waker = mio::Waker::new(poll.registry(), mio::Token(7)).unwrap();
                let woken = Arc::new(AtomicUsize::new(0));
                let fiber = spawn_local({
                    let woken = woken.clone();
                    move || {
                        let mut events = mio::Events::with_capacity(4);
                        while woken.load(Ordering::SeqCst) < ROUNDS {
                            poll.poll(&mut events, None).unwrap();
                            let count = events.iter().filter(|event| event.token() == mio::Token(7)).count();
                            woken.fetch_add(count, Ordering::SeqCst);
                        }
                    }
                });
                (waker, woken, fiber)
            })
            .collect();
        let (fibers, wakers): (Vec<_>, Vec<_>) =
            wakers.into_iter().map(|(waker, woken, fiber)| (fiber, (waker, woken))).unzip();
        let threads = std::thread::spawn(move || {
            for round in 0..ROUNDS {
                for (waker, woken) in &wakers {
                    waker.wake().unwrap();
                    // A waker that has not been heard yet counts once.
                    let patience = Instant::now() + common::PATIENCE;
                    while woken.load(Ordering::SeqCst) <= round {
                        assert!(Instant::now() < patience, "a wake is lost");
                        std::thread::yield_now();
                    }
                }
            }
        });
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        fiber_runtime::offload(|| threads.join().unwrap());
    });
}

#[test]
fn an_instance_gives_each_edge_to_one_of_the_fibers_that_wait_for_it() {
    const SOURCES: usize = 40;

    on_fibers(1, || {
        let epoll = Arc::new(Epoll::new());
        let pairs: Vec<_> = (0..SOURCES).map(|_| UnixStream::pair().unwrap()).collect();
        for (one, _) in &pairs {
            epoll.add(one, libc::EPOLLIN | libc::EPOLLET);
        }
        let taken = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let (epoll, taken) = (epoll.clone(), taken.clone());
                spawn_local(move || {
                    let mut mine = Vec::new();
                    while taken.load(Ordering::Relaxed) < SOURCES {
                        let new = epoll.wait::<2>(200).unwrap();
                        taken.fetch_add(new.len(), Ordering::Relaxed);
                        mine.extend(new);
                    }
                    mine
                })
            })
            .collect();
        yield_now();
        for (at, (_, other)) in pairs.iter().enumerate() {
            { other }.write_all(b"x").unwrap();
            if at % 7 == 0 {
                time::sleep(Duration::from_millis(1));
            }
        }
        let mut all: Vec<_> = waiters.into_iter().flat_map(|waiter| waiter.join().unwrap()).collect();
        all.sort_unstable();
        let mut expected: Vec<_> = pairs.iter().map(|(one, _)| one.as_raw_fd()).collect();
        expected.sort_unstable();
        assert_eq!(all, expected);
    });
}

#[test]
fn fibers_of_several_workers_may_wait_for_one_instance() {
    const WAKES: usize = 200;

    on_fibers(2, || {
        let epoll = Arc::new(Epoll::new());
        let (one, mut other) = UnixStream::pair().unwrap();
        epoll.add(&one, libc::EPOLLIN | libc::EPOLLET);
        let seen = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let waiters: Vec<_> = (0..2)
            .map(|worker| {
                let (epoll, seen, over) = (epoll.clone(), seen.clone(), over.clone());
                fiber_runtime::spawn_on(worker, move || {
                    while !over.load(Ordering::Relaxed) {
                        seen.fetch_add(epoll.wait::<1>(20).unwrap().len(), Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for wake in 0..WAKES {
            other.write_all(b"x").unwrap();
            wait_for("the edge", || seen.load(Ordering::SeqCst) > wake);
        }
        over.store(true, Ordering::Relaxed);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(seen.load(Ordering::SeqCst), WAKES);
    });
}

#[test]
fn an_instance_that_is_ready_is_not_waited_for_and_gives_as_many_events_as_are_asked_for() {
    fn check() {
        let epoll = Epoll::new();
        let pairs: Vec<_> = (0..5).map(|_| UnixStream::pair().unwrap()).collect();
        for (one, other) in &pairs {
            epoll.add(one, libc::EPOLLIN);
            { other }.write_all(b"x").unwrap();
        }
        let began = Instant::now();
        let mut seen: Vec<_> = (0..3).flat_map(|_| epoll.wait::<2>(-1).unwrap()).collect();
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(seen.len(), 6, "level-triggered, in turn");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 5);
        for (one, _) in &pairs {
            { one }.read_exact(&mut [0]).unwrap();
        }
        assert_eq!(epoll.wait::<2>(0), Ok(vec![]));
        assert_eq!(epoll.wait::<2>(1), Ok(vec![]));
    }
    check();
    on_fibers(1, check);
}

#[test]
fn errors_are_the_kernels_and_success_leaves_errno_alone() {
    fn check() {
        let epoll = Epoll::new();
        let (one, mut other) = UnixStream::pair().unwrap();
        epoll.add(&one, libc::EPOLLIN);
        let mut event = epoll_event { events: 0, u64: 0 };
        let wait = |fd: RawFd, most: c_int, timeout_ms: c_int| {
            let event = &raw const event;
            // SAFETY: there is room for one event, or none is asked for.
            let count = unsafe { libc::epoll_wait(fd, event.cast_mut(), most, timeout_ms) };
            if count < 0 { -errno() } else { count }
        };
        for timeout_ms in [0, 10, -1] {
            assert_eq!(wait(epoll.as_raw_fd(), 0, timeout_ms), -libc::EINVAL);
            assert_eq!(wait(epoll.as_raw_fd(), -1, timeout_ms), -libc::EINVAL);
            assert_eq!(wait(one.as_raw_fd(), 1, timeout_ms), -libc::EINVAL, "not an epoll instance");
            assert_eq!(wait(999_999, 1, timeout_ms), -libc::EBADF);
        }
        // SAFETY: as errno allows.
        unsafe { *libc::__errno_location() = libc::ENOTTY };
        assert_eq!(wait(epoll.as_raw_fd(), 1, 5), 0);
        other.write_all(b"x").unwrap();
        assert_eq!(wait(epoll.as_raw_fd(), 1, 5), 1);
        assert_eq!(errno(), libc::ENOTTY);
        // SAFETY: the event is written by the kernel; a time that is none is refused.
        unsafe {
            let never = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
            let event = &raw mut event;
            assert_eq!(
                libc::epoll_pwait2(epoll.as_raw_fd(), event, 1, &raw const never, std::ptr::null()),
                -1
            );
            assert_eq!(errno(), libc::EINVAL);
        }
    }
    check();
    on_fibers(1, check);
}

#[test]
fn time_passes_for_others_and_the_wait_is_as_long_as_was_asked() {
    on_fibers(1, || {
        let epoll = Epoll::new();
        let began = Instant::now();
        let (events, ticks) = beside_a_ticker(|| epoll.wait::<1>(30));
        assert_eq!(events, Ok(vec![]));
        assert!(began.elapsed() >= Duration::from_millis(30), "{:?}", began.elapsed());
        assert!(ticks >= 5, "the worker was blocked: {ticks}");
        // Less than a millisecond.
        let short = libc::timespec { tv_sec: 0, tv_nsec: 300_000 };
        let mut event = epoll_event { events: 0, u64: 0 };
        let mut fastest = Duration::MAX;
        for _ in 0..10 {
            let began = Instant::now();
            // SAFETY: there is room for one event.
            let count = unsafe {
                let (event, short) = (&raw mut event, &raw const short);
                libc::epoll_pwait2(epoll.as_raw_fd(), event, 1, short, std::ptr::null())
            };
            assert_eq!(count, 0);
            assert!(began.elapsed() >= Duration::from_micros(300), "{:?}", began.elapsed());
            fastest = fastest.min(began.elapsed());
        }
        assert!(fastest < Duration::from_millis(20), "{fastest:?}");
    });
}

#[test]
fn an_event_during_the_wait_ends_it() {
    on_fibers(1, || {
        let epoll = Epoll::new();
        let (one, mut other) = UnixStream::pair().unwrap();
        let added_late = UnixStream::pair().unwrap();
        epoll.add(&one, libc::EPOLLIN | libc::EPOLLET);
        let epoll = Arc::new(epoll);
        for _ in 0..3 {
            let waiter = spawn_local({
                let epoll = epoll.clone();
                move || epoll.wait::<4>(-1)
            });
            time::sleep(Duration::from_millis(2));
            other.write_all(b"x").unwrap();
            assert_eq!(waiter.join().unwrap(), Ok(vec![one.as_raw_fd()]));
        }
        // What is added while a fiber waits counts as well.
        let waiter = spawn_local({
            let epoll = epoll.clone();
            move || epoll.wait::<4>(-1)
        });
        time::sleep(Duration::from_millis(2));
        epoll.add(&added_late.0, libc::EPOLLOUT);
        assert_eq!(waiter.join().unwrap(), Ok(vec![added_late.0.as_raw_fd()]));
    });
}

#[test]
fn instances_within_instances_are_waited_for_however_deep() {
    on_fibers(1, || {
        let (one, mut other) = UnixStream::pair().unwrap();
        // The kernel allows five, so the worker's own would be the sixth.
        let mut nested = vec![Epoll::new()];
        nested[0].add(&one, libc::EPOLLIN);
        for depth in 1..5 {
            let outer = Epoll::new();
            outer.add(&nested[depth - 1], libc::EPOLLIN);
            nested.push(outer);
        }
        for epoll in &nested {
            assert_eq!(epoll.wait::<1>(3), Ok(vec![]));
        }
        let (nested, ticks) = beside_a_ticker(|| {
            let waiter = spawn_local(move || {
                let outcome: Vec<_> = nested.iter().rev().map(|epoll| epoll.wait::<1>(-1)).collect();
                (outcome, nested)
            });
            time::sleep(Duration::from_millis(5));
            other.write_all(b"x").unwrap();
            waiter.join().unwrap()
        });
        assert!(nested.0.iter().all(|events| events.as_ref().is_ok_and(|events| events.len() == 1)));
        assert!(ticks > 1, "{ticks}");
    });
}

#[test]
fn closing_cancelling_and_deadlines_end_the_wait() {
    on_fibers(1, || {
        let epoll = Epoll::new();
        let number = epoll.as_raw_fd();
        let wait = move || {
            let mut event = epoll_event { events: 0, u64: 0 };
            // SAFETY: there is room for one event.
            let count = unsafe { libc::epoll_wait(number, &raw mut event, 1, -1) };
            if count < 0 { -errno() } else { count }
        };
        let cancelled = spawn_local(wait);
        yield_now();
        cancelled.cancel();
        assert_eq!(cancelled.join().unwrap(), -libc::ECANCELED);
        assert_eq!(with_deadline(in_millis(5), wait).ok(), Some(0));
        let closed = spawn_local(wait);
        yield_now();
        drop(epoll);
        assert_eq!(closed.join().unwrap(), -libc::ECANCELED);
    });
}

#[test]
fn a_held_fiber_blocks_its_worker_in_it() {
    on_fibers(1, || {
        let epoll = Epoll::new();
        let (one, mut other) = UnixStream::pair().unwrap();
        epoll.add(&one, libc::EPOLLIN);
        let ((), ticks) = beside_a_ticker(|| {
            no_yield(|| {
                assert_eq!(epoll.wait::<1>(5), Ok(vec![]));
                let writer = std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(5));
                    other.write_all(b"x").unwrap();
                    other
                });
                assert_eq!(epoll.wait::<1>(-1), Ok(vec![one.as_raw_fd()]));
                drop(writer);
            });
        });
        assert!(ticks <= 2, "another fiber ran: {ticks}");
    });
}

static SIGNALLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_: c_int) {
    SIGNALLED.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn a_mask_that_lets_a_signal_in_is_honoured_and_one_that_does_not_parks() {
    on_fibers(1, || {
        // SAFETY: sets of the test's own, a handler that adds to a counter, and this thread.
        let (blocked, before, thread) = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count_signal as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()), 0);
            let (mut blocked, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
            libc::sigaddset(&raw mut blocked, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before);
            (blocked, before, libc::pthread_self())
        };
        let epoll = Epoll::new();
        let wait = |mask: &libc::sigset_t, timeout_ms: c_int| {
            let mut event = epoll_event { events: 0, u64: 0 };
            // SAFETY: there is room for one event, and the mask lives through the call.
            let count = unsafe {
                libc::epoll_pwait(epoll.as_raw_fd(), &raw mut event, 1, timeout_ms, std::ptr::from_ref(mask))
            };
            if count < 0 { -errno() } else { count }
        };
        // SAFETY: the thread outlives the call.
        assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR2) }, 0);
        let (outcome, ticks) = beside_a_ticker(|| wait(&blocked, 20));
        assert_eq!((outcome, SIGNALLED.load(Ordering::SeqCst)), (0, 0), "it is blocked during the wait");
        assert!(ticks >= 5, "the worker was blocked: {ticks}");
        let outcome = wait(&before, 10_000);
        assert_eq!((outcome, SIGNALLED.load(Ordering::SeqCst)), (-libc::EINTR, 1));
        // SAFETY: the set was filled in above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    });
}

#[test]
fn an_event_loop_that_never_runs_dry_lets_others_run() {
    on_fibers(1, || {
        let epoll = Epoll::new();
        let (one, mut other) = UnixStream::pair().unwrap();
        epoll.add(&one, libc::EPOLLIN);
        other.write_all(b"x").unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let fiber = spawn({
            let done = done.clone();
            move || done.store(true, Ordering::Relaxed)
        });
        let mut turns = 0;
        while !done.load(Ordering::Relaxed) {
            assert_eq!(epoll.wait::<1>(-1), Ok(vec![one.as_raw_fd()]));
            turns += 1;
            assert!(turns < 10_000, "no other fiber runs");
        }
        fiber.join().unwrap();
    });
}

#[test]
fn a_stripped_program_is_told_that_thread_locals_of_event_loops_are_shared() {
    const CHILD: &str = "FIBER_RUNTIME_STRIPPED_CHILD";

    if std::env::var_os(CHILD).is_some() {
        let said = Arc::new(std::sync::Mutex::new(Vec::new()));
        let writer = said.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || Said(writer.clone())).finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        assert_eq!(hook::private_thread_locals().err(), Some(hook::ThreadLocalsError::Stripped));
        on_fibers(1, || assert_eq!(Epoll::new().wait::<1>(2), Ok(vec![])));
        let text = || String::from_utf8(said.lock().unwrap().clone()).unwrap();
        wait_for("the warning", || text().contains("stripped of its symbols"));
        assert_eq!(text().matches("an event loop waits in a fiber").count(), 1);
        return;
    }
    let program = std::env::current_exe().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let stripped = directory.path().join("stripped");
    let strip = std::process::Command::new("strip").arg("-o").arg(&stripped).arg(&program).status();
    if !strip.is_ok_and(|status| status.success()) {
        println!("skipped: there is no strip that works");
        return;
    }
    let name = "a_stripped_program_is_told_that_thread_locals_of_event_loops_are_shared";
    let child =
        std::process::Command::new(&stripped).args(["--exact", name]).env(CHILD, "1").output().unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

/// What a subscriber writes.
struct Said(Arc<std::sync::Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
