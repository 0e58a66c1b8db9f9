//! What a panic says: whose it was, to standard error and to whoever joins.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::process::Command;

use common::{on_fibers, runtime};
use fiber_runtime::{FiberBuilder, JoinError, park, scope, spawn, yield_now};

#[test]
fn the_payload_of_a_panic_reaches_whoever_joins() {
    on_fibers(2, || {
        let text = spawn(|| panic!("text")).join().unwrap_err();
        assert!(text.is_panic() && !text.is_cancelled());
        assert_eq!((text.message(), text.to_string()), (Some("text"), "the fiber panicked: text".to_owned()));
        let formatted = spawn(|| panic!("{} and {}", 1, 2)).join().unwrap_err();
        assert_eq!(formatted.message(), Some("1 and 2"));
        let value = spawn(|| std::panic::panic_any(42u8)).join().unwrap_err();
        assert_eq!(value.message(), None);
        let JoinError::Panicked(payload) = value else { unreachable!("it panicked") };
        assert_eq!(payload.downcast_ref::<u8>(), Some(&42));
    });
}

/// The variable that turns a run of this program into the one that is looked at.
const CHILD: &str = "PANIC_CHILD";

#[test]
fn the_message_of_a_panic_says_which_fiber() {
    if std::env::var_os(CHILD).is_some() {
        let runtime = runtime(1);
        let parser = FiberBuilder::new().name("parser");
        let named = runtime.handle().spawn_with(parser, || panic!("unexpected token"));
        println!("named #{}", named.fiber().id());
        assert!(named.join().is_err());
        let unnamed = runtime.spawn(|| panic!("and nobody knows my name"));
        println!("unnamed #{}", unnamed.fiber().id());
        assert!(unnamed.join().is_err());
        // A cancellation is no failure: nothing is printed.
        runtime.block_on(|| {
            scope(|scope| {
                let quiet = scope.spawn_with(FiberBuilder::new().name("quiet"), park);
                yield_now();
                quiet.cancel();
            });
        });
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["the_message_of_a_panic_says_which_fiber", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let id_of = |what: &str| out.split(what).nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(err.contains(&format!("fiber 'parser' ({}) panics:", id_of("named "))), "{err}");
    assert!(err.contains("unexpected token"), "{err}");
    assert!(err.contains(&format!("fiber {} panics:", id_of("unnamed "))), "{err}");
    assert!(!err.contains("quiet"), "{err}");
}
