//! Spans of `tracing` across suspensions: an event is in the spans of its own fiber, whatever runs in between.

#![allow(clippy::unwrap_used, reason = "a test unwraps what it has arranged")]

mod common;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, Once};

use common::{PATIENCE, on_fibers, runtime, wait_for};
use fiber_runtime::trace::FiberSubscriber;
use fiber_runtime::{Runtime, park, sim, spawn, spawn_local, yield_now};
use tracing::{Event, Span, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The spans around each event, outermost first, by the event's message.
static SEEN: Mutex<Option<HashMap<String, Vec<String>>>> = Mutex::new(None);
/// The names of the spans that were closed.
static CLOSED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Recorder;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let scope = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let spans = scope.map(|span| span.name().to_owned()).collect();
        SEEN.lock().unwrap().get_or_insert_default().insert(message.0, spans);
    }

    fn on_close(&self, id: tracing::span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(&id) {
            CLOSED.lock().unwrap().push(span.name().to_owned());
        }
    }
}

/// Installs the recorder, once for all tests of this file.
fn record() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Recorder);
        tracing::subscriber::set_global_default(FiberSubscriber::new(subscriber)).unwrap();
    });
}

/// The spans that were around the event with this message.
#[track_caller]
fn around(message: &str) -> Vec<String> {
    let seen = SEEN.lock().unwrap();
    seen.as_ref().and_then(|seen| seen.get(message)).unwrap_or_else(|| panic!("no event '{message}'")).clone()
}

fn is_closed(span: &str) -> bool {
    CLOSED.lock().unwrap().iter().any(|closed| closed == span)
}

#[test]
fn two_fibers_that_take_turns_keep_their_spans() {
    record();
    on_fibers(1, || {
        let one = spawn(|| {
            let _in = info_span!("one").entered();
            for turn in 0..3 {
                info!("one {turn}");
                yield_now();
            }
        });
        let other = spawn(|| {
            let _in = info_span!("other").entered();
            for turn in 0..3 {
                info!("other {turn}");
                yield_now();
            }
        });
        let bystander = spawn(|| {
            for turn in 0..3 {
                info!("bystander {turn}");
                yield_now();
            }
        });
        for fiber in [one, other, bystander] {
            fiber.join().unwrap();
        }
    });
    for turn in 0..3 {
        assert_eq!(around(&format!("one {turn}")), ["one"]);
        assert_eq!(around(&format!("other {turn}")), ["other"]);
        assert!(around(&format!("bystander {turn}")).is_empty());
    }
}

#[test]
fn nested_spans_come_back_in_order() {
    record();
    on_fibers(1, || {
        let outer = info_span!("nest-outer").entered();
        let inner = info_span!("nest-inner").entered();
        let neighbour = spawn(|| {
            let _in = info_span!("nest-neighbour").entered();
            info!("nest: the neighbour");
            yield_now();
            info!("nest: the neighbour again");
        });
        yield_now();
        info!("nest: both");
        drop(inner);
        yield_now();
        info!("nest: the outer one");
        drop(outer);
        yield_now();
        info!("nest: none");
        neighbour.join().unwrap();
    });
    assert_eq!(around("nest: both"), ["nest-outer", "nest-inner"]);
    assert_eq!(around("nest: the outer one"), ["nest-outer"]);
    assert!(around("nest: none").is_empty());
    assert_eq!(around("nest: the neighbour"), ["nest-neighbour"]);
    assert_eq!(around("nest: the neighbour again"), ["nest-neighbour"]);
}

#[test]
fn guards_that_are_dropped_out_of_order_are_honoured() {
    record();
    on_fibers(1, || {
        let first = info_span!("order-first").entered();
        let second = info_span!("order-second").entered();
        drop(first);
        yield_now();
        info!("order: the second");
        drop(second);
        yield_now();
        info!("order: none");
    });
    assert_eq!(around("order: the second").last().unwrap(), "order-second");
    assert!(around("order: none").is_empty());
}

#[test]
fn the_current_span_is_the_fibers_own() {
    record();
    on_fibers(1, || {
        let _in = info_span!("current-mine").entered();
        let other = spawn(|| {
            let _in = info_span!("current-other").entered();
            yield_now();
            Span::current().metadata().map(|metadata| metadata.name())
        });
        yield_now();
        assert_eq!(Span::current().metadata().map(|metadata| metadata.name()), Some("current-mine"));
        assert_eq!(other.join().unwrap(), Some("current-other"));
        // A span made after a switch has the right parent.
        let _child = info_span!("current-child").entered();
        info!("current: child");
    });
    assert_eq!(around("current: child"), ["current-mine", "current-child"]);
}

#[test]
fn a_panic_closes_the_spans_of_its_fiber_only() {
    record();
    on_fibers(1, || {
        let survivor = spawn(|| {
            let _in = info_span!("panic-survivor").entered();
            park();
            info!("panic: the survivor");
        });
        yield_now();
        let failing = spawn(|| {
            let _in = info_span!("panic-failing").entered();
            yield_now();
            panic!("on purpose");
        });
        assert!(failing.join().is_err());
        info!("panic: after it");
        survivor.fiber().unpark();
        survivor.join().unwrap();
    });
    assert!(around("panic: after it").is_empty());
    assert_eq!(around("panic: the survivor"), ["panic-survivor"]);
    wait_for("the span to be closed", || is_closed("panic-failing"));
}

#[test]
fn a_cancelled_fiber_leaves_no_span_open() {
    record();
    on_fibers(1, || {
        let victim = spawn(|| {
            let _in = info_span!("cancel-victim").entered();
            park();
        });
        yield_now();
        victim.cancel();
        assert!(victim.join().is_err());
        info!("cancel: after it");
    });
    assert!(around("cancel: after it").is_empty());
    wait_for("the span to be closed", || is_closed("cancel-victim"));
}

#[test]
fn a_guard_that_is_leaked_does_not_outlive_its_fiber() {
    record();
    on_fibers(1, || {
        spawn_local(|| {
            let guard = info_span!("leak").entered();
            yield_now();
            // Leaked in a box, for `mem::forget` is forbidden here.
            Box::leak(Box::new(guard));
        })
        .join()
        .unwrap();
        info!("leak: after it");
    });
    assert!(around("leak: after it").is_empty());
}

#[test]
fn a_new_fiber_has_no_span_and_can_be_given_one() {
    record();
    on_fibers(2, || {
        let span = info_span!("given");
        let _in = span.clone().entered();
        spawn(|| info!("given: without")).join().unwrap();
        spawn(move || span.in_scope(|| info!("given: with"))).join().unwrap();
    });
    assert!(around("given: without").is_empty());
    assert_eq!(around("given: with"), ["given"]);
}

#[test]
fn the_spans_of_a_thread_are_its_own_while_it_drives_a_worker() {
    record();
    let runtime = Runtime::builder().workers(1).use_caller(true).build().unwrap();
    let _in = info_span!("thread-own").entered();
    info!("thread: before");
    runtime.block_on(|| {
        info!("thread: in the fiber");
        let _in = info_span!("thread-fiber").entered();
        yield_now();
        info!("thread: in the fiber's span");
    });
    info!("thread: after");
    assert_eq!(around("thread: before"), ["thread-own"]);
    assert!(around("thread: in the fiber").is_empty());
    assert_eq!(around("thread: in the fiber's span"), ["thread-fiber"]);
    assert_eq!(around("thread: after"), ["thread-own"]);
}

#[test]
fn a_thread_that_waits_in_block_on_keeps_its_spans() {
    record();
    let runtime = runtime(1);
    let _in = info_span!("waiting-thread").entered();
    runtime.block_on(|| {
        info!("waiting: in the fiber");
        yield_now();
    });
    info!("waiting: after");
    assert!(around("waiting: in the fiber").is_empty());
    assert_eq!(around("waiting: after"), ["waiting-thread"]);
    assert!(runtime.stop(PATIENCE).is_clean());
}

#[test]
fn spans_work_in_a_simulation() {
    record();
    sim::Sim::new(3).run(|| {
        let fibers: Vec<_> = (0..3)
            .map(|number| {
                spawn(move || {
                    let _in = info_span!("sim-fiber", number).entered();
                    for _ in 0..5 {
                        yield_now();
                        info!("sim: fiber {number}");
                    }
                })
            })
            .collect();
        for fiber in fibers {
            fiber.join().unwrap();
        }
        info!("sim: after");
    });
    for number in 0..3 {
        assert_eq!(around(&format!("sim: fiber {number}")), ["sim-fiber"]);
    }
    assert!(around("sim: after").is_empty());
}
