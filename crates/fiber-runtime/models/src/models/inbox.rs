//! `scheduler/inbox.rs`: every fiber arrives once, in its poster's order, with all that was written before.

use std::ptr::NonNull;
use std::sync::Arc;

use loom::thread;

use super::{explore, with_fibers};
use crate::fiber::header::Header;
use crate::scheduler::inbox::Inbox;

fn post(inbox: &Inbox, fiber: &'static Header) {
    fiber.touch_cargo();
    // SAFETY: a fiber outlives the model, and each is posted once.
    unsafe { inbox.push(NonNull::from(fiber)) };
}

/// Seen failing with `Relaxed` for the `Release` in `push` and for the `Acquire` in `take` (a race for the cargo),
/// without reading the link before `each` in `take`, and with a `store` for the exchange in `push`.
#[test]
fn every_fiber_arrives_once_and_in_order() {
    explore(3, || {
        with_fibers(|[first, second, other]| {
            let inbox = Arc::new(Inbox::new());
            let posters = [vec![first, second], vec![other]].map(|fibers| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || fibers.into_iter().for_each(|fiber| post(&inbox, fiber)))
            });
            let mut arrived = Vec::new();
            while arrived.len() < 3 {
                let before = arrived.len();
                inbox.take(|fiber| {
                    // SAFETY: as in `post`.
                    let fiber = unsafe { fiber.as_ref() };
                    fiber.run();
                    arrived.push(fiber.number);
                });
                if arrived.len() == before {
                    thread::yield_now();
                }
            }
            let at = |number: usize| arrived.iter().position(|&one| one == number).unwrap();
            assert!(at(0) < at(1), "one poster's fibers overtook each other: {arrived:?}");
            posters.into_iter().for_each(|poster| poster.join().unwrap());
        });
    });
}

/// A fiber that `each` gets may be posted again at once, by anybody: its link is no longer the inbox's.
#[test]
fn a_fiber_can_be_posted_again_as_soon_as_it_is_handed_over() {
    explore(3, || {
        with_fibers(|[again, once]| {
            let inbox = Arc::new(Inbox::new());
            post(&inbox, again);
            let poster = {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || post(&inbox, once))
            };
            let mut seen = [0; 2];
            while seen != [2, 1] {
                let before = seen;
                inbox.take(|fiber| {
                    // SAFETY: as in `post`.
                    let fiber = unsafe { fiber.as_ref() };
                    seen[fiber.number] += 1;
                    if fiber.number == 0 && seen[0] == 1 {
                        post(&inbox, again);
                    }
                });
                if seen == before {
                    thread::yield_now();
                }
            }
            poster.join().unwrap();
            assert!(inbox.is_empty());
        });
    });
}
