//! Who makes the calls, and who completes those that block.

use std::fmt::Write as _;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fiber_runtime::{spawn_local, yield_now};

use crate::calls::{CLOSED, Call, Door, Family, Step, note, perform};
use crate::common::PATIENCE;

/// Who makes the calls.
pub(crate) trait Actor {
    /// Begins a call.
    fn begin(&mut self, door: Door, fd: RawFd, call: &Call, stamp: u8);
    /// What came of it; `None` if it has not ended, and does not go on by itself.
    fn ended(&mut self) -> Option<String>;
    /// As [`Actor::ended`], for a call that ends by itself.
    fn end(&mut self) -> Option<String> {
        let deadline = Instant::now() + PATIENCE / 10;
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() > deadline {
                return ended;
            }
            fiber_runtime::time::sleep(Duration::from_micros(100));
        }
    }
    /// Lets it go.
    fn stop(&mut self);
}

type Order = Option<(Door, RawFd, Call, u8)>;

#[derive(Default)]
struct Desk {
    orders: Mutex<Option<Order>>,
    result: Mutex<Option<String>>,
}

pub(crate) struct ThreadActor {
    desk: Arc<Desk>,
    number: Arc<AtomicI32>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The actor's number in the kernel, negative while it waits for orders.
const IDLE: i32 = -1;

impl ThreadActor {
    pub(crate) fn start() -> Self {
        let desk = Arc::new(Desk::default());
        let number = Arc::new(AtomicI32::new(IDLE));
        let (desk_2, number_2) = (Arc::clone(&desk), Arc::clone(&number));
        let thread = std::thread::spawn(move || {
            // SAFETY: takes no arguments.
            let me = unsafe { libc::syscall(libc::SYS_gettid) } as i32;
            loop {
                let order = desk_2.orders.lock().unwrap().take();
                match order {
                    None => std::thread::park(),
                    Some(None) => return,
                    Some(Some((door, fd, call, stamp))) => {
                        number_2.store(me, Ordering::SeqCst);
                        let text = perform(door, fd, &call, stamp);
                        number_2.store(IDLE, Ordering::SeqCst);
                        *desk_2.result.lock().unwrap() = Some(text);
                    }
                }
            }
        });
        Self { desk, number, thread: Some(thread) }
    }

    /// Whether the kernel has put the thread to sleep within its call.
    fn sleeps(&self) -> bool {
        let number = self.number.load(Ordering::SeqCst);
        if number == IDLE {
            return false;
        }
        let line = std::fs::read_to_string(format!("/proc/self/task/{number}/stat")).unwrap_or_default();
        let state = line.rsplit(") ").next().and_then(|rest| rest.chars().next());
        state == Some('S') && self.number.load(Ordering::SeqCst) == number
    }
}

impl Actor for ThreadActor {
    fn begin(&mut self, door: Door, fd: RawFd, call: &Call, stamp: u8) {
        *self.desk.orders.lock().unwrap() = Some(Some((door, fd, call.clone(), stamp)));
        self.thread.as_ref().unwrap().thread().unpark();
    }

    fn ended(&mut self) -> Option<String> {
        loop {
            if let Some(text) = self.desk.result.lock().unwrap().take() {
                return Some(text);
            }
            if self.sleeps() {
                // It may have slept for another reason, just before its end.
                std::thread::yield_now();
                if self.sleeps() {
                    return self.desk.result.lock().unwrap().take();
                }
            }
            std::thread::yield_now();
        }
    }

    fn stop(&mut self) {
        *self.desk.orders.lock().unwrap() = Some(None);
        let thread = self.thread.take().unwrap();
        thread.thread().unpark();
        thread.join().unwrap();
    }
}

pub(crate) struct FiberActor {
    desk: Arc<Desk>,
    fiber: Option<fiber_runtime::JoinHandle<()>>,
    /// The descriptor of its call, and the events that could end it.
    waits_for: (RawFd, i16),
}

impl FiberActor {
    pub(crate) fn start() -> Self {
        let desk = Arc::new(Desk::default());
        let desk_2 = Arc::clone(&desk);
        let fiber = spawn_local(move || {
            loop {
                let order = desk_2.orders.lock().unwrap().take();
                match order {
                    None => yield_now(),
                    Some(None) => return,
                    Some(Some((door, fd, call, stamp))) => {
                        let text = perform(door, fd, &call, stamp);
                        *desk_2.result.lock().unwrap() = Some(text);
                    }
                }
            }
        });
        Self { desk, fiber: Some(fiber), waits_for: (-1, 0) }
    }
}

impl Actor for FiberActor {
    fn begin(&mut self, door: Door, fd: RawFd, call: &Call, stamp: u8) {
        let events = if call.receives() == Some(true) { libc::POLLIN } else { libc::POLLOUT };
        self.waits_for = (fd, events);
        *self.desk.orders.lock().unwrap() = Some(Some((door, fd, call.clone(), stamp)));
    }

    fn ended(&mut self) -> Option<String> {
        // The worker takes events when it is idle, and has to be let. What its descriptor is ready for may still not be
        // enough for it.
        let patience = Instant::now() + Duration::from_millis(3);
        loop {
            for _ in 0..8 {
                if let Some(text) = self.desk.result.lock().unwrap().take() {
                    return Some(text);
                }
                yield_now();
            }
            if !is_ready(self.waits_for.0, self.waits_for.1) || Instant::now() > patience {
                break;
            }
            fiber_runtime::time::sleep(Duration::from_micros(20));
        }
        self.desk.result.lock().unwrap().take()
    }

    fn stop(&mut self) {
        *self.desk.orders.lock().unwrap() = Some(None);
        self.fiber.take().unwrap().join().unwrap();
    }
}

/// Has the calls made, one after the other, and completes those that block.
pub(crate) struct Director<A> {
    seed: u64,
    family: Family,
    door: Door,
    fds: [RawFd; 2],
    actor: A,
    stamp: u8,
    /// Bytes of a large transfer.
    taken: Vec<u8>,
}

impl<A: Actor> Director<A> {
    pub(crate) fn new(seed: u64, family: Family, door: Door, actor: impl FnOnce() -> A) -> Self {
        Self { seed, family, door, fds: family.open(), actor: actor(), stamp: 0, taken: Vec::new() }
    }

    pub(crate) fn run(mut self, steps: &[Step]) -> Vec<String> {
        let lines = steps.iter().map(|step| self.step(step)).collect();
        self.actor.stop();
        for fd in self.fds {
            if fd != CLOSED {
                // SAFETY: the test's own, closed once.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        lines
    }

    fn step(&mut self, step: &Step) -> String {
        let fd = if step.open { self.fds[step.side] } else { CLOSED };
        self.stamp = self.stamp.wrapping_add(61);
        match step.call {
            Call::Duplicate | Call::Close if fd == CLOSED => return String::from("nothing"),
            Call::Duplicate => {
                // SAFETY: a new descriptor for a file of the test's own.
                self.fds[step.side] = unsafe { libc::dup(fd) };
                // SAFETY: the test's own, closed once.
                return format!("= {}", unsafe { libc::close(fd) });
            }
            Call::Close => {
                self.fds[step.side] = CLOSED;
                // SAFETY: the test's own, closed once.
                let closed = unsafe { libc::close(fd) };
                self.settle();
                return format!("= {closed}");
            }
            _ => {}
        }
        self.actor.begin(self.door, fd, &step.call, self.stamp);
        let mut line = String::new();
        let mut rounds = 0;
        let end = loop {
            match self.actor.ended() {
                Some(end) => break end,
                None if step.limited => match self.actor.end() {
                    Some(end) => break end,
                    None => panic!("seed {}, {:?}: {step:?} does not end", self.seed, self.family),
                },
                None => {
                    rounds += 1;
                    assert!(
                        rounds < 10_000,
                        "seed {}, {:?}: nobody can complete {step:?}",
                        self.seed,
                        self.family
                    );
                    self.help(step, rounds, &mut line);
                }
            }
        };
        self.settle();
        if step.large {
            // How much of it is left depends on when the last part was taken.
            self.drain(1 - step.side);
        }
        if !self.taken.is_empty() {
            let taken = std::mem::take(&mut self.taken);
            note(&mut line, &[taken]);
        }
        line.push_str(&end);
        line
    }

    /// Takes what there is for a side, past the hooks.
    fn drain(&mut self, side: usize) {
        let mut buffer = vec![0; 1 << 16];
        while is_ready(self.fds[side], libc::POLLIN) {
            // SAFETY: the buffer is valid for its length.
            let count =
                unsafe { libc::syscall(libc::SYS_read, self.fds[side], buffer.as_mut_ptr(), buffer.len()) };
            match usize::try_from(count) {
                Ok(count) if count > 0 => self.taken.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        }
    }

    /// Does what the actor waits for.
    fn help(&mut self, step: &Step, round: usize, line: &mut String) {
        let other = self.fds[1 - step.side];
        let stamp = self.stamp.wrapping_add(round as u8);
        if step.call.receives() == Some(true) {
            let call = match self.family {
                Family::Counter | Family::Semaphore => Call::Add(2),
                // Three at a time, so that a wait for all is woken several times.
                family if family.is_socket() => Call::Send(1 + round % 3 * 400, libc::MSG_DONTWAIT),
                _ => Call::Write(1 + round % 3 * 400),
            };
            let sent = perform(self.door, other, &call, stamp);
            let _ = write!(line, "[{sent}] ");
            self.settle();
            return;
        }
        if self.family.is_counter() {
            let taken = perform(self.door, other, &Call::Read(8), stamp);
            let _ = write!(line, "[{taken}] ");
            return;
        }
        if self.family.has_messages() {
            let taken = perform(self.door, other, &Call::Recv(1 << 13, libc::MSG_DONTWAIT), stamp);
            let _ = write!(line, "[{taken}] ");
        } else {
            self.drain(1 - step.side);
        }
    }

    /// What was sent through the kernel's network has arrived.
    fn settle(&self) {
        if matches!(self.family, Family::Tcp | Family::Udp) {
            fiber_runtime::time::sleep(Duration::from_micros(100));
        }
    }
}

fn is_ready(fd: RawFd, events: i16) -> bool {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: the entry lives through the call.
    unsafe { libc::poll(&raw mut entry, 1, 0) > 0 }
}
