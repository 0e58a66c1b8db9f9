//! How long a thread has had a processor, and has waited for one.

use std::time::Duration;

/// The processor time of a thread of this process. `None`: there is no such thread.
pub(super) fn used(thread: i32) -> Option<Duration> {
    // How the kernel numbers the clock of a thread: its complement, and "per thread, as scheduled".
    const PER_THREAD_SCHEDULED: i32 = 0b110;
    let clock = !thread << 3 | PER_THREAD_SCHEDULED;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the time, or refuses the clock.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    (result == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// How long a thread of this process was ready and others had the processor. Needs a kernel with `CONFIG_SCHED_INFO`, as
/// all distributions have. Reads a file, so it is asked of suspects only.
pub(super) fn waited(thread: i32) -> Option<Duration> {
    // Nanoseconds it ran, nanoseconds it waited, and a third number that does not matter here.
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// The difference, where both are known.
pub(super) fn between(before: Option<Duration>, after: Option<Duration>) -> Option<Duration> {
    Some(after?.saturating_sub(before?))
}
