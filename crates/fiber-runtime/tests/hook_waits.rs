//! What nobody tells of, waited for in fibers by code that knows nothing of them: children, threads and file locks.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]
#![cfg(feature = "hook")]

mod common;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::beside::beside_a_ticker;
use common::{PATIENCE, on_fibers, runtime};
use fiber_runtime::{spawn_local, time, with_timeout, yield_now};

#[test]
fn a_deadline_that_passes_does_not_keep_the_output_of_a_child_from_ending() {
    on_fibers(1, || {
        let start = Instant::now();
        // std reads both pipes without waiting, when poll says that it can. Of what cannot fail it then makes a panic.
        let output = || Command::new("sh").args(["-c", "sleep 0.1; echo late"]).output().map(drop);
        let ended = spawn_local(move || with_timeout(Duration::from_millis(20), output).map(drop)).join();
        assert!(start.elapsed() >= Duration::from_millis(20), "{ended:?}");
    });
}

#[test]
fn what_does_not_wait_is_done_past_a_deadline_too() {
    on_fibers(1, || {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        let outcomes = with_timeout(Duration::from_millis(5), || {
            std::thread::sleep(Duration::from_secs(60));
            let empty = one.read(&mut [0]).map_err(|error| error.kind());
            let sent = one.write(b"x").map_err(|error| error.kind());
            let waiting = other.read(&mut [0]).map_err(|error| error.kind());
            (empty, sent, waiting)
        });
        let blocked = io::ErrorKind::WouldBlock;
        assert_eq!(outcomes.unwrap(), (Err(blocked), Ok(1), Err(blocked)));
    });
}

#[test]
fn children_are_waited_for_side_by_side() {
    on_fibers(1, || {
        let start = Instant::now();
        let (codes, ticks) = beside_a_ticker(|| {
            let fibers: Vec<_> = (0..8)
                .map(|number| {
                    spawn_local(move || {
                        let script = format!("sleep 0.2; exit {number}");
                        Command::new("sh").args(["-c", &script]).status().unwrap().code()
                    })
                })
                .collect();
            fibers.into_iter().map(|fiber| fiber.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(codes, (0..8).map(Some).collect::<Vec<_>>());
        assert!(start.elapsed() < Duration::from_millis(1400), "one after the other: {:?}", start.elapsed());
        assert!(ticks > 20, "{ticks} ticks in {:?}", start.elapsed());
    });
}

#[test]
fn a_childs_output_and_status_are_collected() {
    on_fibers(1, || {
        let (output, ticks) = beside_a_ticker(|| {
            let script = "echo out; sleep 0.1; echo err >&2; kill -9 $$";
            Command::new("sh").args(["-c", script]).output().unwrap()
        });
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(output.status.signal(), Some(libc::SIGKILL));
        assert!(ticks > 5, "{ticks}");
        let mut child = Command::new("sh")
            .args(["-c", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        io::Write::write_all(child.stdin.as_mut().unwrap(), b"through a child").unwrap();
        drop(child.stdin.take());
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "through a child");
        assert!(child.wait().unwrap().success());
    });
}

fn errno() -> Option<i32> {
    io::Error::last_os_error().raw_os_error()
}

#[test]
fn any_child_of_a_group_and_stops_are_reported() {
    on_fibers(1, || {
        let mut child = Command::new("sleep").arg("30").process_group(0).spawn().unwrap();
        let pid = child.id() as libc::pid_t;
        let stopping = spawn_local(move || {
            for signal in [libc::SIGSTOP, libc::SIGCONT, libc::SIGTERM] {
                time::sleep(Duration::from_millis(30));
                // SAFETY: a child that has not been collected.
                assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
            }
        });
        let ((), ticks) = beside_a_ticker(|| {
            let mut status = 0;
            // SAFETY: the status lives through the call, here and below.
            let waited = unsafe { libc::waitpid(-pid, &raw mut status, libc::WUNTRACED) };
            assert_eq!((waited, libc::WIFSTOPPED(status)), (pid, true));
            // SAFETY: as above.
            let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::WCONTINUED) };
            assert_eq!((waited, libc::WIFCONTINUED(status)), (pid, true));
            // SAFETY: a structure of zeros is valid.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            let waited = unsafe { libc::wait4(-pid, &raw mut status, 0, &raw mut usage) };
            assert_eq!((waited, libc::WTERMSIG(status)), (pid, libc::SIGTERM));
            assert!(usage.ru_maxrss > 0);
        });
        assert!(ticks > 10, "{ticks}");
        stopping.join().unwrap();
        assert_eq!(child.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    });
}

#[test]
fn waitid_looks_before_it_takes() {
    on_fibers(1, || {
        let mut child = Command::new("sh").args(["-c", "sleep 0.05; exit 3"]).spawn().unwrap();
        let pid = child.id();
        // SAFETY: a structure of zeros is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the structure lives through the calls.
        let mut wait = |options| unsafe {
            let result = libc::waitid(libc::P_PID, pid, &raw mut info, options);
            (result, info.si_pid() as u32, info.si_status())
        };
        assert_eq!(wait(0).0, -1);
        assert_eq!(errno(), Some(libc::EINVAL));
        assert_eq!(wait(libc::WEXITED | libc::WNOHANG), (0, 0, 0));
        assert_eq!(wait(libc::WEXITED | libc::WNOWAIT), (0, pid, 3));
        assert_eq!(wait(libc::WEXITED | libc::WNOWAIT), (0, pid, 3));
        assert_eq!(wait(libc::WEXITED), (0, pid, 3));
        assert_eq!(wait(libc::WEXITED).0, -1);
        assert_eq!(errno(), Some(libc::ECHILD));
        assert_eq!(child.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
        // SAFETY: no status is asked for.
        assert_eq!(unsafe { libc::waitpid(pid as i32, ptr::null_mut(), 0x4000) }, -1);
        assert_eq!(errno(), Some(libc::EINVAL));
    });
}

#[test]
fn a_cancelled_fiber_does_not_wait_for_a_child() {
    on_fibers(1, || {
        let mut child = Command::new("sleep").arg("30").spawn().unwrap();
        let pid = child.id() as libc::pid_t;
        let waiting = spawn_local(move || {
            // SAFETY: no status is asked for.
            let result = unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
            (result, errno())
        });
        yield_now();
        waiting.cancel();
        assert_eq!(waiting.join().unwrap(), (-1, Some(libc::ECANCELED)));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    });
}

#[test]
fn a_thread_is_joined_while_other_fibers_run() {
    on_fibers(1, || {
        let (sum, ticks) = beside_a_ticker(|| {
            let threads: Vec<_> = (0..20)
                .map(|number| {
                    std::thread::spawn(move || {
                        std::thread::sleep(Duration::from_millis(60));
                        number
                    })
                })
                .collect();
            let fibers: Vec<_> =
                threads.into_iter().map(|thread| spawn_local(move || thread.join().unwrap())).collect();
            fibers.into_iter().map(|fiber| fiber.join().unwrap()).sum::<u32>()
        });
        assert_eq!(sum, 190);
        assert!(ticks > 10, "{ticks}");
        let failed = std::thread::spawn(|| panic!("on purpose")).join().unwrap_err();
        assert_eq!(failed.downcast_ref(), Some(&"on purpose"));
        // SAFETY: joins nobody.
        let itself = unsafe { libc::pthread_join(libc::pthread_self(), ptr::null_mut()) };
        assert_eq!(itself, libc::EDEADLK);
    });
}

#[test]
fn a_cancelled_fiber_waits_for_its_thread_all_the_same() {
    on_fibers(1, || {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        let waiting = spawn_local(move || {
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                flag.store(true, Ordering::SeqCst);
            });
            thread.join().unwrap();
        });
        yield_now();
        waiting.cancel();
        let _ = waiting.join();
        assert!(ended.load(Ordering::SeqCst));
    });
}

#[test]
fn a_thread_joins_as_ever() {
    let runtime = runtime(1);
    assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    assert!(runtime.stop(PATIENCE).is_clean());
}

#[test]
fn a_file_lock_parks_whoever_wants_it() {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    on_fibers(1, move || {
        let first = File::open(&path).unwrap();
        let second = File::open(&path).unwrap();
        first.lock().unwrap();
        assert!(second.try_lock().is_err());
        let waiting = spawn_local(move || {
            second.lock().unwrap();
            second.unlock().unwrap();
            second.lock_shared().unwrap();
        });
        let ((), ticks) = beside_a_ticker(|| time::sleep(Duration::from_millis(30)));
        assert!(ticks > 5 && !waiting.is_finished(), "{ticks}");
        first.unlock().unwrap();
        waiting.join().unwrap();
        first.lock_shared().unwrap();
        // SAFETY: plain numbers.
        assert_eq!(unsafe { libc::flock(first.as_raw_fd(), 64) }, -1);
        assert_eq!(errno(), Some(libc::EINVAL));
    });
}

#[test]
fn a_record_lock_of_an_open_file_parks_whoever_wants_it() {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    on_fibers(1, move || {
        let set = |file: &File, command, kind| {
            // SAFETY: a structure of zeros is valid.
            let mut lock: libc::flock = unsafe { std::mem::zeroed() };
            lock.l_type = kind;
            // SAFETY: the lock lives through the call.
            unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) }
        };
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        let (first, second) = (open(), open());
        assert_eq!(set(&first, libc::F_OFD_SETLKW, libc::F_WRLCK as _), 0);
        assert_eq!(set(&second, libc::F_OFD_SETLK, libc::F_WRLCK as _), -1);
        let waiting = spawn_local(move || set(&second, libc::F_OFD_SETLKW, libc::F_WRLCK as _));
        yield_now();
        assert!(!waiting.is_finished());
        assert_eq!(set(&first, libc::F_OFD_SETLK, libc::F_UNLCK as _), 0);
        assert_eq!(waiting.join().unwrap(), 0);
        // SAFETY: plain numbers.
        let lockf = |command| unsafe { libc::lockf(first.as_raw_fd(), command, 8) };
        for command in [libc::F_LOCK, libc::F_TLOCK, libc::F_TEST, libc::F_ULOCK] {
            assert_eq!(lockf(command), 0, "{command}");
        }
        assert_eq!((lockf(9), errno()), (-1, Some(libc::EINVAL)));
    });
}
