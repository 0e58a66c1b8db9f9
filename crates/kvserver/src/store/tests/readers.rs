//! Readers beside the writer: consistent, never blocked for long, and the past does not pile up.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Driver, bytes};
use crate::command::{Condition, Write};

#[test]
fn the_versions_of_an_overwritten_key_stay_few() {
    let mut driver = Driver::new();
    let mut most = 0;
    for number in 0..20_000 {
        driver.put("hot", &number.to_string());
        most = most.max(driver.machine.summary().versions);
    }
    assert!(most <= 4, "{most} versions of one key");
}

#[test]
fn created_and_deleted_keys_leave_nothing_behind() {
    let mut driver = Driver::new();
    for number in 0..5_000 {
        let key = format!("key{number}");
        driver.put(&key, "1");
        driver.write(Write::Delete { keys: vec![bytes(&key)] });
    }
    driver.put("last", "1");
    driver.write(Write::Take { key: bytes("last") });
    assert!(driver.machine.summary().versions <= 4, "{} versions", driver.machine.summary().versions);
    assert_eq!(driver.machine.summary().state_hash, 0);
}

#[test]
fn sessions_leave_one_version_each() {
    let mut driver = Driver::new();
    driver.once(1, 0, Write::OpenSession);
    for sequence in 1..5_000 {
        driver.once(1, sequence, Write::Increment { key: bytes("n"), delta: 1 });
    }
    assert!(driver.machine.summary().versions <= 6, "{} versions", driver.machine.summary().versions);
}

#[test]
fn a_pin_holds_the_past_and_its_end_lets_it_go() {
    let mut driver = Driver::new();
    driver.put("k", "first");
    let pin = driver.machine.store().view().pin();
    for number in 0..5_000 {
        driver.put("k", &number.to_string());
    }
    assert_eq!(pin.get(&bytes("k")), Some(bytes("first")));
    assert!(driver.machine.summary().versions > 5_000);
    drop(pin);
    for number in 0..50 {
        driver.put("other", &number.to_string());
    }
    assert!(driver.machine.summary().versions <= 6, "{} versions", driver.machine.summary().versions);
}

/// Two keys are always written together; no reader may ever see them differ, and no key may seem to vanish.
#[test]
fn scans_and_reads_beside_the_writer_are_consistent() {
    let mut driver = Driver::new();
    let pairs = |number: u64| Write::PutMany {
        pairs: vec![(bytes("a"), bytes(&number.to_string())), (bytes("z"), bytes(&number.to_string()))],
        condition: Condition::Always,
    };
    driver.write(pairs(0));
    let store = driver.machine.store();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = || {
            let (mut reads, mut newest) = (0_u64, 0_u64);
            while !stop.load(Ordering::Relaxed) || reads == 0 {
                let page = store.view().pin().page(None, &bytes(""), 10, true);
                assert_eq!(page.entries.len(), 2, "{page:?}");
                assert_eq!(page.entries[0].1, page.entries[1].1, "{page:?}");
                let value = store.view().get(&bytes("a")).expect("the key is never removed");
                let value: u64 = std::str::from_utf8(&value).unwrap().parse().unwrap();
                assert!(value >= newest, "{value} after {newest}");
                let other = store.view().get(&bytes("z")).expect("the key is never removed");
                let other: u64 = std::str::from_utf8(&other).unwrap().parse().unwrap();
                assert!(other >= value, "a later read saw {other}, an earlier one {value}");
                newest = other;
                reads += 1;
            }
            reads
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        for number in 1..30_000 {
            driver.write(pairs(number));
        }
        stop.store(true, Ordering::Relaxed);
        let reads: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(reads > 0);
    });
    for number in 0..200 {
        driver.write(pairs(number));
    }
    assert!(driver.machine.summary().versions <= 8, "{} versions", driver.machine.summary().versions);
}
