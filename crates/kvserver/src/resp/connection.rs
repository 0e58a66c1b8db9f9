//! One client: read, decode, execute as one batch, encode, send.
//!
//! The fiber does one thing at a time, and that is the flow control: while replies wait for a client that does not
//! read, nothing is read from it, so what it can make the server hold is one batch and [`SEND_BYTES`] of replies.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use fiber_runtime::net::TcpStream;
use fiber_runtime::time;

use super::decode::{Arguments, Batch, Decoder};
use super::encode::{Output, Version};
use super::local::{Client, Context, Session};
use super::reply::{self, Shape};
use super::server::Door;
use super::table::{self, Run};
use crate::command::{Command, KvError, Request, Response};
use crate::front::{self, Connection};

/// Bytes of the first read, and of reads from a client that sends little.
const MIN_READ: usize = 4 * 1024;

/// Bytes of a read from a client that sends much.
const MAX_READ: usize = 256 * 1024;

/// A batch that took more input than this gives the buffer back instead of keeping it for the next.
const KEPT_INPUT: usize = 64 * 1024;

/// Replies are sent when so many bytes of them wait, though the batch goes on.
const SEND_BYTES: usize = 1024 * 1024;

/// Why a connection ends before the client wants it to. Nobody is told: the socket is gone or the time is over.
struct Gone;

/// Serves a client until it leaves, breaks the protocol or is cut off.
pub(super) fn serve(door: &Arc<Door>, stream: &TcpStream, connection: &Connection<Client>) {
    let mut client = Serving {
        door,
        stream,
        connection,
        session: Session::default(),
        decoder: Decoder::new(door.config.limits),
        buffer: BytesMut::new(),
        read_bytes: MIN_READ,
        partial_since: None,
        output: Output::new(),
    };
    // Gone is the silent end; everything that wants a reply had one.
    let _ = client.run();
}

struct Serving<'a> {
    door: &'a Arc<Door>,
    stream: &'a TcpStream,
    connection: &'a Connection<Client>,
    session: Session,
    decoder: Decoder,
    buffer: BytesMut,
    read_bytes: usize,
    partial_since: Option<Instant>,
    output: Output,
}

/// What the reply to one request will be made of.
enum Step {
    /// It is there: encoded behind requests that still have to be executed.
    Local(Output),
    /// The node's next answer.
    Node(Shape, Version),
}

impl Serving<'_> {
    fn run(&mut self) -> Result<(), Gone> {
        let mut batch = Batch::default();
        loop {
            let outcome = self.decoder.decode(&mut self.buffer, &mut batch);
            if !batch.is_empty() {
                if !self.connection.begin() {
                    return Ok(());
                }
                self.execute(&batch)?;
                self.connection.end();
                if self.session.quit {
                    front::linger(self.stream);
                    return Ok(());
                }
            }
            if let Err(error) = outcome {
                self.door.metrics.protocol_errors.increment();
                tracing::debug!(peer = %self.connection.peer, %error, "client broke the protocol");
                self.output.error(&format!("ERR {error}"));
                self.send()?;
                front::linger(self.stream);
                return Ok(());
            }
            if batch.is_empty() {
                self.read()?;
            } else {
                self.forget(&mut batch);
            }
        }
    }

    /// Executes the requests of one read and sends their replies.
    fn execute(&mut self, batch: &Batch) -> Result<(), Gone> {
        let mut steps = Vec::new();
        let mut requests = Vec::new();
        for words in batch.iter() {
            self.plan(words, &mut steps, &mut requests);
            if self.session.quit {
                break;
            }
        }
        if !requests.is_empty() {
            let count = requests.len();
            let start = time::now();
            let answers = self.door.backend.execute(requests, start + self.door.config.request_timeout);
            let took = time::now().saturating_duration_since(start);
            self.door.metrics.duration.observe_many(took, count as u64);
            assert_eq!(answers.len(), count, "the node answers every request");
            self.encode(steps, answers)?;
        }
        self.send()
    }

    /// Turns one request into a step: a reply of its own, or something for the node.
    fn plan(&mut self, words: Arguments<'_>, steps: &mut Vec<Step>, requests: &mut Vec<Request>) {
        // Before the first request for the node, replies can go where they belong at once.
        let mut aside = Output::new();
        let out = if steps.is_empty() { &mut self.output } else { &mut aside };
        let Some((place, spec)) = table::find(words.get(0)) else {
            self.door.metrics.unknown.increment();
            out.error(&unknown_command(words));
            return keep_aside(aside, steps);
        };
        self.door.metrics.requests[place].increment();
        if !spec.fits(words.len()) {
            out.error(&format!("ERR wrong number of arguments for '{}' command", spec.name));
            return keep_aside(aside, steps);
        }
        self.connection.data.note_command(spec.name);
        let version = self.session.version;
        let mut context =
            Context { door: self.door, connection: self.connection, session: &mut self.session, out };
        let planned = match spec.run {
            Run::Local(run) => {
                run(&mut context, words);
                return keep_aside(aside, steps);
            }
            Run::Read(plan) => plan(&context, words).map(|(read, shape)| (Request::Read(read), shape)),
            Run::Write(plan) => {
                plan(words).map(|(write, shape)| (Request::Write(Command::from(write)), shape))
            }
        };
        match planned {
            Ok((request, shape)) => {
                requests.push(request);
                steps.push(Step::Node(shape, version));
            }
            Err(error) => {
                out.error(&error);
                keep_aside(aside, steps);
            }
        }
    }

    /// Encodes the replies in the order of the requests, sending whenever enough of them wait.
    fn encode(&mut self, steps: Vec<Step>, answers: Vec<Result<Response, KvError>>) -> Result<(), Gone> {
        let mut answers = answers.into_iter();
        for step in steps {
            match step {
                Step::Local(reply) => self.output.append(reply),
                Step::Node(shape, version) => {
                    let answer = answers.next().expect("there is an answer for every step of the node");
                    self.door.metrics.note_answer(&answer);
                    reply::encode(&mut self.output, version, &shape, &answer, &self.door.cursors);
                }
            }
            if self.output.len() >= SEND_BYTES {
                self.send()?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Gone> {
        if self.output.is_empty() {
            return Ok(());
        }
        let time = self.door.config.write_timeout + self.at_lowest_rate(self.output.len());
        self.stream.set_write_deadline(Some(time::now() + time));
        self.output.send(&mut &*self.stream).map_err(|_| Gone)
    }

    /// Reads once. A request that has begun must go on, an idle client may take the configured time.
    fn read(&mut self) -> Result<(), Gone> {
        let deadline = if self.buffer.is_empty() {
            self.partial_since = None;
            self.door.config.idle_timeout.map(|timeout| time::now() + timeout)
        } else {
            let since = *self.partial_since.get_or_insert_with(time::now);
            Some(since + self.door.config.partial_timeout + self.at_lowest_rate(self.buffer.len()))
        };
        self.stream.set_read_deadline(deadline);
        let before = self.buffer.len();
        self.buffer.resize(before + self.read_bytes, 0);
        let read = (&*self.stream).read(&mut self.buffer[before..]).map_err(|_| Gone);
        let read = match read {
            Ok(0) | Err(Gone) => return Err(Gone),
            Ok(read) => read,
        };
        self.buffer.truncate(before + read);
        if read == self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(MAX_READ);
        } else if read < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(MIN_READ);
        }
        Ok(())
    }

    /// The time that `bytes` take at the lowest rate that is put up with.
    fn at_lowest_rate(&self, bytes: usize) -> Duration {
        Duration::from_millis(bytes as u64 * 1000 / self.door.config.min_bytes_per_second.max(1))
    }

    /// Lets go of a batch, and of the buffer if it was a large one.
    fn forget(&mut self, batch: &mut Batch) {
        let large = batch.input_bytes() > KEPT_INPUT;
        batch.clear();
        self.partial_since = None;
        if large && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

fn keep_aside(reply: Output, steps: &mut Vec<Step>) {
    if !reply.is_empty() {
        steps.push(Step::Local(reply));
    }
}

/// Redis' words for a command that is not there. Clients look for "unknown command" to learn what a server can do.
fn unknown_command(words: Arguments<'_>) -> String {
    const SHOWN: usize = 128;
    let show = |word: &[u8]| String::from_utf8_lossy(&word[..word.len().min(SHOWN)]).into_owned();
    let mut message = format!("ERR unknown command '{}', with args beginning with: ", show(words.get(0)));
    let mut left = SHOWN;
    for word in words.tail(1) {
        if left == 0 {
            break;
        }
        let word = &word[..word.len().min(left)];
        left -= word.len().max(1);
        message.push_str(&format!("'{}' ", show(word)));
    }
    message
}
