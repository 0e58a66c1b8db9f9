//! How calls on a descriptor wait, remembered: a hooked call that has to wait asks the kernel whether the descriptor is
//! `O_NONBLOCK` and for how long its socket is willing to wait, and need not ask again while nothing of the kind changes.
//!
//! Both belong to the open file, which duplicates, forked processes and receivers of `SCM_RIGHTS` share, so a record of
//! what was set by descriptor number would be wrong: setting it through one number changes it for others. What is recorded
//! is the kernel's answer, together with the *epoch* in which it was given. The hooks of `fcntl`, `ioctl` and `setsockopt`
//! begin a new epoch after they have made any descriptor `O_NONBLOCK` or have changed any socket's timeout; an answer of
//! an earlier epoch is not believed.
//!
//! ```text
//!   fiber that waits                        thread that changes
//!   epoch = load (Acquire)                  fcntl(F_SETFL, O_NONBLOCK)
//!   ask the kernel                          epoch += 1 (Release)
//!   record the answer with that epoch       returns: whoever goes on from here sees the new epoch
//! ```
//! An answer recorded with the new epoch was given after the change. One recorded with the old epoch may be older, and is
//! believed until the change returns, as if the call had begun before it.
//!
//! Only "it blocks" is recorded, so that clearing `O_NONBLOCK` begins no epoch.
//!
//! Not heard: a change by a raw system call past libc or by another process that shares the open file, once a fiber has
//! waited for the descriptor. Its calls then go on blocking the fiber until the next epoch.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Interest, table};
use crate::scheduler::worker::Worker;

/// Zero is the epoch of no answer.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// What the kernel said of one direction of a descriptor that blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Manner {
    epoch: u64,
    /// `SO_RCVTIMEO` or `SO_SNDTIMEO`; none is for ever.
    timeout: Option<Duration>,
}

/// Some descriptor has just been made `O_NONBLOCK`, or has been given another timeout.
pub(crate) fn changed() {
    // Release pairs with the Acquire in `timeout`: who sees the new epoch sees the change when it asks the kernel.
    EPOCH.fetch_add(1, Ordering::Release);
}

/// For how long a call of the calling fiber that has to wait for `fd` waits; none is for ever. `ask` asks the kernel; what
/// does not wait at all is an error of its, and not remembered.
pub(crate) fn timeout<E>(
    fd: RawFd,
    interest: Interest,
    ask: impl FnOnce() -> Result<Option<Duration>, E>,
) -> Result<Option<Duration>, E> {
    // Acquire pairs with the Release in `changed`. Read before the kernel is asked, as is the generation: the number may be
    // of another file when it has answered.
    let epoch = EPOCH.load(Ordering::Acquire);
    let generation = table::entry(fd).map(table::Entry::generation);
    let known = Worker::with_current_fiber(|worker, _| worker.manner(fd, interest)).flatten();
    if let Some(manner) = known.filter(|manner| manner.epoch == epoch) {
        return Ok(manner.timeout);
    }
    let timeout = ask()?;
    if let Some(generation) = generation {
        let manner = Manner { epoch, timeout };
        Worker::with_current_fiber(|worker, _| worker.set_manner((fd, generation), interest, manner));
    }
    Ok(timeout)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use super::{Interest, Worker, changed, timeout};
    use crate::{Runtime, reactor};

    #[test]
    fn the_kernel_is_asked_once_an_epoch_for_each_direction_of_each_file() {
        const LONG: Option<Duration> = Some(Duration::from_secs(60));

        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.block_on(|| {
            let (one, other) = std::io::pipe().unwrap();
            let asked = Cell::new(0);
            let ask = |fd: &dyn AsRawFd, interest| {
                let answer = || {
                    asked.set(asked.get() + 1);
                    Ok::<_, ()>(LONG)
                };
                assert_eq!(timeout(fd.as_raw_fd(), interest, answer), Ok(LONG));
                asked.get()
            };
            // Other tests of this process may begin epochs: as soon as none did, the kernel is not asked again.
            let settled =
                |fd: &dyn AsRawFd, interest| (0..1000).any(|_| ask(fd, interest) == ask(fd, interest));
            assert!(settled(&one, Interest::Read), "asked {} times", asked.get());
            let before = asked.get();
            ask(&one, Interest::Write);
            assert_eq!(ask(&other, Interest::Read), before + 2, "the other direction, and another file");
            assert!(settled(&one, Interest::Read));
            let before = asked.get();
            changed();
            assert_eq!(ask(&one, Interest::Read), before + 1, "a new epoch");
            assert!(settled(&one, Interest::Read));
            let before = asked.get();
            reactor::closing(one.as_raw_fd());
            assert_eq!(ask(&one, Interest::Read), before + 1, "a new file of that number");
        });
    }

    #[test]
    fn a_signal_handler_asks_the_kernel_where_the_fiber_is_looking_itself() {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.block_on(|| {
            let (one, _other) = std::io::pipe().unwrap();
            let past = Some(crate::time::now());
            // Registers it.
            reactor::wait(one.as_raw_fd(), Interest::Read, past).unwrap_err();
            let answer = Worker::with_current_fiber(|worker, _| {
                let fd = one.as_raw_fd();
                // What a handler does that writes to a descriptor which does not block, and is full.
                worker.with_readable_source(fd, |_| timeout(fd, Interest::Read, || Err(libc::EAGAIN)))
            });
            assert_eq!(answer.flatten(), Some(Err(libc::EAGAIN)));
        });
    }

    #[test]
    fn what_does_not_wait_is_not_remembered() {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.block_on(|| {
            let (one, _other) = std::io::pipe().unwrap();
            for attempt in 0..3 {
                assert_eq!(timeout(one.as_raw_fd(), Interest::Read, || Err(attempt)), Err(attempt));
            }
        });
    }
}
