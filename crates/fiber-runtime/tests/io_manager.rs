//! The IoManager: tasks, one-shot events, timers, and its end.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{PATIENCE, wait_for};
use fiber_runtime::IoManager;
use fiber_runtime::io_manager::{Event, IoHandle};
use fiber_runtime::sync::{Spin, oneshot};

fn manager(threads: usize) -> IoManager {
    IoManager::new(threads, false, "test").unwrap()
}

/// A counter, and a callback that counts.
fn counter() -> (Arc<AtomicUsize>, impl Fn() + Clone + Send + 'static) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    (count, move || {
        counted.fetch_add(1, Ordering::SeqCst);
    })
}

#[test]
fn tasks_run_on_any_worker_or_on_the_one_asked_for() {
    let manager = manager(2);
    assert_eq!(manager.name(), "test");
    let names = Arc::new(Spin::new(Vec::new()));
    for _ in 0..20 {
        let names = Arc::clone(&names);
        manager.schedule_on(1, move || {
            let name = std::thread::current().name().map(str::to_owned);
            names.lock(|names| names.push(name));
        });
    }
    let (count, count_up) = counter();
    (0..20).for_each(|_| manager.schedule(count_up.clone()));
    assert!(manager.stop(PATIENCE).is_clean());
    assert_eq!(count.load(Ordering::SeqCst), 20);
    let mut names = names.lock(std::mem::take);
    assert_eq!(names.len(), 20);
    names.dedup();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn an_event_fires_once_and_can_be_added_again() {
    let manager = manager(2);
    let (mut one, mut other) = UnixStream::pair().unwrap();
    let (count, count_up) = counter();
    manager.add_event(one.as_raw_fd(), Event::Read, count_up.clone()).unwrap();
    let again = manager.add_event(one.as_raw_fd(), Event::Read, || {});
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(manager.pending_events(), 1);
    other.write_all(b"ab").unwrap();
    wait_for("the event", || count.load(Ordering::SeqCst) == 1 && manager.pending_events() == 0);
    // What is left unread counts: an event that is added now fires without another edge.
    manager.add_event(one.as_raw_fd(), Event::Read, count_up.clone()).unwrap();
    wait_for("the second event", || count.load(Ordering::SeqCst) == 2);
    one.read_exact(&mut [0; 2]).unwrap();
    manager.add_event(one.as_raw_fd(), Event::Read, count_up).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(count.load(Ordering::SeqCst), 2, "nothing to read, nothing to fire");
    assert!(manager.del_event(one.as_raw_fd(), Event::Read));
    assert!(manager.stop(PATIENCE).is_clean());
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn deleted_events_do_not_fire_and_cancelled_ones_do() {
    let manager = manager(1);
    let (one, _other) = UnixStream::pair().unwrap();
    let fd = one.as_raw_fd();
    let (count, count_up) = counter();
    assert!(!manager.del_event(fd, Event::Read));
    assert!(!manager.cancel_event(fd, Event::Read));
    assert!(!manager.cancel_all(fd));
    manager.add_event(fd, Event::Read, count_up.clone()).unwrap();
    assert!(manager.del_event(fd, Event::Read));
    manager.add_event(fd, Event::Read, count_up).unwrap();
    assert!(manager.cancel_all(fd));
    wait_for("the cancelled event", || count.load(Ordering::SeqCst) == 1);
    assert_eq!(manager.pending_events(), 0);
    assert!(manager.stop(PATIENCE).is_clean());
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn an_event_of_the_current_fiber_unparks_it() {
    let manager = manager(2);
    let (one, mut other) = UnixStream::pair().unwrap();
    let (done, woken) = oneshot::channel();
    let handle = manager.handle();
    manager.schedule(move || {
        for round in 0..100 {
            handle.add_event_for_fiber(one.as_raw_fd(), Event::Read).unwrap();
            if round % 2 == 0 {
                // The event may come before the park.
                fiber_runtime::yield_now();
            }
            while handle.pending_events() > 0 {
                fiber_runtime::park();
            }
            (&one).read_exact(&mut [0]).unwrap();
        }
        done.send(()).unwrap();
    });
    for _ in 0..100 {
        other.write_all(b"x").unwrap();
    }
    woken.recv().unwrap();
    assert!(manager.stop(PATIENCE).is_clean());
}

#[test]
fn timers_fire_once_or_again_and_end_when_cancelled() {
    let manager = manager(1);
    let (once, count_once) = counter();
    let (often, count_often) = counter();
    let start = Instant::now();
    let single = manager.add_timer(Duration::from_millis(20), false, count_once);
    let recurring = manager.add_timer(Duration::from_millis(2), true, count_often);
    wait_for("the timers", || once.load(Ordering::SeqCst) == 1 && often.load(Ordering::SeqCst) >= 3);
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(!single.cancel(), "it has ended by itself");
    assert!(recurring.cancel());
    assert!(!recurring.refresh());
    let ended = often.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(20));
    assert!(often.load(Ordering::SeqCst) <= ended + 1, "a callback may just have been running");
    assert_eq!(once.load(Ordering::SeqCst), 1);
}

#[test]
fn timers_can_be_put_off_and_brought_forward() {
    let manager = manager(1);
    let (count, count_up) = counter();
    let timer = manager.add_timer(Duration::from_secs(3600), false, count_up.clone());
    assert!(timer.refresh());
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert!(timer.reset(Duration::from_millis(5), true));
    wait_for("the timer brought forward", || count.load(Ordering::SeqCst) == 1);
    let early = manager.add_timer(Duration::from_millis(30), false, count_up);
    assert!(early.reset(Duration::from_secs(3600), false));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(count.load(Ordering::SeqCst), 1, "put off");
    assert!(early.cancel());
    assert!(manager.stop(PATIENCE).is_clean());
}

#[test]
fn condition_timers_need_their_condition() {
    let manager = manager(1);
    let (count, count_up) = counter();
    let (alive, dead) = (Arc::new(()), Arc::new(()));
    manager.add_condition_timer(Duration::from_millis(5), false, Arc::downgrade(&alive), count_up.clone());
    manager.add_condition_timer(Duration::from_millis(5), false, Arc::downgrade(&dead), count_up);
    drop(dead);
    assert!(manager.stop(PATIENCE).is_clean());
    assert_eq!(count.load(Ordering::SeqCst), 1);
    drop(alive);
}

#[test]
fn stop_waits_for_work_but_not_for_recurring_timers() {
    let manager = manager(2);
    let (count, count_up) = counter();
    manager.add_timer(Duration::from_secs(3600), true, || {});
    manager.add_timer(Duration::from_millis(30), false, count_up.clone());
    manager.schedule(move || {
        std::thread::sleep(Duration::from_millis(30));
        count_up();
    });
    let start = Instant::now();
    assert!(manager.stop(PATIENCE).is_clean());
    assert_eq!(count.load(Ordering::SeqCst), 2);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn with_use_caller_the_caller_works_while_it_stops() {
    let manager = IoManager::new(1, true, "caller").unwrap();
    let (count, count_up) = counter();
    (0..10).for_each(|_| manager.schedule(count_up.clone()));
    assert_eq!(count.load(Ordering::SeqCst), 0, "the only worker is this thread");
    assert!(manager.stop(PATIENCE).is_clean());
    assert_eq!(count.load(Ordering::SeqCst), 10);
}

#[test]
fn timers_of_any_length_can_be_set_and_ended() {
    let manager = manager(1);
    let (count, count_up) = counter();
    let timer = manager.add_timer(Duration::MAX, false, count_up.clone());
    let recurring = manager.add_recurring_timer(Duration::MAX, count_up.clone());
    assert!(timer.refresh() && timer.reset(Duration::MAX, false) && timer.reset(Duration::MAX, true));
    let far = Instant::now() + Duration::from_secs(99 * 365 * 24 * 3600);
    assert!(timer.due().unwrap() > far && recurring.due().unwrap() > far);
    // Brought forward from there it is an ordinary timer: it began now, not a hundred years ago.
    assert!(timer.reset(Duration::from_millis(1), false));
    wait_for("the timer", || count.load(Ordering::SeqCst) == 1);
    assert!(!timer.cancel());
    let forgotten = manager.add_timer(Duration::MAX, false, count_up);
    assert!(manager.has_timer());
    let report = manager.stop(Duration::from_millis(20));
    // The recurring one ends by itself; the other would have kept the manager for a hundred years.
    assert_eq!((report.cancelled, report.leftover.len()), (1, 0), "{report}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    drop(forgotten);
}

#[test]
fn the_next_timer_is_known() {
    let manager = manager(1);
    assert_eq!(manager.next_timer(), None);
    assert!(!manager.has_timer());
    let late = manager.add_timer(Duration::from_secs(3600), false, || {});
    let early = manager.add_recurring_timer(Duration::from_secs(60), || {});
    assert_eq!(manager.next_timer(), early.due());
    assert!(early.cancel());
    assert_eq!(manager.next_timer(), late.due());
    assert!(late.cancel());
    assert!(!manager.has_timer());
    // Many short ones leave nothing behind.
    let (count, count_up) = counter();
    for _ in 0..1000 {
        manager.add_timer(Duration::ZERO, false, count_up.clone());
    }
    wait_for("the timers", || count.load(Ordering::SeqCst) == 1000);
    wait_for("their ends", || !manager.has_timer());
}

#[test]
fn a_fiber_finds_its_manager_and_nobody_else_does() {
    let (one, other) = (manager(1), manager(1));
    assert!(IoHandle::try_current().is_none());
    let (tell, told) = oneshot::channel();
    other.schedule(move || {
        let manager = IoHandle::current();
        let inner = manager.clone();
        manager.add_timer(Duration::ZERO, false, move || {
            assert!(IoHandle::try_current().is_some());
            let _ = &inner;
        });
        tell.send(manager.name().to_owned()).unwrap();
    });
    assert_eq!(told.recv().unwrap(), "test");
    let plain = fiber_runtime::Runtime::builder().workers(1).build().unwrap();
    assert!(plain.block_on(|| IoHandle::try_current().is_none()), "a runtime without a manager");
    assert!(one.stop(PATIENCE).is_clean());
    assert!(other.stop(PATIENCE).is_clean());
}

// Descriptors of std's are closed here, of which the runtime hears through the hook of `close`.
#[cfg(feature = "hook")]
#[test]
fn events_of_closed_and_foreign_descriptors_fire_or_are_refused() {
    let manager = manager(1);
    let (count, count_up) = counter();
    assert_eq!(manager.add_event(-1, Event::Read, || {}).unwrap_err().kind(), ErrorKind::InvalidInput);
    // A number that nobody has open, and one beyond every table.
    manager.add_event(1_000_000, Event::Read, count_up.clone()).unwrap();
    manager.add_event(i32::MAX, Event::Write, count_up.clone()).unwrap();
    // A file that epoll does not take: it is always ready.
    let file = tempfile::tempfile().unwrap();
    manager.add_event(file.as_raw_fd(), Event::Read, count_up.clone()).unwrap();
    manager.add_event(file.as_raw_fd(), Event::Write, count_up.clone()).unwrap();
    wait_for("four events", || count.load(Ordering::SeqCst) == 4);
    // One that is closed while it is waited for.
    let (one, _other) = UnixStream::pair().unwrap();
    manager.add_event(one.as_raw_fd(), Event::Read, count_up).unwrap();
    wait_for("the wait", || manager.pending_events() == 1);
    std::thread::sleep(Duration::from_millis(5));
    drop(one);
    wait_for("the event of the closed one", || count.load(Ordering::SeqCst) == 5);
    assert!(manager.stop(PATIENCE).is_clean());
}
