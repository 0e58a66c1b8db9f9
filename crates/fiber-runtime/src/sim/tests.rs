//! Determinism, virtual time, crashes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::{JoinError, park, spawn, time, yield_now};

fn workload() -> Vec<u64> {
    let order = Arc::new(crate::sync::Spin::new(Vec::new()));
    let handles: Vec<_> = (0..10u64)
        .map(|n| {
            let order = order.clone();
            spawn(move || {
                for _ in 0..5 {
                    time::sleep(Duration::from_micros(random_u64() % 100));
                    order.lock(|order| order.push(n));
                    yield_now();
                }
            })
        })
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
    order.lock(std::mem::take)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        let (first, second) = (Sim::new(seed), Sim::new(seed));
        assert_eq!(first.run(workload), second.run(workload));
        assert_eq!(first.trace_hash(), second.trace_hash());
        assert_eq!(first.steps(), second.steps());
    }
}

#[test]
fn different_seeds_give_different_runs() {
    let runs: std::collections::HashSet<Vec<u64>> =
        (0..20).map(|seed| Sim::new(seed).run(workload)).collect();
    assert!(runs.len() > 15, "{} different runs of 20", runs.len());
}

#[test]
fn the_schedule_alone_differs_between_seeds() {
    let run = |seed| {
        Sim::new(seed).run(|| {
            let order = Arc::new(crate::sync::Spin::new(Vec::new()));
            let handles: Vec<_> = (0..6)
                .map(|n| {
                    let order = order.clone();
                    spawn(move || order.lock(|order| order.push(n)))
                })
                .collect();
            for handle in handles {
                handle.join().unwrap();
            }
            order.lock(std::mem::take)
        })
    };
    let orders: std::collections::HashSet<Vec<i32>> = (0..50).map(run).collect();
    assert!(orders.len() > 30, "{} different orders of 50", orders.len());
    assert_eq!(run(7), run(7));
}

#[test]
fn a_sleep_of_days_is_instant() {
    let began = Instant::now();
    let days = Duration::from_secs(30 * 86_400);
    let slept = Sim::new(1).run(|| {
        let began = time::now();
        time::sleep(days);
        time::now() - began
    });
    assert!(slept >= days && slept < days + Duration::from_millis(1), "{slept:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_deadlock_panics_and_names_the_fibers() {
    let panic = std::panic::catch_unwind(|| {
        Sim::new(3).run(|| {
            let stuck = crate::FiberBuilder::new().name("stuck").spawn(park);
            stuck.join().unwrap();
        });
    });
    let message = *panic.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("deadlock"), "{message}");
    assert!(message.contains("'stuck'") && message.contains("waits: park"), "{message}");
    assert!(message.contains("'main'") && message.contains("waits: join"), "{message}");
}

#[test]
fn leftover_fibers_end_with_the_run() {
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    Sim::new(5).run(|| {
        for n in 0..10 {
            let count = Count(dropped.clone());
            spawn(move || {
                let _count = count;
                if n % 2 == 0 { park() } else { time::sleep(Duration::from_secs(1 << 40)) }
            })
            .detach();
        }
        yield_now();
    });
    assert_eq!(dropped.load(Ordering::SeqCst), 10);
}

#[test]
fn a_panic_of_a_detached_fiber_fails_the_run() {
    let panic = std::panic::catch_unwind(|| {
        Sim::new(3).run(|| {
            spawn(|| panic!("unseen")).detach();
            time::sleep(Duration::from_secs(10));
        });
    });
    assert!(panic.unwrap_err().downcast::<String>().unwrap().contains("panicked"));
}

#[test]
fn the_first_fibers_panic_is_the_runs() {
    let panic = std::panic::catch_unwind(|| Sim::new(3).run(|| panic!("main")));
    assert_eq!(*panic.unwrap_err().downcast::<&str>().unwrap(), "main");
}

#[test]
fn a_cancelled_group_has_ended_when_cancel_returns() {
    for seed in 0..200 {
        Sim::new(seed).run(|| {
            let group = Group::new("node");
            let after = Arc::new(AtomicBool::new(false));
            let ended = Arc::new(AtomicUsize::new(0));
            struct Ends(Arc<AtomicUsize>);
            impl Drop for Ends {
                fn drop(&mut self) {
                    self.0.fetch_add(1, Ordering::SeqCst);
                }
            }
            let (flag, count) = (after.clone(), ended.clone());
            let parent = group.spawn(move || {
                let children: Vec<_> = (0..3)
                    .map(|n| {
                        let (flag, ends) = (flag.clone(), Ends(count.clone()));
                        spawn(move || {
                            let _ends = ends;
                            for _ in 0..random_u64() % 4 {
                                yield_now();
                            }
                            match n {
                                0 => park(),
                                1 => time::sleep(Duration::from_secs(1)),
                                _ => loop {
                                    yield_now();
                                },
                            }
                            flag.store(true, Ordering::SeqCst);
                        })
                    })
                    .collect();
                for child in children {
                    child.join().unwrap();
                }
            });
            for _ in 0..random_u64() % 10 {
                yield_now();
            }
            group.cancel();
            assert!(group.is_empty());
            assert!(matches!(parent.join(), Err(JoinError::Cancelled)));
            assert!(!after.load(Ordering::SeqCst), "a fiber went on after the crash");
            assert_eq!(ended.load(Ordering::SeqCst) % 3, 0);
            // The machine is down: nothing starts on it.
            assert!(matches!(group.spawn(|| ()).join(), Err(JoinError::Cancelled)));
        });
    }
}

#[test]
fn a_member_that_cancels_its_group_ends_there() {
    Sim::new(9).run(|| {
        let group = Group::new("node");
        let own = group.clone();
        let sibling = group.spawn(park);
        let member = group.spawn(move || {
            own.cancel();
            unreachable!("the member is cancelled, too");
        });
        assert!(matches!(member.join(), Err(JoinError::Cancelled)));
        assert!(matches!(sibling.join(), Err(JoinError::Cancelled)));
        assert!(group.is_empty());
    });
}

#[test]
fn thousands_of_simulations_run_in_one_process() {
    let total: u64 = (0..3000).map(|seed| Sim::new(seed).run(|| spawn(random_u64).join().unwrap() % 2)).sum();
    assert!((1000..2000).contains(&total), "{total}");
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    let order = Sim::new(4).run(|| {
        let order = Arc::new(crate::sync::Spin::new(Vec::new()));
        let handles: Vec<_> = [50u64, 10, 40, 20, 30]
            .into_iter()
            .map(|millis| {
                let order = order.clone();
                spawn(move || {
                    time::sleep(Duration::from_millis(millis));
                    order.lock(|order| order.push(millis));
                })
            })
            .collect();
        for handle in handles {
            handle.join().unwrap();
        }
        order.lock(std::mem::take)
    });
    assert_eq!(order, [10, 20, 30, 40, 50]);
}

#[test]
fn descriptors_are_refused() {
    let error =
        Sim::new(1).run(|| crate::reactor::wait(0, crate::reactor::Interest::Read, None).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
}

#[test]
fn is_simulated_only_inside() {
    assert!(!is_simulated());
    assert!(Sim::new(1).run(is_simulated));
    assert!(!is_simulated());
}
