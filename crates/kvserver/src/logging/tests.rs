//! Lines arrive in order; a stuck writer costs lines and never time.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// A destination that can be held and looked into.
#[derive(Clone, Default)]
struct Destination(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    bytes: Vec<u8>,
    held: bool,
}

impl Destination {
    fn hold(&self, held: bool) {
        self.0.inside.lock().unwrap().held = held;
        self.0.changed.notify_all();
    }
    fn text(&self) -> String {
        String::from_utf8(self.0.inside.lock().unwrap().bytes.clone()).unwrap()
    }
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inside = self.0.inside.lock().unwrap();
        while inside.held {
            inside = self.0.changed.wait(inside).unwrap();
        }
        inside.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn events_arrive_as_whole_lines_in_order() {
    let to = Destination::default();
    let (queue, guard) = LineQueue::start(Box::new(to.clone())).unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(queue)
        .without_time()
        .with_ansi(false)
        .json()
        .flatten_event(true)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        for number in 0..100 {
            tracing::info!(number, "hello");
        }
    });
    drop(guard);
    let text = to.text();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 100);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["number"], number);
        assert_eq!(line["message"], "hello");
    }
}

#[test]
fn a_stuck_destination_costs_lines_and_is_told_about() {
    let to = Destination::default();
    to.hold(true);
    let (queue, guard) = LineQueue::start(Box::new(to.clone())).unwrap();
    let total = 20_000;
    for _ in 0..total {
        // Would hang here if a full queue made the caller wait.
        queue.make_writer().write_all(b"line\n").unwrap();
    }
    to.hold(false);
    guard.flush();
    let text = to.text();
    let written = text.lines().filter(|line| *line == "line").count();
    let lost: usize = text
        .lines()
        .filter_map(|line| line.strip_suffix(" log lines were dropped"))
        .map(|count| count.parse::<usize>().unwrap())
        .sum();
    assert!(lost > 0);
    assert_eq!(written + lost, total);
    assert!(dropped_lines() >= lost as u64);
}

#[test]
fn formats_are_named() {
    assert_eq!("json".parse::<Format>().unwrap(), Format::Json);
    assert_eq!("text".parse::<Format>().unwrap(), Format::Text);
    assert_eq!("xml".parse::<Format>().unwrap_err().to_string(), "log format 'xml' is neither text nor json");
}
