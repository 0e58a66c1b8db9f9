//! `poll`, `select` and their kin: what they say is what the kernel says, in a fiber as in a thread, and a fiber that waits
//! in one lets others run.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::beside::beside_a_ticker;
use common::{in_millis, on_fibers, tcp_pair};
use fiber_runtime::{spawn_local, with_deadline, yield_now};
use libc::{c_int, c_short, pollfd, timespec, timeval};

const MILLION: i64 = 1_000_000;

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// A result of libc's as one number: the value, or the negated `errno`.
fn outcome(value: c_int) -> c_int {
    if value < 0 { -errno() } else { value }
}

fn entry(fd: &impl AsRawFd, events: c_short) -> pollfd {
    pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
}

fn poll(fds: &mut [pollfd], timeout_ms: c_int) -> c_int {
    // SAFETY: the slice is valid for its length.
    outcome(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) })
}

fn ppoll(fds: &mut [pollfd], timeout: &timespec) -> c_int {
    // SAFETY: the slice is valid for its length, and there is no mask.
    outcome(unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout, ptr::null()) })
}

/// More descriptors than an `fd_set` has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Set([u64; 32]);

impl Set {
    fn of<const N: usize>(fds: [&dyn AsRawFd; N]) -> Self {
        let mut set = Self([0; 32]);
        for fd in fds {
            let fd = fd.as_raw_fd() as usize;
            set.0[fd / 64] |= 1 << (fd % 64);
        }
        set
    }

    fn none() -> Self {
        Self::of([])
    }
}

/// Sets to read, to write and of exceptions, each to be left out if it is empty.
fn select(count: c_int, sets: &mut [Set; 3], timeout: Option<&mut timeval>) -> c_int {
    let [read, write, except] = sets.each_mut().map(|set| match *set == Set::none() {
        true => ptr::null_mut(),
        false => set.0.as_mut_ptr().cast(),
    });
    let timeout = timeout.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: the sets are longer than any descriptor of this test, the timeout lives through the call.
    outcome(unsafe { libc::select(count, read, write, except, timeout) })
}

fn pselect(count: c_int, sets: &mut [Set; 3], timeout: &timespec) -> c_int {
    let [read, write, except] = sets.each_mut().map(|set| set.0.as_mut_ptr().cast());
    // SAFETY: as in `select`, and there is no mask.
    outcome(unsafe { libc::pselect(count, read, write, except, timeout, ptr::null()) })
}

fn millis(millis: i64) -> timeval {
    timeval { tv_sec: 0, tv_usec: millis * 1_000 }
}

/// Does something a little later, from a thread.
fn soon(act: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(8));
        act();
    });
}

/// In a thread, and in a fiber.
fn everywhere(check: fn()) {
    check();
    on_fibers(1, check);
}

#[test]
fn select_says_which_descriptors_are_ready_and_leaves_out_the_others() {
    everywhere(|| {
        let (one, mut other) = UnixStream::pair().unwrap();
        let (third, fourth) = UnixStream::pair().unwrap();
        let mut sets = [Set::of([&one, &third]), Set::of([&other, &fourth]), Set::of([&one])];
        other.write_all(b"x").unwrap();
        assert_eq!(select(1024, &mut sets, None), 3);
        assert_eq!(sets, [Set::of([&one]), Set::of([&other, &fourth]), Set::none()]);
        // It becomes so during the wait.
        let mut sets = [Set::of([&third]), Set::none(), Set::of([&third])];
        let fourth = Arc::new(fourth);
        soon({
            let fourth = fourth.clone();
            move || (&*fourth).write_all(b"x").unwrap()
        });
        assert_eq!(select(third.as_raw_fd() + 1, &mut sets, None), 1);
        assert_eq!(sets, [Set::of([&third]), Set::none(), Set::none()]);
        // What is not below the count is not looked at.
        let mut sets = [Set::of([&third]), Set::none(), Set::none()];
        assert_eq!(select(third.as_raw_fd(), &mut sets, Some(&mut millis(5))), 0);
    });
}

#[test]
fn select_writes_back_the_time_that_is_left_and_pselect_does_not() {
    everywhere(|| {
        let (one, other) = UnixStream::pair().unwrap();
        let wanted = || [Set::of([&one]), Set::none(), Set::none()];
        let mut timeout = millis(20);
        let began = Instant::now();
        let mut sets = wanted();
        assert_eq!(select(1024, &mut sets, Some(&mut timeout)), 0);
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert_eq!((timeout.tv_sec, timeout.tv_usec, sets[0]), (0, 0, Set::none()));
        // More microseconds than a second has, and an event after a few milliseconds.
        let mut timeout = timeval { tv_sec: 18, tv_usec: 2 * MILLION };
        let sender = other.try_clone().unwrap();
        soon(move || { &sender }.write_all(b"x").unwrap());
        assert_eq!(select(1024, &mut wanted(), Some(&mut timeout)), 1);
        let left = timeout.tv_sec * MILLION + timeout.tv_usec;
        assert!((10 * MILLION..20 * MILLION - 5_000).contains(&left), "{left}");
        let mut timeout = millis(0);
        { &one }.read_exact(&mut [0]).unwrap();
        assert_eq!(select(1024, &mut wanted(), Some(&mut timeout)), 0);
        let timeout = timespec { tv_sec: 0, tv_nsec: 3 * MILLION };
        assert_eq!(pselect(1024, &mut wanted(), &timeout), 0);
        assert_eq!(timeout.tv_nsec, 3 * MILLION);
    });
}

#[test]
fn errors_of_select_are_the_kernels_and_leave_the_sets_alone() {
    everywhere(|| {
        let (one, other) = UnixStream::pair().unwrap();
        for number in [950, 1500] {
            raise_limit();
            let closed = duplicate_from(&other, number);
            let wanted = [Set::of([&one, &closed]), Set::none(), Set::none()];
            let mut sets = wanted;
            assert_eq!(select(number + 9, &mut sets, Some(&mut millis(1))), 0, "all are open");
            drop(closed);
            let mut timeout = millis(900);
            sets = wanted;
            assert_eq!(select(number + 9, &mut sets, Some(&mut timeout)), -libc::EBADF);
            assert_eq!(sets, wanted);
            assert!(timeout.tv_usec > 100_000, "{}", timeout.tv_usec);
        }
        let none = || [Set::of([&one]), Set::none(), Set::none()];
        assert_eq!(select(-1, &mut none(), Some(&mut millis(10))), -libc::EINVAL);
        for negative in [timeval { tv_sec: -1, tv_usec: 0 }, timeval { tv_sec: 0, tv_usec: -1 }] {
            assert_eq!(select(9, &mut none(), Some(&mut { negative })), -libc::EINVAL);
        }
        assert_eq!(pselect(9, &mut none(), &timespec { tv_sec: 0, tv_nsec: 1_000 * MILLION }), -libc::EINVAL);
    });
}

fn duplicate_from(fd: &impl AsRawFd, least: RawFd) -> OwnedFd {
    // SAFETY: the number that fcntl returns is new, and owned by nobody else.
    unsafe { OwnedFd::from_raw_fd(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least)) }
}

/// Allows for descriptors from 1024.
fn raise_limit() {
    // SAFETY: the limit is written and read here.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_cur.max(2048).min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

#[test]
fn select_takes_more_descriptors_than_an_fd_set_has() {
    everywhere(|| {
        raise_limit();
        let (one, other) = UnixStream::pair().unwrap();
        let high = duplicate_from(&one, 1600);
        let sender = other.try_clone().unwrap();
        soon(move || { &sender }.write_all(b"x").unwrap());
        let mut sets = [Set::of([&high]), Set::none(), Set::none()];
        assert_eq!(select(high.as_raw_fd() + 1, &mut sets, None), 1);
        assert_eq!(sets[0], Set::of([&high]));
    });
}

#[test]
fn select_looks_at_no_more_than_the_kernel_however_large_the_count() {
    everywhere(|| {
        const PAGE: usize = 4096;
        // SAFETY: two pages of the test's own, of which the second may not be touched; the set ends at its beginning, and is
        // longer than the table of this process, whose descriptors stay below 2048.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let pages = libc::mmap(ptr::null_mut(), 2 * PAGE, protection, flags, -1, 0);
            assert_eq!(libc::mprotect(pages.byte_add(PAGE), PAGE, libc::PROT_NONE), 0);
            let (one, other) = UnixStream::pair().unwrap();
            let set = pages.byte_add(PAGE - 256).cast::<[u64; 32]>();
            (*set)[one.as_raw_fd() as usize / 64] = 1 << (one.as_raw_fd() % 64);
            soon(move || { &other }.write_all(b"x").unwrap());
            let ready = libc::select(1 << 20, set.cast(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
            assert_eq!(ready, 1);
            assert_eq!((*set)[one.as_raw_fd() as usize / 64], 1 << (one.as_raw_fd() % 64));
            assert_eq!(libc::munmap(pages, 2 * PAGE), 0);
        }
    });
}

#[test]
fn urgent_data_is_an_exception_and_hang_ups_are_always_told() {
    everywhere(|| {
        let (client, server) = tcp_pair();
        let (third, fourth) = UnixStream::pair().unwrap();
        let sender = client.try_clone().unwrap();
        soon(move || {
            // SAFETY: the byte lives through the call.
            let sent = unsafe { libc::send(sender.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
            assert_eq!(sent, 1);
        });
        let mut sets = [Set::of([&third]), Set::none(), Set::of([&server, &third])];
        assert_eq!(select(1024, &mut sets, None), 1);
        assert_eq!(sets, [Set::none(), Set::none(), Set::of([&server])]);
        let mut fds = [entry(&server, libc::POLLPRI), entry(&third, 0)];
        assert_eq!((poll(&mut fds, -1), fds[0].revents, fds[1].revents), (1, libc::POLLPRI, 0));
        // SAFETY: there is room for the byte.
        let got = unsafe { libc::recv(server.as_raw_fd(), [0u8].as_mut_ptr().cast(), 1, libc::MSG_OOB) };
        assert_eq!(got, 1);
        soon(move || drop(fourth));
        let mut fds = [entry(&server, libc::POLLPRI), entry(&third, 0)];
        assert_eq!((poll(&mut fds, -1), fds[0].revents, fds[1].revents), (1, 0, libc::POLLHUP));
        let mut fds = [entry(&client, libc::POLLRDHUP), entry(&server, libc::POLLIN | libc::POLLPRI)];
        let ending = server.try_clone().unwrap();
        soon(move || ending.shutdown(std::net::Shutdown::Write).unwrap());
        assert_eq!((poll(&mut fds, -1), fds[0].revents, fds[1].revents), (1, libc::POLLRDHUP, 0));
    });
}

#[test]
fn poll_takes_descriptors_twice_negative_ones_closed_ones_and_files() {
    everywhere(|| {
        let (one, mut other) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let mut ignored = entry(&one, libc::POLLIN);
        ignored.fd = -1;
        let mut fds = [
            entry(&one, libc::POLLIN),
            ignored,
            entry(&one, libc::POLLRDHUP),
            // Never: a regular file has no urgent data, and cannot be watched.
            entry(&file, libc::POLLPRI),
        ];
        let began = Instant::now();
        assert_eq!(poll(&mut fds, 10), 0);
        assert_eq!(poll(&mut fds[3..], 10), 0);
        assert!(began.elapsed() >= Duration::from_millis(20));
        let mut sets = [Set::of([&one]), Set::none(), Set::of([&file])];
        assert_eq!(select(1024, &mut sets, Some(&mut millis(10))), 0);
        let mut sender = other.try_clone().unwrap();
        soon(move || sender.write_all(b"x").unwrap());
        assert_eq!(poll(&mut fds, -1), 1);
        assert_eq!(fds.map(|entry| entry.revents), [libc::POLLIN, 0, 0, 0]);
        let mut fds = [entry(&file, libc::POLLIN | libc::POLLOUT), entry(&other, libc::POLLIN)];
        assert_eq!(poll(&mut fds, -1), 1);
        assert_eq!(fds[0].revents, libc::POLLIN | libc::POLLOUT);
        let mut closed = entry(&one, libc::POLLIN);
        closed.fd = 999_999;
        assert_eq!(poll(&mut [entry(&other, libc::POLLIN), closed], -1), 1);
        other.write_all(b"x").unwrap();
        // SAFETY: as errno allows.
        unsafe { *libc::__errno_location() = libc::ENOTTY };
        assert_eq!(poll(&mut [entry(&one, libc::POLLIN)], -1), 1);
        assert_eq!(poll(&mut [entry(&other, libc::POLLIN)], 3), 0);
        assert_eq!(errno(), libc::ENOTTY);
    });
}

#[test]
fn a_fiber_that_polls_lets_others_run_and_takes_its_time() {
    on_fibers(1, || {
        let (one, other) = UnixStream::pair().unwrap();
        let (third, _fourth) = UnixStream::pair().unwrap();
        let both = || [entry(&one, libc::POLLIN), entry(&third, libc::POLLIN)];
        let sets = || [Set::of([&one, &third]), Set::none(), Set::none()];
        let twenty = timespec { tv_sec: 0, tv_nsec: 20 * MILLION };
        let waits: [&dyn Fn() -> c_int; 4] = [
            &|| poll(&mut both(), 20),
            &|| ppoll(&mut both(), &twenty),
            &|| select(1024, &mut sets(), Some(&mut millis(20))),
            &|| pselect(1024, &mut sets(), &twenty),
        ];
        for (number, wait) in waits.iter().enumerate() {
            let began = Instant::now();
            let (ready, ticks) = beside_a_ticker(wait);
            assert_eq!(ready, 0, "{number}");
            assert!(began.elapsed() >= Duration::from_millis(20), "{number}: {:?}", began.elapsed());
            assert!(ticks >= 5, "{number}: the worker was blocked: {ticks}");
        }
        // Less than a millisecond.
        let began = Instant::now();
        assert_eq!(ppoll(&mut both(), &timespec { tv_sec: 0, tv_nsec: 200_000 }), 0);
        assert!(began.elapsed() >= Duration::from_micros(200));
        assert_eq!(ppoll(&mut both(), &timespec { tv_sec: 0, tv_nsec: -1 }), -libc::EINVAL);
        drop(other);
    });
}

#[test]
fn a_poll_of_many_ends_by_any_of_them_and_disturbs_nobody() {
    const PAIRS: usize = 150;

    on_fibers(1, || {
        let pairs: Vec<_> = (0..PAIRS).map(|_| UnixStream::pair().unwrap()).collect();
        let mut fds: Vec<_> = pairs.iter().map(|(one, _)| entry(one, libc::POLLIN)).collect();
        for turn in [0, PAIRS / 2, PAIRS - 1] {
            let sender = pairs[turn].1.try_clone().unwrap();
            let write = spawn_local(move || { &sender }.write_all(b"x").unwrap());
            assert_eq!(poll(&mut fds, -1), 1);
            write.join().unwrap();
            assert_eq!(fds[turn].revents, libc::POLLIN);
            // Somebody else's wait for one of them, and a poll beside it.
            let reader = pairs[turn].0.try_clone().unwrap();
            { &reader }.read_exact(&mut [0]).unwrap();
            let waiting = spawn_local(move || { &reader }.read_exact(&mut [0]).unwrap());
            assert_eq!(poll(&mut fds, 3), 0);
            { &pairs[turn].1 }.write_all(b"y").unwrap();
            waiting.join().unwrap();
        }
    });
}

#[test]
fn closing_cancelling_and_deadlines_end_a_poll_of_several() {
    on_fibers(1, || {
        let (one, _other) = UnixStream::pair().unwrap();
        let (third, fourth) = UnixStream::pair().unwrap();
        let fds = [entry(&one, libc::POLLIN), entry(&third, libc::POLLIN)];
        let sets = [Set::of([&one, &third]), Set::none(), Set::none()];
        let cancelled = spawn_local(move || poll(&mut { fds }, -1));
        let cancelled_too = spawn_local(move || select(1024, &mut { sets }, None));
        yield_now();
        cancelled.cancel();
        cancelled_too.cancel();
        assert_eq!(cancelled.join().unwrap(), -libc::ECANCELED);
        assert_eq!(cancelled_too.join().unwrap(), -libc::ECANCELED);
        assert_eq!(with_deadline(in_millis(5), || poll(&mut { fds }, -1)).ok(), Some(0));
        let closed = spawn_local(move || poll(&mut { fds }, -1));
        let closed_too = spawn_local(move || select(1024, &mut { sets }, None));
        yield_now();
        drop(third);
        assert_eq!(closed.join().unwrap(), -libc::ECANCELED);
        assert_eq!(closed_too.join().unwrap(), -libc::ECANCELED);
        drop(fourth);
    });
}

#[test]
fn a_fiber_that_unwinds_polls_on_its_thread() {
    struct PollsWhenDropped(UnixStream, UnixStream, Arc<AtomicUsize>);

    impl Drop for PollsWhenDropped {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            let mut fds = [entry(&self.0, libc::POLLIN), entry(&self.1, libc::POLLIN)];
            let sender = self.0.try_clone().unwrap();
            assert_eq!(poll(&mut fds, 5), 0);
            soon(move || sender.shutdown(std::net::Shutdown::Both).unwrap());
            self.2.store(poll(&mut fds, -1) as usize, Ordering::Relaxed);
        }
    }

    on_fibers(1, || {
        let ready = Arc::new(AtomicUsize::new(0));
        let (one, other) = UnixStream::pair().unwrap();
        let polls = PollsWhenDropped(one, other, ready.clone());
        let fiber = spawn_local(move || {
            let _polls = polls;
            std::panic::resume_unwind(Box::new(()));
        });
        fiber.join().unwrap_err();
        assert_eq!(ready.load(Ordering::Relaxed), 2, "both ends say so");
    });
}

static SIGNALLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_: c_int) {
    SIGNALLED.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn a_mask_that_lets_a_signal_in_is_honoured() {
    on_fibers(1, || {
        let (one, _other) = UnixStream::pair().unwrap();
        // SAFETY: sets of the test's own, a handler that adds to a counter, and this thread.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count_signal as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const action, ptr::null_mut()), 0);
            let (mut blocked, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
            libc::sigaddset(&raw mut blocked, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before);
            let long = timespec { tv_sec: 10, tv_nsec: 0 };
            let short = timespec { tv_sec: 0, tv_nsec: 10 * MILLION };
            let ppoll = |timeout: &timespec, mask: &libc::sigset_t| {
                let mut fds = [entry(&one, libc::POLLIN)];
                outcome(libc::ppoll(fds.as_mut_ptr(), 1, timeout, mask))
            };
            let pselect = |timeout: &timespec, mask: &libc::sigset_t| {
                let mut set = Set::of([&one]);
                let set = set.0.as_mut_ptr().cast();
                outcome(libc::pselect(1024, set, ptr::null_mut(), ptr::null_mut(), timeout, mask))
            };
            for (round, wait) in
                [&ppoll as &dyn Fn(&timespec, &libc::sigset_t) -> c_int, &pselect].into_iter().enumerate()
            {
                libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2);
                let (ready, ticks) = beside_a_ticker(|| wait(&short, &blocked));
                assert_eq!((ready, SIGNALLED.load(Ordering::SeqCst)), (0, round));
                assert!(ticks >= 2, "the worker was blocked: {ticks}");
                assert_eq!(
                    (wait(&long, &before), SIGNALLED.load(Ordering::SeqCst)),
                    (-libc::EINTR, round + 1)
                );
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        }
    });
}

#[test]
fn a_signal_ends_no_wait_of_a_fiber() {
    static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn count(_: c_int) {
        INTERRUPTIONS.fetch_add(1, Ordering::SeqCst);
    }

    on_fibers(1, || {
        // Without SA_RESTART.
        // SAFETY: a handler that adds to a counter.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, ptr::null_mut()), 0);
        }
        let (one, mut other) = UnixStream::pair().unwrap();
        let (third, _fourth) = UnixStream::pair().unwrap();
        let fd = one.as_raw_fd();
        let one_of_two = [entry(&one, libc::POLLIN), entry(&third, libc::POLLIN)];
        let wanted = [Set::of([&one]), Set::none(), Set::none()];
        type Wait = Box<dyn FnOnce() -> c_int>;
        let waits: [Wait; 5] = [
            Box::new(move || poll(&mut { one_of_two }, -1)),
            Box::new(move || select(1024, &mut { wanted }, None)),
            Box::new(move || {
                let long = timespec { tv_sec: 0, tv_nsec: 40 * MILLION };
                // SAFETY: the time lives through the call, and what is left is not asked for.
                outcome(unsafe { libc::nanosleep(&raw const long, ptr::null_mut()) }) + 1
            }),
            Box::new(move || {
                // SAFETY: the descriptors are this closure's, and there is room for the event.
                unsafe {
                    let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
                    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
                    libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event);
                    outcome(libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, -1))
                }
            }),
            Box::new(move || {
                // SAFETY: there is room for the byte.
                outcome(unsafe { libc::recv(fd, [0u8].as_mut_ptr().cast(), 1, libc::MSG_PEEK) } as c_int)
            }),
        ];
        let waiters = waits.map(spawn_local);
        yield_now();
        // SAFETY: this thread outlives the fiber.
        let worker = unsafe { libc::pthread_self() };
        let signals = std::thread::spawn(move || {
            for sent in 1..=10 {
                // SAFETY: the worker is there until the test is over.
                assert_eq!(unsafe { libc::pthread_kill(worker, libc::SIGUSR1) }, 0);
                while INTERRUPTIONS.load(Ordering::SeqCst) < sent {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        common::wait_for("the signals", || signals.is_finished());
        signals.join().unwrap();
        for waiter in &waiters[..2] {
            assert!(!waiter.is_finished());
        }
        other.write_all(b"x").unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), 1);
        }
    });
}

unsafe extern "C" {
    fn __poll_chk(fds: *mut pollfd, count: libc::nfds_t, timeout_ms: c_int, size: usize) -> c_int;
    fn __ppoll_chk(
        fds: *mut pollfd,
        count: libc::nfds_t,
        timeout: *const timespec,
        signals: *const libc::sigset_t,
        size: usize,
    ) -> c_int;
}

#[test]
fn the_checked_forms_check_and_poll() {
    const CHILD: &str = "MOON_HOOK_READINESS_OVERFLOW";

    let checked = |room: usize| {
        let (one, other) = UnixStream::pair().unwrap();
        let mut fds = [entry(&one, libc::POLLIN), entry(&other, libc::POLLOUT)];
        let none = timespec { tv_sec: 0, tv_nsec: MILLION };
        // SAFETY: there is room for two, whatever is said.
        unsafe {
            assert_eq!(__poll_chk(fds.as_mut_ptr(), 2, -1, size_of_val(&fds)), 1);
            assert_eq!(__ppoll_chk(fds.as_mut_ptr(), 1, &raw const none, ptr::null(), 15), 0);
            __poll_chk(fds.as_mut_ptr(), 2, 1, room)
        }
    };
    if std::env::var_os(CHILD).is_some() {
        checked(15);
        return;
    }
    assert_eq!(checked(16), 1);
    on_fibers(1, move || assert_eq!(checked(16), 1));
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_checked_forms_check_and_poll", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert_eq!(child.status.signal(), Some(libc::SIGABRT));
    assert!(String::from_utf8_lossy(&child.stderr).contains("buffer overflow detected"));
}
