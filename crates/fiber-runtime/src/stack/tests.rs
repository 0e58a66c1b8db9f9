//! Reuse, guards, budget. The report of an overflow is in `tests/overflow.rs`.

use corosensei::stack::Stack;

use super::*;
use crate::Runtime;

#[test]
fn classes_cover_what_is_asked_for() {
    assert_eq!(stack_size(class_of(0)), MIN_STACK);
    assert_eq!(stack_size(class_of(MIN_STACK)), MIN_STACK);
    assert_eq!(stack_size(class_of(MIN_STACK + 1)), 2 * MIN_STACK);
    assert_eq!(stack_size(class_of(64 << 10)), 64 << 10);
    assert_eq!(stack_size(class_of(usize::MAX)), MAX_STACK);
    assert_eq!(usize::from(class_of(usize::MAX)), CLASSES - 1);
}

#[test]
fn a_stack_given_back_is_the_next_one_taken() {
    let mut cache = StackCache::new(false);
    let class = class_of(32 << 10);
    let stack = cache.take(class).unwrap();
    let low = stack.guard().start;
    cache.give(stack);
    assert_eq!(cache.take(class).unwrap().guard().start, low);
}

#[test]
fn stacks_do_not_overlap() {
    let mut cache = StackCache::new(false);
    let class = class_of(MIN_STACK);
    let stacks: Vec<FiberStack> = (0..2000).map(|_| cache.take(class).unwrap()).collect();
    let mut ranges: Vec<(usize, usize)> =
        stacks.iter().map(|stack| (stack.limit().get(), stack.base().get())).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{pair:x?}");
    }
    for stack in stacks {
        assert_eq!(stack.base().get() % corosensei::stack::STACK_ALIGNMENT, 0);
        cache.give(stack);
    }
}

#[test]
fn tops_of_stacks_differ_in_colour() {
    let mut cache = StackCache::new(false);
    let stacks: Vec<FiberStack> = (0..64).map(|_| cache.take(class_of(64 << 10)).unwrap()).collect();
    let colours: std::collections::HashSet<usize> =
        stacks.iter().map(|stack| stack.base().get() % 4096).collect();
    assert!(colours.len() > COLOURS / 2, "{} colours of 64 stacks", colours.len());
    for stack in stacks {
        cache.give(stack);
    }
}

#[test]
fn many_guarded_stacks_take_few_maps() {
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let mut cache = StackCache::new(false);
    let before = maps();
    let stacks: Vec<FiberStack> = (0..4000).map(|_| cache.take(class_of(128 << 10)).unwrap()).collect();
    let added = maps().saturating_sub(before);
    // With guard markers one map a chunk of 512 stacks, with mprotect two a stack. Other tests run at the same time.
    if arena::guards_are_markers() {
        assert!(added < 2000, "{added} maps for 4000 stacks");
    } else {
        assert!(added >= 4000, "{added} maps for 4000 stacks guarded by mprotect");
    }
    for stack in stacks {
        cache.give(stack);
    }
}

#[test]
fn a_worker_runs_many_fibers_on_few_stacks() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let distinct = runtime.block_on(|| {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            seen.insert(
                crate::spawn_local(|| std::hint::black_box(&0u8) as *const u8 as usize >> 14).join().unwrap(),
            );
        }
        seen.len()
    });
    assert!(distinct <= 2, "{distinct} stacks for fibers that ran one after the other");
}

#[test]
fn idle_workers_give_back_what_a_burst_left_behind() {
    const FIBERS: usize = 4000;
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let runtime = Runtime::builder().workers(1).stack_size(128 << 10).build().unwrap();
    let (before, peak) = runtime.block_on(move || {
        let before = resident();
        let touch = || {
            // More than a page, so that it shows beside what other tests do meanwhile.
            std::hint::black_box([1_u8; 16 << 10]);
            crate::park();
        };
        let fibers: Vec<_> = (0..FIBERS).map(|_| crate::spawn_local(touch)).collect();
        crate::yield_now();
        let peak = resident();
        fibers.iter().for_each(|fiber| fiber.fiber().unpark());
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        (before, peak)
    });
    let grown = peak - before;
    assert!(grown > FIBERS * (16 << 10), "{FIBERS} fibers made {grown} bytes resident");
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while resident() > before + grown / 2 {
        assert!(
            std::time::Instant::now() < patience,
            "{} of {grown} bytes are still there",
            resident() - before
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(runtime);
}
