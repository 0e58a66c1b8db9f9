//! The stack-usage probe: how deep each kind of fiber has used its stack.

#![allow(clippy::unwrap_used, reason = "a test unwraps what it has arranged")]

mod common;

use std::io::Read;

use common::wait_for;
use fiber_runtime::{FiberBuilder, Runtime, park, spawn, yield_now};

fn probed(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).stack_probe(true).stack_size(256 << 10).build().unwrap()
}

/// Uses about `kibibytes` of stack.
#[inline(never)]
fn uses(kibibytes: usize) -> usize {
    let frame = std::hint::black_box([0xa5_u8; 1024]);
    let deeper = if kibibytes > 1 { uses(kibibytes - 1) } else { 0 };
    deeper + usize::from(std::hint::black_box(&frame)[512])
}

fn named(name: &'static str) -> FiberBuilder {
    FiberBuilder::new().name(name)
}

#[test]
fn the_mark_is_that_of_the_fiber_that_used_most() {
    let runtime = probed(1);
    let handle = runtime.handle();
    handle.spawn_with(named("shallow"), || uses(4)).join().unwrap();
    for depth in [8, 100, 16] {
        handle.spawn_with(named("deep"), move || uses(depth)).join().unwrap();
    }
    // A fiber's end is counted a moment after its result is there.
    wait_for("four ends", || runtime.stack_usage().rows.iter().map(|row| row.ended).sum::<u64>() == 4);
    let table = runtime.stack_usage();
    let (shallow, deep) = (table.get("shallow").unwrap(), table.get("deep").unwrap());
    assert_eq!((shallow.ended, deep.ended), (1, 3));
    assert!((4 << 10..64 << 10).contains(&shallow.used), "{table}");
    assert!((100 << 10..180 << 10).contains(&deep.used), "{table}");
    assert_eq!(deep.size, 256 << 10);
    assert_eq!(table.rows[0].name, "deep", "those that use most come first: {table}");
}

#[test]
fn a_stack_used_again_does_not_show_what_was_before() {
    let runtime = probed(1);
    let handle = runtime.handle();
    for _ in 0..3 {
        // The two are cleaned in different ways: one is written full of zeroes, the other given back to the kernel.
        for (name, depth) in [("deepest", 200), ("deep", 60)] {
            handle.spawn_with(named(name), move || uses(depth)).join().unwrap();
            handle.spawn_with(named("shallow"), || uses(2)).join().unwrap();
        }
    }
    wait_for("twelve ends", || runtime.stack_usage().rows.iter().map(|row| row.ended).sum::<u64>() == 12);
    let table = runtime.stack_usage();
    assert!(table.get("shallow").unwrap().used < 50 << 10, "{table}");
    assert!(table.get("deepest").unwrap().used > 200 << 10, "{table}");
}

#[test]
fn stacks_of_a_runtime_without_the_probe_are_cleaned_first() {
    // More fibers at once than a worker keeps stacks of, so that some go to the depot that all share.
    let plain = Runtime::builder().workers(1).stack_size(256 << 10).build().unwrap();
    plain.block_on(|| {
        let fibers: Vec<_> = (0..300)
            .map(|_| {
                spawn(|| {
                    uses(100);
                    yield_now();
                })
            })
            .collect();
        for fiber in fibers {
            fiber.join().unwrap();
        }
    });
    drop(plain);
    let runtime = probed(1);
    runtime.block_on(|| {
        let fibers: Vec<_> = (0..300).map(|_| named("shallow").spawn(|| (uses(2), yield_now()))).collect();
        for fiber in fibers {
            fiber.join().unwrap();
        }
    });
    let table = runtime.stack_usage();
    assert!(table.get("shallow").unwrap().used < 50 << 10, "{table}");
}

#[test]
fn a_fiber_that_has_not_ended_is_counted_where_it_waits() {
    let runtime = probed(2);
    let waiting: Vec<_> = (0..200)
        .map(|_| {
            runtime.handle().spawn_with(named("waiting"), || {
                uses(40);
                park();
            })
        })
        .collect();
    wait_for("all to wait", || runtime.stack_usage().get("waiting").is_some_and(|row| row.alive == 200));
    let table = runtime.stack_usage();
    let row = table.get("waiting").unwrap();
    assert!((40 << 10..100 << 10).contains(&row.used), "{table}");
    assert_eq!((row.ended, table.silent.len()), (0, 0));
    for fiber in waiting {
        fiber.fiber().unpark();
        fiber.join().unwrap();
    }
    wait_for("all to end", || runtime.stack_usage().get("waiting").is_some_and(|row| row.ended == 200));
}

#[test]
fn a_fiber_can_ask() {
    let runtime = probed(1);
    let table = runtime.block_on(|| fiber_runtime::Handle::current().stack_usage());
    assert_eq!(table.get("block_on").map(|row| row.alive), Some(1), "{table}");
}

#[test]
fn names_beyond_the_limit_are_put_together() {
    let runtime = probed(1);
    runtime.block_on(|| {
        for number in 0..1100 {
            FiberBuilder::new().name(format!("fiber {number}")).spawn(|| ()).join().unwrap();
        }
    });
    let table = runtime.stack_usage();
    assert!(table.rows.len() <= 1026, "{} rows", table.rows.len());
    assert!(table.get("(others)").unwrap().ended >= 70);
}

#[test]
fn without_the_probe_the_table_is_empty() {
    let runtime = common::runtime(1);
    runtime.block_on(|| spawn(|| uses(10)).join().unwrap());
    assert!(runtime.stack_usage().rows.is_empty());
}

#[test]
fn a_fiber_that_reads_from_a_socket_needs_little_stack() {
    // Unoptimised frames are several times larger; what this guards against is a large array in one of them.
    const LIMIT: usize = 8 << 10;
    let runtime = probed(1);
    runtime.block_on(|| {
        let listener = fiber_runtime::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = fiber_runtime::net::TcpStream::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let reader = FiberBuilder::new().name("reader").spawn(move || {
            let mut buffer = [0; 64];
            server.read(&mut buffer).unwrap()
        });
        fiber_runtime::yield_now();
        drop(client);
        assert_eq!(reader.join().unwrap(), 0);
    });
    let table = runtime.stack_usage();
    let used = table.get("reader").expect("a fiber of this name has ended").used;
    assert!(used < LIMIT, "{used} bytes of stack for a read");
}
