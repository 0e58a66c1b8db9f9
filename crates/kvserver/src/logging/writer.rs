//! The queue of lines and the thread that writes them.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fiber_runtime::sync::{channel, oneshot};
use fiber_runtime::time;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the writer.
const QUEUED_LINES: usize = 8192;

/// Lines written with one system call, if so many wait.
const WRITE_LINES: usize = 256;

/// How long the end of the program waits for the last lines.
const FLUSH_TIME: Duration = Duration::from_secs(2);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines of this process that were dropped because the queue was full.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

enum Message {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

/// Hands lines to the writer thread without ever waiting. Cheap to clone.
#[derive(Clone)]
pub struct LineQueue {
    sender: channel::Sender<Message>,
    dropped: Arc<AtomicU64>,
}

impl LineQueue {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(to: Box<dyn Write + Send>) -> io::Result<(LineQueue, Guard)> {
        let (sender, receiver) = channel::bounded(QUEUED_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let queue = LineQueue { sender: sender.clone(), dropped: dropped.clone() };
        thread::Builder::new().name("log".into()).spawn(move || write_lines(&receiver, to, &dropped))?;
        Ok((queue, Guard { sender }))
    }

    fn push(&self, line: Vec<u8>) {
        if self.sender.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: self, bytes: Vec::new() }
    }
}

/// One line in the making; it is queued when it is dropped.
pub struct Line<'a> {
    queue: &'a LineQueue,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.queue.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// Writes out what waits when it is dropped.
pub struct Guard {
    sender: channel::Sender<Message>,
}

impl Guard {
    /// Waits until every line queued so far is written, at most two seconds.
    pub fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).is_ok() {
            // Late or not, there is nobody to tell.
            let _ = written.recv_until(time::now() + FLUSH_TIME);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The writer thread: ends when all queues and the guard are gone.
fn write_lines(receiver: &channel::Receiver<Message>, mut to: Box<dyn Write + Send>, dropped: &AtomicU64) {
    let mut messages = Vec::new();
    let mut bytes = Vec::new();
    let mut told = 0;
    while receiver.recv_many(&mut messages, WRITE_LINES).is_ok() {
        let mut flushed = Vec::new();
        bytes.clear();
        for message in messages.drain(..) {
            match message {
                Message::Line(line) => bytes.extend_from_slice(&line),
                Message::Flush(done) => flushed.push(done),
            }
        }
        let lost = dropped.load(Ordering::Relaxed);
        if lost > told {
            bytes.extend_from_slice(format!("{} log lines were dropped\n", lost - told).as_bytes());
            told = lost;
        }
        // A log that cannot be written has no place to say so.
        let _ = to.write_all(&bytes).and_then(|()| to.flush());
        for done in flushed {
            let _ = done.send(());
        }
    }
}
