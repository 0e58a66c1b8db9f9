//! From the outcome of an operation to what libc's callers expect: a value, or -1 and `errno`.

use libc::c_int;

use crate::net::op::Stop;
use crate::sys::errno;

/// The caller's `errno`, to be left as it was by a call that succeeds, whatever ran in between.
pub(super) struct Errno(c_int);

impl Errno {
    pub(super) fn save() -> Self {
        Self(errno::get())
    }

    /// The return value of a call that reports failure by -1. `timed_out` is the error of a socket timeout.
    pub(super) fn finish<T: TryFrom<i64>>(self, outcome: Result<usize, Stop>, timed_out: c_int) -> T {
        let value = match outcome {
            Ok(value) => {
                errno::set(self.0);
                value as i64
            }
            Err(stop) => {
                errno::set(match stop {
                    Stop::Errno(errno) => errno,
                    Stop::TimedOut => timed_out,
                });
                -1
            }
        };
        match T::try_from(value) {
            Ok(value) => value,
            Err(_) => unreachable!("the kernel's results fit the types of its calls"),
        }
    }
}

/// The return value of a plain system call.
#[inline]
pub(super) fn plain(result: isize) -> isize {
    if (-4095..0).contains(&result) {
        errno::set(-result as c_int);
        return -1;
    }
    result
}
