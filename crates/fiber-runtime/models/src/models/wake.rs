//! `fiber/wake.rs` over `scheduler/port.rs`: whoever wakes a fiber from another thread, however often, wakes it.

use std::ptr::NonNull;

use loom::thread;

use super::{explore, with_fibers};
use crate::fiber::header::Header;
use crate::fiber::wake::{Post, Signals};
use crate::scheduler::port::Port;
use crate::sys;

/// As shipped, in `Fiber::post`.
fn post(port: &'static Port, fiber: &'static Header, signals: Signals) {
    match fiber.wake.post(signals) {
        // SAFETY: a fiber outlives the model; the word says that it is in no inbox.
        Post::Deliver => unsafe { port.post(NonNull::from(fiber)) },
        Post::Merged | Post::Early => {}
    }
}

/// The worker's side: sleeps as `Worker::sleep` does until a post comes, and collects it.
fn collect(port: &'static Port, fiber: &'static Header) -> Signals {
    let mut collected = Signals::NONE;
    loop {
        port.take_fibers(|_| collected = collected.union(fiber.wake.collect()));
        if collected != Signals::NONE {
            return collected;
        }
        port.park();
        if !port.has_mail() {
            sys::wait_for_signal(port.eventfd().unwrap());
        }
        let _ = port.unpark();
    }
}

/// Two posters, each with something written for the fiber to read. Neither signal may be lost, whether the second
/// merges with the first or needs a delivery of its own.
///
/// Seen failing with `fetch_and` and `fetch_or` replaced by a load and a store, with `Relaxed` for the `AcqRel` of
/// `post` and of `collect`, and with `Post::Merged` returned when `STARTED` is set although no signal was.
#[test]
fn no_signal_is_lost_when_two_threads_post() {
    explore(2, || {
        with_fibers(|[fiber, event, unpark]| {
            let port = Port::acquire();
            port.eventfd().unwrap();
            assert_eq!(fiber.wake.start(), Signals::NONE);
            let posters = [(event, Signals::EVENT), (unpark, Signals::UNPARK)].map(|(news, signal)| {
                thread::spawn(move || {
                    news.touch_cargo();
                    post(port, fiber, signal);
                })
            });
            let mut missing = Signals::EVENT.union(Signals::UNPARK);
            while missing != Signals::NONE {
                let collected = collect(port, fiber);
                for (news, signal) in [(event, Signals::EVENT), (unpark, Signals::UNPARK)] {
                    if collected.intersects(signal) {
                        news.touch_cargo();
                    }
                }
                missing = missing.without(collected);
            }
            posters.into_iter().for_each(|poster| poster.join().unwrap());
        });
    });
}

/// A post that races with the fiber's first run is picked up by `start` or delivered through the inbox.
///
/// Seen failing with a load and a store for the `swap` in `start`.
#[test]
fn a_post_before_or_after_the_start_arrives() {
    explore(3, || {
        with_fibers(|[fiber, news]| {
            let port = Port::acquire();
            port.eventfd().unwrap();
            let poster = thread::spawn(move || {
                news.touch_cargo();
                post(port, fiber, Signals::EVENT);
            });
            let early = fiber.wake.start();
            if early == Signals::NONE {
                assert_eq!(collect(port, fiber), Signals::EVENT);
            } else {
                assert_eq!(early, Signals::EVENT);
            }
            news.touch_cargo();
            poster.join().unwrap();
        });
    });
}
