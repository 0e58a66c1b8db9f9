//! `select` of a fiber: asks the kernel, and waits in the reactor in between.

use std::os::fd::RawFd;
use std::ptr;
use std::time::Instant;

use libc::{c_int, fd_set, sigset_t, timespec};

use super::mask;
use crate::fiber::{deadline as scope, park};
use crate::net::op::{self, Stop};
use crate::reactor::Interest;
use crate::reactor::gathered::{self, Wanted};
use crate::{sys, time};

/// The caller's sets: to read, to write, and of exceptional conditions (urgent data). Null is empty.
pub(super) type Sets = [*mut fd_set; 3];

/// `pselect6` as a plain system call (aarch64 has no `select`). The kernel writes what is left of the time to `timeout`.
///
/// # Safety
/// As for libc's `pselect`.
pub(super) unsafe fn plain(
    count: c_int,
    sets: Sets,
    timeout: Option<&mut timespec>,
    signals: *const sigset_t,
) -> isize {
    let timeout = timeout.map_or(ptr::null_mut(), ptr::from_mut);
    // There is no seventh argument, so the sixth points to two.
    let signals = [signals as usize, mask::SIZE];
    let [read, write, except] = sets.map(|set| set as usize);
    // SAFETY: the caller's promise; the timespec and the two arguments live through the call.
    unsafe {
        sys::syscall6(
            libc::SYS_pselect6,
            count as usize,
            read,
            write,
            except,
            timeout as usize,
            signals.as_ptr() as usize,
        )
    }
}

/// Waits until `deadline`, or that of a scope; then nothing is ready. `Ok(None)`: the sets are of a length that cannot be
/// found out, and have not been touched.
///
/// # Safety
/// As for libc's `select`.
pub(super) unsafe fn select(
    count: c_int,
    sets: Sets,
    deadline: Option<Instant>,
) -> Result<Option<usize>, Stop> {
    let (deadline, _) = scope::bound(deadline);
    let Some(count) = looked_at(count) else { return Ok(None) };
    // Everything happens in copies, because the kernel empties the sets when it finds nothing.
    // SAFETY: the caller's promise, for as much as the kernel would look at.
    let asked = sets.map(|set| unsafe { Bits::copy_of(set, count) });
    let mut wanted = None;
    loop {
        let mut answer = asked.clone();
        let pointers = answer.each_mut().map(Bits::as_set);
        let mut at_once = timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the copies have room for `count` descriptors.
        match op::check(unsafe { plain(count, pointers, Some(&mut at_once), ptr::null()) }) {
            Ok(0) if deadline.is_none_or(|deadline| deadline > time::now()) => {}
            Ok(ready) => {
                for (answer, set) in answer.iter().zip(sets) {
                    // SAFETY: the caller's promise.
                    unsafe { answer.write_to(set) };
                }
                park::courtesy(|| true);
                return Ok(Some(ready));
            }
            // A signal came to the thread just then: its handler has run.
            Err(Stop::Errno(libc::EINTR)) => continue,
            Err(stop) => return Err(stop),
        }
        match gathered::wait(wanted.get_or_insert_with(|| wanted_in(&asked)), deadline) {
            Ok(()) | Err(Stop::TimedOut) => {}
            Err(stop) => return Err(stop),
        }
    }
}

/// How many descriptors of the sets the kernel looks at: no more than the process's table has room for. So programs may
/// pass a large number (`getdtablesize()`) with sets of the usual size, beyond which nothing may be touched.
fn looked_at(count: c_int) -> Option<c_int> {
    match usize::try_from(count) {
        Ok(wanted) if wanted > libc::FD_SETSIZE => Some(count.min(table_size()?)),
        Ok(_) | Err(_) => Some(count),
    }
}

/// The room in the process's table of descriptors, as the kernel tells it.
fn table_size() -> Option<c_int> {
    let path = c"/proc/thread-self/status".as_ptr() as usize;
    let here = libc::AT_FDCWD as usize;
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
    // SAFETY: the path ends in a zero byte; the descriptor is closed below.
    let fd = op::check(unsafe { sys::syscall6(libc::SYS_openat, here, path, flags, 0, 0, 0) }).ok()?;
    let mut text = [0; 1024];
    let length = sys::read(fd as RawFd, &mut text);
    // SAFETY: opened above, and known to nobody else.
    unsafe { sys::close_raw(fd as RawFd) };
    let text = text.get(..length.ok()?)?;
    let mut lines = text.split(|&byte| byte == b'\n');
    let size = lines.find_map(|line| line.strip_prefix(b"FDSize:"))?;
    std::str::from_utf8(size).ok()?.trim().parse().ok()
}

/// A copy of one set.
#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    /// # Safety
    /// `set` is null or has room for `count` descriptors, in whole words of 64.
    unsafe fn copy_of(set: *const fd_set, count: c_int) -> Self {
        let words = usize::try_from(count).unwrap_or(0).div_ceil(64);
        let mut bits = vec![0; if set.is_null() { 0 } else { words }];
        // SAFETY: the caller's promise. By bytes, for who made the set may not have aligned it.
        unsafe { ptr::copy_nonoverlapping(set.cast::<u8>(), bits.as_mut_ptr().cast(), bits.len() * 8) };
        Self(bits)
    }

    fn as_set(&mut self) -> *mut fd_set {
        if self.0.is_empty() { ptr::null_mut() } else { self.0.as_mut_ptr().cast() }
    }

    /// # Safety
    /// `set` is what it was copied from.
    unsafe fn write_to(&self, set: *mut fd_set) {
        // SAFETY: the caller's promise.
        unsafe { ptr::copy_nonoverlapping(self.0.as_ptr().cast(), set.cast::<u8>(), self.0.len() * 8) };
    }

    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let all = self.0.iter().enumerate();
        all.flat_map(|(at, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| (at * 64 + bit) as RawFd)
        })
    }
}

fn wanted_in([read, write, except]: &[Bits; 3]) -> Vec<Wanted> {
    let reading = read.descriptors().chain(except.descriptors()).map(|fd| (fd, Interest::Read));
    reading.chain(write.descriptors().map(|fd| (fd, Interest::Write))).collect()
}
