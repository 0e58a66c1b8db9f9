//! What each command does and gives.

use super::{Driver, bytes};
use crate::command::write::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::command::{CommandError, Condition, Outcome, Read, ReadOutcome, Write};

#[test]
fn append_concatenates_and_gives_the_length() {
    let mut driver = Driver::new();
    let append = |text: &str| Write::Append { key: bytes("k"), value: bytes(text) };
    assert_eq!(driver.write(append("ab")), Outcome::Length(2));
    assert_eq!(driver.write(append("cde")), Outcome::Length(5));
    assert_eq!(driver.get("k"), Some(bytes("abcde")));
}

#[test]
fn delete_counts_each_key_once_and_only_if_it_was_there() {
    let mut driver = Driver::new();
    driver.put("a", "1");
    driver.put("b", "2");
    let keys = vec![bytes("a"), bytes("a"), bytes("missing"), bytes("b")];
    assert_eq!(driver.write(Write::Delete { keys }), Outcome::Count(2));
    assert_eq!(driver.get("a"), None);
    assert_eq!(driver.machine.summary().keys, 0);
    assert_eq!(driver.machine.summary().live_bytes, 0);
}

#[test]
fn compare_and_swap_tells_the_value_it_found() {
    let mut driver = Driver::new();
    let cas = |expected: Option<&str>, value: &str| Write::CompareAndSwap {
        key: bytes("k"),
        expected: expected.map(bytes),
        value: bytes(value),
    };
    let swapped = Outcome::Swapped { swapped: true, current: None };
    assert_eq!(driver.write(cas(Some("x"), "1")), Outcome::Swapped { swapped: false, current: None });
    assert_eq!(driver.write(cas(None, "1")), swapped);
    let refused = Outcome::Swapped { swapped: false, current: Some(bytes("1")) };
    assert_eq!(driver.write(cas(None, "2")), refused);
    assert_eq!(driver.write(cas(Some("1"), "2")), swapped);
    assert_eq!(driver.get("k"), Some(bytes("2")));
}

#[test]
fn conditional_puts_respect_their_condition_and_tell_the_old_value() {
    let mut driver = Driver::new();
    let put = |value: &str, condition, return_old| Write::PutIf {
        key: bytes("k"),
        value: bytes(value),
        condition,
        return_old,
    };
    let stored = |stored, previous: Option<&str>| Outcome::Stored { stored, previous: previous.map(bytes) };
    assert_eq!(driver.write(put("1", Condition::IfPresent, true)), stored(false, None));
    assert_eq!(driver.write(put("1", Condition::IfAbsent, true)), stored(true, None));
    assert_eq!(driver.write(put("2", Condition::IfAbsent, true)), stored(false, Some("1")));
    assert_eq!(driver.write(put("2", Condition::IfAbsent, false)), stored(false, None));
    assert_eq!(driver.write(put("3", Condition::Always, true)), stored(true, Some("1")));
    assert_eq!(driver.write(Write::Take { key: bytes("k") }), stored(true, Some("3")));
    assert_eq!(driver.write(Write::Take { key: bytes("k") }), stored(false, None));
}

#[test]
fn put_many_is_all_or_nothing_and_the_last_of_equal_keys_stays() {
    let mut driver = Driver::new();
    let pairs =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| (bytes(key), bytes(value))).collect();
    let all = Write::PutMany {
        pairs: pairs(&[("a", "1"), ("b", "2"), ("a", "3")]),
        condition: Condition::IfAbsent,
    };
    assert_eq!(driver.write(all), Outcome::Stored { stored: true, previous: None });
    assert_eq!((driver.get("a"), driver.get("b")), (Some(bytes("3")), Some(bytes("2"))));
    assert_eq!(driver.machine.summary().keys, 2);
    let none = Write::PutMany { pairs: pairs(&[("c", "1"), ("a", "9")]), condition: Condition::IfAbsent };
    assert_eq!(driver.write(none), Outcome::Stored { stored: false, previous: None });
    assert_eq!(driver.get("c"), None);
}

#[test]
fn increment_takes_only_what_it_would_write_itself() {
    let mut driver = Driver::new();
    let add = |delta| Write::Increment { key: bytes("n"), delta };
    assert_eq!(driver.write(add(5)), Outcome::Integer(5));
    assert_eq!(driver.write(add(-7)), Outcome::Integer(-2));
    assert_eq!(driver.get("n"), Some(bytes("-2")));
    for bad in ["", "01", "+1", " 1", "1 ", "-0", "1.0", "x", "9223372036854775808"] {
        driver.put("n", bad);
        assert_eq!(driver.write(add(1)), Outcome::Failed(CommandError::NotAnInteger), "{bad:?}");
        assert_eq!(driver.get("n"), Some(bytes(bad)));
    }
    driver.put("n", &i64::MAX.to_string());
    assert_eq!(driver.write(add(1)), Outcome::Failed(CommandError::Overflow));
    assert_eq!(driver.write(add(0)), Outcome::Integer(i64::MAX));
}

#[test]
fn an_append_beyond_the_longest_value_changes_nothing() {
    let mut driver = Driver::new();
    let value = bytes::Bytes::from(vec![7; MAX_VALUE_BYTES]);
    driver.write(Write::Put { key: bytes("k"), value });
    let before = driver.machine.summary().state_hash;
    let outcome = driver.write(Write::Append { key: bytes("k"), value: bytes("x") });
    assert_eq!(outcome, Outcome::Failed(CommandError::ValueTooLarge));
    assert_eq!(driver.machine.summary().state_hash, before);
}

#[test]
fn a_command_that_cannot_be_decoded_fails_the_same_way_everywhere() {
    let mut driver = Driver::new();
    let outcome = driver.machine.apply_command(1, bytes("\u{1}garbage"));
    assert_eq!(outcome, Outcome::Failed(CommandError::Malformed));
    let key = bytes::Bytes::from(vec![b'k'; MAX_KEY_BYTES + 1]);
    let long = Write::Take { key };
    let outcome = driver.machine.apply_command(2, crate::command::Command::from(long).encode());
    assert_eq!(outcome, Outcome::Failed(CommandError::Malformed));
    assert_eq!(driver.machine.summary().state_hash, 0);
}

#[test]
fn reads_answer_from_the_published_state() {
    let mut driver = Driver::new();
    for key in ["a", "ab", "abc", "b", "c"] {
        driver.put(key, &format!("value of {key}"));
    }
    let store = driver.machine.store();
    let keys = vec![bytes("b"), bytes("x"), bytes("b")];
    assert_eq!(store.read(&Read::Exists { keys: keys.clone() }), ReadOutcome::Count(2));
    let values = vec![Some(bytes("value of b")), None, Some(bytes("value of b"))];
    assert_eq!(store.read(&Read::MultiGet { keys }), ReadOutcome::Values(values));
    assert_eq!(store.read(&Read::Length { key: bytes("ab") }), ReadOutcome::Length(11));
    assert_eq!(store.read(&Read::Length { key: bytes("x") }), ReadOutcome::Length(0));
    assert_eq!(store.read(&Read::Count), ReadOutcome::Count(5));

    let scan = |after: Option<&str>, prefix: &str, limit| {
        let read = Read::Scan { after: after.map(bytes), prefix: bytes(prefix), limit, values: false };
        let ReadOutcome::Page(page) = store.read(&read) else { panic!("a scan gives a page") };
        let keys: Vec<String> =
            page.entries.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect();
        (keys.join(" "), page.more)
    };
    assert_eq!(scan(None, "", 100), ("a ab abc b c".to_owned(), false));
    assert_eq!(scan(None, "a", 2), ("a ab".to_owned(), true));
    assert_eq!(scan(Some("ab"), "a", 2), ("abc".to_owned(), false));
    assert_eq!(scan(Some("0"), "b", 2), ("b".to_owned(), false));
    assert_eq!(scan(Some("c"), "", 2), (String::new(), false));

    // Not published: not seen.
    let put = Write::Put { key: bytes("d"), value: bytes("1") };
    driver.machine.apply_command(6, crate::command::Command::from(put).encode());
    assert_eq!(driver.get("d"), None);
    driver.machine.publish(6);
    assert_eq!(driver.get("d"), Some(bytes("1")));
}
