//! A write that is sent again is applied once.

use super::super::MAX_SESSIONS;
use super::{Driver, bytes};
use crate::command::{CommandError, Outcome, Write};

const CLIENT: u128 = 7 << 100;

fn append(text: &str) -> Write {
    Write::Append { key: bytes("k"), value: bytes(text) }
}

fn opened() -> Driver {
    let mut driver = Driver::new();
    assert_eq!(driver.once(CLIENT, 0, Write::OpenSession), Outcome::Done { revision: 1 });
    driver
}

#[test]
fn a_retried_write_gives_the_first_outcome_and_is_applied_once() {
    let mut driver = opened();
    assert_eq!(driver.once(CLIENT, 1, append("ab")), Outcome::Length(2));
    let hash = driver.machine.summary().state_hash;
    for _ in 0..3 {
        assert_eq!(driver.once(CLIENT, 1, append("ab")), Outcome::Length(2));
    }
    assert_eq!(driver.get("k"), Some(bytes("ab")));
    assert_eq!(driver.machine.summary().state_hash, hash);
}

#[test]
fn a_retried_failure_stays_a_failure() {
    let mut driver = opened();
    driver.put("n", "x");
    let add = || Write::Increment { key: bytes("n"), delta: 1 };
    let failed = Outcome::Failed(CommandError::NotAnInteger);
    assert_eq!(driver.once(CLIENT, 1, add()), failed);
    driver.put("n", "5");
    assert_eq!(driver.once(CLIENT, 1, add()), failed);
    assert_eq!(driver.once(CLIENT, 2, add()), Outcome::Integer(6));
}

#[test]
fn a_retried_write_is_applied_once_across_a_snapshot() {
    let mut driver = opened();
    assert_eq!(driver.once(CLIENT, 1, append("ab")), Outcome::Length(2));
    let mut driver = Driver::restored(&driver.snapshot());
    assert_eq!(driver.once(CLIENT, 1, append("ab")), Outcome::Length(2));
    assert_eq!(driver.once(CLIENT, 2, append("c")), Outcome::Length(3));
    assert_eq!(driver.get("k"), Some(bytes("abc")));
}

#[test]
fn an_older_sequence_is_stale() {
    let mut driver = opened();
    driver.once(CLIENT, 1, append("a"));
    driver.once(CLIENT, 5, append("b"));
    for old in [1, 4] {
        let outcome = driver.once(CLIENT, old, append("z"));
        assert_eq!(outcome, Outcome::Failed(CommandError::StaleSequence));
    }
    assert_eq!(driver.get("k"), Some(bytes("ab")));
}

#[test]
fn a_session_must_be_opened_and_opening_again_changes_nothing() {
    let mut driver = Driver::new();
    let unknown = Outcome::Failed(CommandError::UnknownSession);
    assert_eq!(driver.once(CLIENT, 1, append("a")), unknown);
    assert_eq!(driver.get("k"), None);
    driver.once(CLIENT, 0, Write::OpenSession);
    assert_eq!(driver.once(CLIENT, 1, append("a")), Outcome::Length(1));
    driver.once(CLIENT, 0, Write::OpenSession);
    assert_eq!(driver.once(CLIENT, 1, append("a")), Outcome::Length(1));
    assert_eq!(driver.get("k"), Some(bytes("a")));
    assert_eq!(driver.once(CLIENT, 0, append("a")), Outcome::Failed(CommandError::StaleSequence));
}

/// The original drew every client id from an unseeded generator, so that a second client's writes were taken for
/// repetitions of the first one's.
#[test]
fn two_clients_with_equal_sequences_both_write() {
    let mut driver = opened();
    driver.once(CLIENT + 1, 0, Write::OpenSession);
    assert_eq!(driver.once(CLIENT, 1, append("a")), Outcome::Length(1));
    assert_eq!(driver.once(CLIENT + 1, 1, append("b")), Outcome::Length(2));
    assert_eq!(driver.get("k"), Some(bytes("ab")));
}

#[test]
fn the_session_used_longest_ago_is_evicted_on_every_replica_alike() {
    let mut driver = Driver::new();
    for client in 0..MAX_SESSIONS as u128 {
        driver.once(client, 0, Write::OpenSession);
    }
    assert_eq!(driver.once(0, 1, append("a")), Outcome::Length(1));
    let mut replica = Driver::restored(&driver.snapshot());
    for driver in [&mut driver, &mut replica] {
        driver.once(CLIENT, 0, Write::OpenSession);
        assert_eq!(driver.machine.summary().sessions, MAX_SESSIONS as u64);
        // Client 0 was used after client 1, so client 1 is the one that went.
        assert_eq!(driver.once(0, 2, append("b")), Outcome::Length(2));
        let outcome = driver.once(1, 1, append("z"));
        assert_eq!(outcome, Outcome::Failed(CommandError::UnknownSession));
    }
    assert_eq!(driver.machine.summary().state_hash, replica.machine.summary().state_hash);
}

#[test]
fn large_outcomes_are_bounded_by_bytes() {
    let mut driver = Driver::new();
    let value = bytes::Bytes::from(vec![1; 16 << 20]);
    driver.write(Write::Put { key: bytes("k"), value });
    let cas = || Write::CompareAndSwap { key: bytes("k"), expected: None, value: bytes("") };
    for client in 1..=6 {
        driver.once(client, 0, Write::OpenSession);
        driver.once(client, 1, cas());
    }
    assert_eq!(driver.machine.summary().sessions, 4, "64 MiB hold four outcomes of 16 MiB");
    assert_eq!(driver.once(1, 2, cas()), Outcome::Failed(CommandError::UnknownSession));
    assert!(matches!(driver.once(6, 1, cas()), Outcome::Swapped { swapped: false, current: Some(_) }));
}
