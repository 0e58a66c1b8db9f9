//! A snapshot holds one moment, and a damaged one changes nothing.

use super::super::{KvMachine, SnapshotError};
use super::{Driver, bytes};
use crate::command::Write;

fn filled() -> Driver {
    let mut driver = Driver::new();
    driver.once(9, 0, Write::OpenSession);
    driver.once(9, 1, Write::Append { key: bytes("log"), value: bytes("entry") });
    for number in 0..300 {
        driver.put(&format!("key{number:03}"), &"v".repeat(number));
    }
    driver
}

#[test]
fn a_frozen_state_does_not_see_later_writes() {
    let mut driver = filled();
    let frozen = driver.machine.frozen();
    let before = driver.machine.summary();
    for number in 0..300 {
        driver.put(&format!("key{number:03}"), "overwritten");
        driver.write(Write::Delete { keys: vec![bytes(&format!("key{:03}", 299 - number))] });
    }
    driver.once(9, 2, Write::Append { key: bytes("log"), value: bytes("!") });
    let mut file = Vec::new();
    frozen.write(&mut file).unwrap();
    drop(frozen);
    let restored = Driver::restored(&file);
    assert_eq!(restored.machine.summary().state_hash, before.state_hash);
    assert_eq!(restored.index, before.applied_index);
    assert_eq!(restored.get("key299"), Some(bytes(&"v".repeat(299))));
}

#[test]
fn every_truncation_is_refused_and_changes_nothing() {
    let file = filled().snapshot();
    let mut driver = Driver::new();
    driver.put("mine", "1");
    let before = driver.machine.summary();
    for length in (0..file.len()).step_by(97).chain(file.len() - 12..file.len()) {
        assert!(driver.machine.restore_from(&mut &file[..length]).is_err(), "cut to {length} bytes");
    }
    assert_eq!(driver.machine.summary(), before);
    assert_eq!(driver.get("mine"), Some(bytes("1")));
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut driver = Driver::new();
    driver.once(9, 0, Write::OpenSession);
    driver.put("a", "1");
    driver.put("b", "2");
    let file = driver.snapshot();
    for bit in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut machine = KvMachine::new();
        assert!(machine.restore_from(&mut &damaged[..]).is_err(), "bit {bit}");
        assert_eq!(machine.summary(), KvMachine::new().summary(), "bit {bit}");
    }
}

#[test]
fn a_missing_block_does_not_add_up() {
    let mut driver = Driver::new();
    driver.put("a", "1");
    let file = driver.snapshot();
    // Magic, then the header block; drop the data block between header and trailer.
    let block = |at: usize| 8 + u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let data = 8 + block(8);
    let trailer = data + block(data);
    let cut = [&file[..data], &file[trailer..]].concat();
    let error = KvMachine::new().restore_from(&mut &cut[..]).unwrap_err();
    assert!(matches!(error, SnapshotError::Mismatch { .. }), "{error}");
}

#[test]
fn a_huge_length_is_refused_before_memory_is_taken() {
    let mut file = Driver::new().snapshot();
    file[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = KvMachine::new().restore_from(&mut &file[..]).unwrap_err();
    assert!(matches!(error, SnapshotError::Damaged { block: 0, .. }), "{error}");
}

#[test]
fn readers_see_the_old_state_or_the_new_one() {
    let file = filled().snapshot();
    let mut driver = Driver::new();
    driver.put("old", "1");
    let store = driver.machine.store();
    let old = store.view();
    let pin = old.pin();
    driver.machine.restore_from(&mut &file[..]).unwrap();
    assert_eq!(old.get(&bytes("old")), Some(bytes("1")), "a view taken before stays whole");
    assert_eq!(pin.get(&bytes("log")), None);
    assert_eq!(store.view().get(&bytes("old")), None);
    assert_eq!(store.view().get(&bytes("log")), Some(bytes("entry")));
    assert_eq!(store.summary().applied_index, 302);
}
