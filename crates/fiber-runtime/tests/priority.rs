//! Hints of priority: who goes first, and that nobody starves.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::{PATIENCE, on_fibers, runtime};
use fiber_runtime::{FiberBuilder, JoinHandle, Priority, Runtime, park, spawn_local, yield_now};

fn builder(priority: Priority) -> FiberBuilder {
    FiberBuilder::new().priority(priority)
}

type Order = Rc<RefCell<Vec<&'static str>>>;

/// Spawns a fiber that notes when it ran.
fn noted(order: &Order, priority: Priority, what: &'static str) -> JoinHandle<()> {
    let order = order.clone();
    builder(priority).spawn_local(move || order.borrow_mut().push(what))
}

/// Spawns a fiber that waits to be woken and notes when it ran.
fn waiting(order: &Order, priority: Priority, what: &'static str) -> JoinHandle<()> {
    let order = order.clone();
    builder(priority).spawn_local(move || {
        park();
        order.borrow_mut().push(what);
    })
}

/// Lets every fiber run that can, so that what was spawned has started and waits.
fn settle() {
    (0..200).for_each(|_| yield_now());
}

#[test]
fn an_urgent_fiber_goes_first_when_it_is_spawned_and_when_it_is_woken() {
    on_fibers(1, || {
        let order: Order = Rc::default();
        // Fibers that have not started have a share of the turns as well: those in the way here have.
        let normal = [(); 2].map(|()| waiting(&order, Priority::Normal, "normal"));
        let urgent = waiting(&order, Priority::High, "woken");
        settle();
        normal.iter().for_each(|fiber| fiber.fiber().unpark());
        urgent.fiber().unpark();
        let spawned = noted(&order, Priority::High, "spawned");
        normal.into_iter().chain([urgent, spawned]).for_each(|fiber| fiber.join().unwrap());
        assert_eq!(order.take(), ["spawned", "woken", "normal", "normal"]);
    });
}

#[test]
fn an_urgent_fiber_that_yields_lets_the_others_go_first() {
    on_fibers(1, || {
        let order: Order = Rc::default();
        let normal = waiting(&order, Priority::Normal, "normal");
        settle();
        normal.fiber().unpark();
        let inner = order.clone();
        let urgent = builder(Priority::High).spawn_local(move || {
            for _ in 0..2 {
                inner.borrow_mut().push("urgent");
                yield_now();
            }
        });
        urgent.join().unwrap();
        normal.join().unwrap();
        assert_eq!(order.take(), ["urgent", "normal", "urgent"]);
    });
}

#[test]
fn urgent_fibers_have_a_share_and_no_more() {
    on_fibers(1, || {
        // Urgent fibers that wake each other for ever: one of them is ready at any time.
        let stop = Rc::new(Cell::new(false));
        let urgent: Vec<_> = (0..3)
            .map(|_| {
                let stop = stop.clone();
                builder(Priority::High).spawn_local(move || {
                    while !stop.get() {
                        park();
                    }
                })
            })
            .collect();
        let fibers: Vec<_> = urgent.iter().map(|handle| handle.fiber().clone()).collect();
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let (stop, fibers) = (stop.clone(), fibers.clone());
                builder(Priority::High).spawn_local(move || {
                    while !stop.get() {
                        fibers.iter().for_each(|fiber| fiber.unpark());
                        yield_now();
                    }
                })
            })
            .collect();
        let turns = Rc::new(Cell::new(0));
        let (counted, told) = (turns.clone(), stop.clone());
        let normal = spawn_local(move || {
            while counted.get() < 100 {
                counted.set(counted.get() + 1);
                yield_now();
            }
            told.set(true);
        });
        normal.join_timeout(PATIENCE).expect("a normal fiber among urgent ones gets on").unwrap();
        fibers.iter().for_each(|fiber| fiber.unpark());
        urgent.into_iter().chain(wakers).for_each(|fiber| fiber.join().unwrap());
        assert_eq!(turns.get(), 100);
    });
}

#[test]
fn of_many_urgent_fibers_at_once_only_a_share_goes_before_the_others() {
    on_fibers(1, || {
        let order: Order = Rc::default();
        let normal = waiting(&order, Priority::Normal, "normal");
        let urgent: Vec<_> = (0..40).map(|_| waiting(&order, Priority::High, "urgent")).collect();
        settle();
        normal.fiber().unpark();
        urgent.iter().for_each(|fiber| fiber.fiber().unpark());
        normal.join().unwrap();
        urgent.into_iter().for_each(|fiber| fiber.join().unwrap());
        assert_eq!(order.take().iter().position(|&what| what == "normal"), Some(16));
    });
}

#[test]
fn a_fiber_of_low_priority_runs_when_nothing_else_does() {
    on_fibers(1, || {
        let order: Order = Rc::default();
        let inner = order.clone();
        let low = builder(Priority::Low).spawn_local(move || {
            inner.borrow_mut().push("low");
            yield_now();
            inner.borrow_mut().push("low again");
        });
        let normal: Vec<_> = (0..2)
            .map(|_| {
                let order = order.clone();
                spawn_local(move || {
                    for _ in 0..3 {
                        order.borrow_mut().push("normal");
                        yield_now();
                    }
                })
            })
            .collect();
        normal.into_iter().for_each(|fiber| fiber.join().unwrap());
        low.join().unwrap();
        let order = order.take();
        assert_eq!(order[..6], ["normal"; 6]);
        assert_eq!(order[6..], ["low", "low again"]);
    });
}

#[test]
fn a_fiber_of_low_priority_is_not_starved_by_busy_ones() {
    for workers in [1, 2] {
        on_fibers(workers, || {
            let turns = Arc::new(AtomicUsize::new(0));
            let counted = turns.clone();
            let low = builder(Priority::Low).spawn_local(move || {
                for _ in 0..5 {
                    counted.fetch_add(1, Ordering::SeqCst);
                    yield_now();
                }
            });
            let began = Instant::now();
            let mut busy = 0u64;
            while turns.load(Ordering::SeqCst) < 5 {
                assert!(began.elapsed() < PATIENCE, "{turns:?} turns while others were busy");
                busy += 1;
                yield_now();
            }
            low.join().unwrap();
            assert!(busy > 0);
        });
    }
}

/// A tree of fibers of all priorities, from fibers and from outside.
fn tree(runtime: &Runtime) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let all = [Priority::High, Priority::Normal, Priority::Low];
    let roots: Vec<_> = all
        .into_iter()
        .cycle()
        .take(60)
        .map(|priority| {
            let count = count.clone();
            runtime.handle().spawn_with(builder(priority), move || {
                let children: Vec<_> = all
                    .into_iter()
                    .cycle()
                    .take(30)
                    .map(|priority| {
                        let count = count.clone();
                        builder(priority).spawn(move || {
                            yield_now();
                            count.fetch_add(1, Ordering::Relaxed);
                        })
                    })
                    .collect();
                children.into_iter().for_each(|child| child.join().unwrap());
            })
        })
        .collect();
    roots.into_iter().for_each(|root| root.join_timeout(PATIENCE).expect("nobody is forgotten").unwrap());
    count.load(Ordering::Relaxed)
}

#[test]
fn fibers_of_every_priority_end_on_any_number_of_workers() {
    for workers in [1, 2, 4] {
        let runtime = runtime(workers);
        assert_eq!(tree(&runtime), 1800, "{workers} workers");
        assert!(runtime.stop(PATIENCE).is_clean());
    }
}
