//! The moment between the last look at the inbox and the sleep.

use std::cell::RefCell;
use std::time::Duration;

use crate::{Runtime, Wake, current, park_until, time};

thread_local! {
    /// What happens once, on the worker's thread, when it has found nothing to do and is about to say that it sleeps.
    static BEFORE_PARK: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// Called by `Worker::sleep`.
pub(super) fn before_park() {
    let action = BEFORE_PARK.with(|slot| slot.borrow_mut().take());
    if let Some(action) = action {
        action();
    }
}

fn schedule(action: impl FnOnce() + 'static) {
    BEFORE_PARK.with(|slot| *slot.borrow_mut() = Some(Box::new(action)));
}

fn in_another_thread(action: impl FnOnce() + Send + 'static) {
    std::thread::spawn(action).join().unwrap();
}

#[test]
fn a_wake_after_the_last_look_at_the_inbox_is_not_lost() {
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).use_caller(true).build().unwrap();
        let wake = runtime.block_on(|| {
            let me = current();
            schedule(move || in_another_thread(move || me.unpark()));
            park_until(Some(time::now() + Duration::from_secs(10)))
        });
        assert_eq!(wake, Wake::Unparked);
    }
}

#[test]
fn a_spawn_after_the_last_look_for_work_is_not_lost() {
    let runtime = Runtime::builder().workers(1).use_caller(true).build().unwrap();
    let handle = runtime.handle();
    let wake = runtime.block_on(move || {
        let me = current();
        schedule(move || in_another_thread(move || handle.spawn(move || me.unpark()).detach()));
        park_until(Some(time::now() + Duration::from_secs(10)))
    });
    assert_eq!(wake, Wake::Unparked);
}

#[test]
fn a_close_after_the_last_look_is_not_lost() {
    use std::os::fd::AsRawFd;
    let runtime = Runtime::builder().workers(1).use_caller(true).build().unwrap();
    let (left, _right) = std::os::unix::net::UnixStream::pair().unwrap();
    let fd = left.as_raw_fd();
    let began = time::now();
    let error = runtime.block_on(move || {
        schedule(move || in_another_thread(move || crate::reactor::closing(fd)));
        let deadline = time::now() + Duration::from_secs(10);
        crate::reactor::wait(fd, crate::reactor::Interest::Read, Some(deadline)).unwrap_err()
    });
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    assert!(began.elapsed() < Duration::from_secs(5), "the news came with the deadline");
}
