//! Random commands against a `BTreeMap`, with snapshots and restores in between.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Driver, Random, bytes};
use crate::command::{Condition, Outcome, Read, ReadOutcome, Write};

/// What the store should hold. Written as plainly as possible.
#[derive(Default)]
struct Model(BTreeMap<Bytes, Bytes>);

impl Model {
    fn apply(&mut self, write: &Write, index: u64) -> Outcome {
        let map = &mut self.0;
        match write.clone() {
            Write::Put { key, value } => {
                map.insert(key, value);
                Outcome::Done { revision: index }
            }
            Write::Append { key, value } => {
                let whole = [map.get(&key).cloned().unwrap_or_default(), value].concat();
                let length = whole.len() as u64;
                map.insert(key, Bytes::from(whole));
                Outcome::Length(length)
            }
            Write::Delete { keys } => {
                Outcome::Count(keys.iter().filter(|key| map.remove(*key).is_some()).count() as u64)
            }
            Write::CompareAndSwap { key, expected, value } => {
                let current = map.get(&key).cloned();
                if current == expected {
                    map.insert(key, value);
                    Outcome::Swapped { swapped: true, current: None }
                } else {
                    Outcome::Swapped { swapped: false, current }
                }
            }
            Write::Increment { key, delta } => {
                let current = map.get(&key).map_or(Some(0), |v| std::str::from_utf8(v).unwrap().parse().ok());
                match current {
                    Some(current) => {
                        let sum: i64 = current + delta;
                        map.insert(key, Bytes::from(sum.to_string()));
                        Outcome::Integer(sum)
                    }
                    None => Outcome::Failed(crate::command::CommandError::NotAnInteger),
                }
            }
            Write::PutMany { pairs, condition } => {
                let stored =
                    condition == Condition::Always || pairs.iter().all(|(k, _)| !map.contains_key(k));
                if stored {
                    map.extend(pairs);
                }
                Outcome::Stored { stored, previous: None }
            }
            Write::Take { key } => {
                let previous = map.remove(&key);
                Outcome::Stored { stored: previous.is_some(), previous }
            }
            other => panic!("the model does not make {other:?}"),
        }
    }
}

fn random_write(random: &mut Random) -> Write {
    let key = |random: &mut Random| bytes(&format!("key{}", random.below(40)));
    let value = |random: &mut Random| bytes(&format!("{}", random.below(100)));
    match random.below(10) {
        0..=2 => Write::Put { key: key(random), value: value(random) },
        3 => Write::Append { key: key(random), value: bytes("x") },
        4 => Write::Delete { keys: vec![key(random), key(random)] },
        5 => Write::CompareAndSwap { key: key(random), expected: None, value: value(random) },
        6 => Write::CompareAndSwap { key: key(random), expected: Some(value(random)), value: value(random) },
        7 => Write::Increment { key: key(random), delta: random.below(1000) as i64 - 500 },
        8 => Write::PutMany {
            pairs: vec![(key(random), value(random)), (key(random), value(random))],
            condition: if random.below(2) == 0 { Condition::Always } else { Condition::IfAbsent },
        },
        _ => Write::Take { key: key(random) },
    }
}

fn contents(driver: &Driver) -> BTreeMap<Bytes, Bytes> {
    let read = Read::Scan { after: None, prefix: Bytes::new(), limit: 10_000, values: true };
    let ReadOutcome::Page(page) = driver.machine.store().read(&read) else { panic!("a scan gives a page") };
    page.entries.into_iter().map(|(key, value)| (key, value.unwrap())).collect()
}

#[test]
fn the_store_agrees_with_a_model_across_snapshots() {
    for seed in 1..=20 {
        let mut random = Random(seed);
        let (mut driver, mut model) = (Driver::new(), Model::default());
        for step in 0..1_000 {
            let write = random_write(&mut random);
            let expected = model.apply(&write, driver.index + 1);
            assert_eq!(driver.write(write.clone()), expected, "seed {seed}, step {step}: {write:?}");
            if random.below(100) == 0 {
                let before = driver.machine.summary();
                driver = Driver::restored(&driver.snapshot());
                let after = driver.machine.summary();
                assert_eq!(
                    (after.state_hash, after.keys, after.live_bytes, after.revision),
                    (before.state_hash, before.keys, before.live_bytes, before.revision),
                    "seed {seed}, step {step}"
                );
            }
        }
        assert_eq!(contents(&driver), model.0, "seed {seed}");
        let live: usize = model.0.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert_eq!(driver.machine.summary().live_bytes, live as u64, "seed {seed}");
    }
}

/// However a state was reached: entry by entry, in batches, or through a snapshot.
#[test]
fn equal_logs_give_equal_hashes() {
    let mut random = Random(7);
    let mut one = Driver::new();
    let mut batched = super::KvMachine::new();
    let mut restored = Driver::new();
    for step in 1..=2_000 {
        let write = random_write(&mut random);
        one.write(write.clone());
        restored.write(write.clone());
        batched.apply_command(step, crate::command::Command::from(write).encode());
        if step % 37 == 0 {
            batched.publish(step);
        }
        if step % 501 == 0 {
            restored = Driver::restored(&restored.snapshot());
        }
        let expected = one.machine.summary().state_hash;
        assert_eq!(batched.summary().state_hash, expected, "step {step}");
        assert_eq!(restored.machine.summary().state_hash, expected, "step {step}");
    }
}

#[test]
fn the_hash_tells_values_keys_and_revisions_apart() {
    let hash = |writes: &[(&str, &str)]| {
        let mut driver = Driver::new();
        for (key, value) in writes {
            driver.put(key, value);
        }
        driver.machine.summary().state_hash
    };
    let all = [
        hash(&[]),
        hash(&[("a", "1")]),
        hash(&[("a", "2")]),
        hash(&[("b", "1")]),
        hash(&[("a", "1"), ("a", "1")]),
        hash(&[("a", "1"), ("b", "2")]),
        hash(&[("b", "2"), ("a", "1")]),
        hash(&[("a", "b1")]),
        hash(&[("ab", "1")]),
    ];
    let mut distinct = all.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), all.len(), "{all:x?}");
}
