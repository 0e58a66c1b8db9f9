//! What waits, what is refused, and who is woken when.

use std::sync::Arc;
use std::time::Duration;

use fiber_runtime::{Runtime, spawn, time};

use super::*;

fn run(body: impl FnOnce() + Send + 'static) {
    Runtime::builder().workers(2).build().unwrap().block_on(body);
}

fn later(millis: u64) -> Option<Instant> {
    Some(time::now() + Duration::from_millis(millis))
}

fn take(outbox: &Outbox<u32>, max_bytes: usize) -> Option<Vec<u32>> {
    let mut items = Vec::new();
    outbox.take(&mut items, max_bytes).then_some(items)
}

#[test]
fn everything_that_waits_is_taken_at_once_up_to_a_batch() {
    run(|| {
        let outbox = Outbox::new(100, 1000);
        for item in 0..5 {
            outbox.push(item, 10).unwrap();
        }
        assert_eq!(outbox.queued(), (5, 50));
        assert_eq!(take(&outbox, 25), Some(vec![0, 1, 2]));
        assert_eq!(take(&outbox, 1000), Some(vec![3, 4]));
        assert_eq!(outbox.queued(), (0, 0));
    });
}

#[test]
fn urgent_item_goes_first() {
    run(|| {
        let outbox = Outbox::new(1, 1000);
        outbox.push(1, 10).unwrap();
        outbox.push_urgent(0);
        assert_eq!(take(&outbox, 1000), Some(vec![0, 1]), "and is not refused at the bound");
    });
}

#[test]
fn full_outbox_refuses_by_count_and_by_bytes() {
    run(|| {
        let outbox = Outbox::new(3, 100);
        outbox.push(1, 60).unwrap();
        assert_eq!(outbox.push(2, 60), Err(Refused::Full { queued: 1, bytes: 60 }));
        outbox.push(3, 10).unwrap();
        outbox.push(4, 10).unwrap();
        assert_eq!(outbox.push(5, 1), Err(Refused::Full { queued: 3, bytes: 80 }));
        assert!(outbox.is_over());
        outbox.push_over(6, 500);
        assert_eq!(outbox.queued(), (4, 580));
    });
}

#[test]
fn item_larger_than_the_bound_passes_alone() {
    run(|| {
        let outbox = Outbox::new(3, 100);
        outbox.push(1, 500).unwrap();
        assert!(outbox.push(2, 1).is_err());
        assert_eq!(take(&outbox, 100), Some(vec![1]));
        outbox.push(2, 1).unwrap();
    });
}

#[test]
fn sleeping_writer_is_woken_by_a_push_from_another_worker() {
    run(|| {
        let outbox = Arc::new(Outbox::new(10, 100));
        let writer = spawn({
            let outbox = Arc::clone(&outbox);
            move || {
                let mut seen = Vec::new();
                while let Some(mut items) = take(&outbox, 100) {
                    seen.append(&mut items);
                }
                seen
            }
        });
        for item in 0..1000 {
            while outbox.push(item, 10).is_err() {
                assert!(outbox.wait_room(10, later(10_000)));
            }
            if item % 7 == 0 {
                fiber_runtime::yield_now();
            }
        }
        outbox.finish();
        assert!(writer.join().unwrap().into_iter().eq(0..1000));
    });
}

#[test]
fn wait_for_room_ends_with_room_with_the_deadline_or_with_the_outbox() {
    run(|| {
        let outbox = Arc::new(Outbox::new(2, 100));
        assert!(outbox.wait_room(1, later(0)), "there is room");
        outbox.push(1, 50).unwrap();
        outbox.push(2, 50).unwrap();
        let begin = time::now();
        assert!(!outbox.wait_room(1, later(30)));
        assert!(begin.elapsed() >= Duration::from_millis(30));

        let waiter = |outbox: &Arc<Outbox<u32>>| {
            let outbox = Arc::clone(outbox);
            spawn(move || outbox.wait_room(1, later(10_000)))
        };
        let waiting = waiter(&outbox);
        fiber_runtime::yield_now();
        assert_eq!(take(&outbox, 1000), Some(vec![1, 2]));
        assert!(waiting.join().unwrap());

        outbox.push(3, 100).unwrap();
        let waiting = waiter(&outbox);
        fiber_runtime::yield_now();
        outbox.close();
        assert!(waiting.join().unwrap(), "the push that follows finds out why");
        assert_eq!(outbox.push(4, 1), Err(Refused::Closed));
    });
}

#[test]
fn finish_sends_what_waits_and_close_drops_it() {
    run(|| {
        let outbox = Outbox::new(10, 100);
        outbox.push(1, 1).unwrap();
        outbox.finish();
        assert_eq!(outbox.push(2, 1), Err(Refused::Closed));
        assert_eq!(take(&outbox, 100), Some(vec![1]));
        assert_eq!(take(&outbox, 100), None);

        let outbox = Outbox::new(10, 100);
        outbox.push(1, 1).unwrap();
        outbox.close();
        assert_eq!(take(&outbox, 100), None);
        assert!(outbox.is_closed());
    });
}
