//! Sleeping on the real clock.

use std::time::{Duration, Instant};

use super::*;
use crate::{Runtime, Wake, park_until, spawn, spawn_local, yield_now};

fn in_runtime<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    Runtime::builder().workers(1).build().unwrap().block_on(body)
}

#[test]
fn sleeps_are_never_short_and_well_below_a_millisecond() {
    let mut late: Vec<Duration> = in_runtime(|| {
        (0..200)
            .map(|_| {
                let wanted = Duration::from_micros(100);
                let began = Instant::now();
                sleep(wanted);
                let slept = began.elapsed();
                assert!(slept >= wanted, "slept {slept:?} of {wanted:?}");
                slept - wanted
            })
            .collect()
    });
    late.sort_unstable();
    // The best of many says what the mechanism can do, however busy the machine: mio alone would be 900 us late.
    assert!(late[0] < Duration::from_micros(400), "at best {:?} late", late[0]);
}

#[test]
fn a_thousand_sleepers_of_one_worker_sleep_together() {
    let took = in_runtime(|| {
        let began = Instant::now();
        let sleepers: Vec<_> = (0..1000).map(|_| spawn(|| sleep(Duration::from_millis(50)))).collect();
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
        began.elapsed()
    });
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn deadlines_beyond_the_clock_are_for_ever_and_can_be_left() {
    in_runtime(|| {
        let sleeper = spawn(|| sleep(Duration::MAX));
        let far = spawn(|| park_until(Some(now() + Duration::from_secs(u32::MAX.into()))));
        yield_now();
        yield_now();
        assert!(!sleeper.is_finished() && !far.is_finished());
        far.fiber().unpark();
        assert_eq!(far.join().unwrap(), Wake::Unparked);
        sleeper.cancel();
        assert!(matches!(sleeper.join(), Err(crate::JoinError::Cancelled)));
    });
}

#[test]
fn deadlines_in_the_past_give_way_and_return() {
    in_runtime(|| {
        let past = Instant::now() - Duration::from_millis(1);
        let ran = std::rc::Rc::new(std::cell::Cell::new(false));
        let flag = ran.clone();
        let other = spawn_local(move || flag.set(true));
        sleep_until(past);
        assert!(ran.get(), "the other fiber had its turn");
        sleep(Duration::ZERO);
        other.join().unwrap();
    });
}

#[test]
fn a_timer_that_was_cancelled_does_not_wake_its_fiber_later() {
    in_runtime(|| {
        let waiter = spawn(|| {
            let first = park_until(Some(now() + Duration::from_millis(2)));
            let began = now();
            let second = park_until(Some(began + Duration::from_millis(20)));
            (first, second, now() - began)
        });
        yield_now();
        yield_now();
        waiter.fiber().unpark();
        let (first, second, took) = waiter.join().unwrap();
        assert_eq!((first, second), (Wake::Unparked, Wake::TimedOut));
        assert!(took >= Duration::from_millis(20), "{took:?}");
    });
}

#[test]
fn a_busy_worker_still_fires_timers() {
    in_runtime(|| {
        let sleeper = spawn(|| sleep(Duration::from_millis(1)));
        let limit = Instant::now() + Duration::from_secs(10);
        while !sleeper.is_finished() {
            assert!(Instant::now() < limit, "the timer did not fire");
            yield_now();
        }
        sleeper.join().unwrap();
    });
}

#[test]
fn a_plain_thread_sleeps_as_usual() {
    let began = Instant::now();
    sleep(Duration::from_millis(2));
    sleep_until(began + Duration::from_millis(4));
    assert!(began.elapsed() >= Duration::from_millis(4));
    assert!(now() >= began);
}
