//! Deadline scopes: every kind of wait in them ends in time, and in its own way.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::waits::for_each_endless_wait;
use common::{in_millis, on_fibers};
use fiber_runtime::net::{TcpListener, TcpStream, UnixStream};
use fiber_runtime::sync::{Semaphore, channel};
use fiber_runtime::{
    Elapsed, JoinError, Wake, current_deadline, park, park_until, shielded, sim::Sim, spawn, spawn_local,
    time, with_deadline, with_timeout, yield_now,
};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

fn silent() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (server, client)
}

#[test]
fn a_body_in_time_returns_its_value_and_leaves_no_deadline_behind() {
    on_fibers(1, || {
        assert_eq!(current_deadline(), None);
        let deadline = in_millis(3_600_000);
        let inside = with_deadline(deadline, || {
            time::sleep(Duration::from_millis(1));
            current_deadline()
        });
        let inside = inside.unwrap().expect("a deadline");
        assert!(inside.max(deadline) - inside.min(deadline) < Duration::from_micros(1));
        assert_eq!(current_deadline(), None);
        assert_eq!(with_timeout(Duration::MAX, current_deadline), Ok(None), "for ever is no deadline");
    });
}

#[test]
fn every_wait_that_cannot_fail_unwinds_to_the_scope() {
    on_fibers(1, || {
        for_each_endless_wait(|what, wait| {
            let dropped = Arc::new(AtomicBool::new(false));
            let flag = SetOnDrop(dropped.clone());
            let outcome = with_timeout(SHORT, move || {
                let _flag = flag;
                wait();
            });
            assert_eq!(outcome, Err(Elapsed), "{what}");
            assert!(dropped.load(Ordering::SeqCst), "{what}: destructors did not run");
            // The fiber itself goes on.
            time::sleep(Duration::from_micros(10));
        });
    });
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn native_io_fails_with_timed_out_and_then_unwinds() {
    on_fibers(1, || {
        let (mut stream, _other) = silent();
        let error = with_timeout(SHORT, || stream.read(&mut [0; 8])).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.get_ref().is_some_and(|inner| inner.is::<Elapsed>()), "{error:?}");

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = with_timeout(SHORT, || listener.accept().map(drop)).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);

        let errors = Cell::new(0);
        let outcome: Result<(), Elapsed> = with_timeout(SHORT, || {
            loop {
                errors.set(errors.get() + usize::from(stream.read(&mut [0; 8]).is_err()));
            }
        });
        assert_eq!((outcome, errors.get()), (Err(Elapsed), 1));
    });
}

#[test]
fn a_call_s_own_earlier_deadline_stays_its_own() {
    on_fibers(1, || {
        let (mut stream, _other) = silent();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let (_sender, empty) = channel::bounded::<u8>(1);
        let errors = with_timeout(LONG, || {
            let read = [(); 3].map(|()| stream.read(&mut [0; 8]).unwrap_err());
            assert_eq!(empty.recv_until(in_millis(1)), Err(channel::RecvTimeoutError::Timeout));
            assert_eq!(park_until(Some(in_millis(1))), Wake::TimedOut);
            read
        });
        for error in errors.unwrap() {
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(error.get_ref().is_none(), "{error:?}");
        }
    });
}

#[test]
fn a_stream_that_never_runs_dry_ends_at_the_deadline() {
    on_fibers(2, || {
        let (mut reader, mut writer) = UnixStream::pair().unwrap();
        let feeding = spawn(move || while writer.write_all(&[7; 4096]).is_ok() {});
        let error = with_timeout(SHORT, || {
            loop {
                if let Err(error) = reader.read_exact(&mut [0; 64]) {
                    return error;
                }
            }
        });
        assert_eq!(error.unwrap().kind(), ErrorKind::TimedOut);
        drop(reader);
        feeding.join().unwrap();
    });
}

#[test]
fn of_nested_scopes_the_earlier_deadline_counts_and_comes_out_where_it_was_set() {
    on_fibers(1, || {
        // The inner one is earlier.
        let outer = with_timeout(LONG, || {
            assert_eq!(with_timeout(SHORT, park), Err(Elapsed));
            "went on"
        });
        assert_eq!(outer, Ok("went on"));
        // The outer one is earlier: the inner scope does not catch what is not its own.
        let mut came_out_of_inner = false;
        let outer = with_timeout(SHORT, || {
            let _ = with_timeout(LONG, park);
            came_out_of_inner = true;
        });
        assert_eq!((outer, came_out_of_inner), (Err(Elapsed), false));
        // Both have passed: one after the other.
        let outer = with_timeout(SHORT, || {
            assert_eq!(with_timeout(Duration::ZERO, park), Err(Elapsed));
            park();
        });
        assert_eq!(outer, Err(Elapsed));
    });
}

#[test]
fn a_deadline_in_the_past_ends_the_first_wait() {
    on_fibers(1, || {
        let mut began = false;
        let outcome = with_deadline(time::now(), || {
            began = true;
            yield_now();
        });
        assert_eq!((outcome, began), (Err(Elapsed), true));
        assert_eq!(with_deadline(time::now(), || 7), Ok(7), "what does not wait is not bounded");
    });
}

#[test]
fn a_body_that_catches_panics_is_unwound_by_its_next_wait() {
    on_fibers(1, || {
        let mut caught = 0;
        let outcome = with_timeout(SHORT, || {
            for _ in 0..3 {
                caught += usize::from(catch_unwind(AssertUnwindSafe(park)).is_err());
            }
            park();
        });
        assert_eq!((outcome, caught), (Err(Elapsed), 3));
    });
}

#[test]
fn a_panic_of_the_body_goes_through() {
    on_fibers(1, || {
        let payload = catch_unwind(|| with_timeout(LONG, || panic!("mine"))).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"mine"));
        assert_eq!(current_deadline(), None);
    });
}

#[test]
fn cancellation_goes_through_a_scope() {
    on_fibers(1, || {
        let fiber = spawn_local(|| with_timeout(LONG, park));
        yield_now();
        fiber.cancel();
        assert!(matches!(fiber.join(), Err(JoinError::Cancelled)));
    });
}

#[test]
fn a_shield_holds_off_deadlines_around_it_but_not_those_inside() {
    on_fibers(1, || {
        let outcome = with_timeout(SHORT, || {
            shielded(|| {
                time::sleep(SHORT * 3);
                assert_eq!(current_deadline(), None);
                assert_eq!(with_timeout(SHORT, park), Err(Elapsed));
            });
            assert!(current_deadline().is_some());
            yield_now();
        });
        assert_eq!(outcome, Err(Elapsed));
    });
}

#[test]
fn spawned_fibers_are_not_bound() {
    on_fibers(1, || {
        let child = with_timeout(LONG, || spawn(current_deadline)).unwrap();
        assert_eq!(child.join().unwrap(), None);
    });
}

#[test]
fn a_destructor_that_waits_while_a_scope_unwinds_is_not_cut_short() {
    struct Farewell(Arc<AtomicBool>);

    impl Drop for Farewell {
        fn drop(&mut self) {
            time::sleep(SHORT);
            self.0.store(true, Ordering::SeqCst);
        }
    }

    on_fibers(1, || {
        let slept = Arc::new(AtomicBool::new(false));
        let farewell = Farewell(slept.clone());
        let outcome = with_timeout(SHORT, move || {
            let _farewell = farewell;
            park();
        });
        assert_eq!(outcome, Err(Elapsed));
        assert!(slept.load(Ordering::SeqCst));
    });
}

#[test]
fn plain_threads_have_deadlines_too() {
    let (mut stream, _other) = silent();
    let error = with_timeout(SHORT, || stream.read(&mut [0; 8])).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(with_timeout(SHORT, || drop(Semaphore::new(0).acquire())), Err(Elapsed));
    assert_eq!(with_timeout(SHORT, || time::sleep(LONG)), Err(Elapsed));
    assert_eq!(with_timeout(SHORT, park), Err(Elapsed));
    let (_sender, receiver) = channel::bounded::<u8>(1);
    assert_eq!(with_timeout(SHORT, || receiver.recv()), Err(Elapsed));
    assert_eq!(current_deadline(), None);
}

#[test]
fn in_a_simulation_deadlines_are_of_its_clock() {
    let elapsed = Sim::new(1).run(|| {
        let began = time::now();
        assert_eq!(with_timeout(LONG, park), Err(Elapsed));
        time::now() - began
    });
    assert!((LONG..LONG + Duration::from_millis(1)).contains(&elapsed), "{elapsed:?}");
}

#[cfg(feature = "hook")]
mod hooked {
    //! Through the symbols of libc: each call ends as if a time-out of its own had passed.

    use super::*;

    #[test]
    fn hooked_calls_end_with_the_errno_of_their_own_timeouts() {
        on_fibers(1, || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let _client = std::net::TcpStream::connect(address).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            let outcome = with_timeout(SHORT, || {
                // As often as it likes: a hooked call never unwinds.
                for _ in 0..5 {
                    assert_eq!(server.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
                    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
                }
            });
            assert_eq!(outcome, Ok(()));
        });
    }

    #[test]
    fn a_hooked_sleep_ends_early_and_a_poll_finds_nothing() {
        on_fibers(1, || {
            let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
            let began = time::now();
            let outcome = with_timeout(SHORT, || {
                std::thread::sleep(LONG);
                let mut entry = libc::pollfd {
                    fd: std::os::fd::AsRawFd::as_raw_fd(&socket),
                    events: libc::POLLIN,
                    revents: 0,
                };
                // SAFETY: one entry, which lives through the call.
                unsafe { libc::poll(&raw mut entry, 1, -1) }
            });
            assert_eq!(outcome, Ok(0));
            assert!(time::now() - began < LONG);
        });
    }
}
