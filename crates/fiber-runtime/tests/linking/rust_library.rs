//! A library that brings a standard library of its own, and is loaded by a program that has the runtime.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// As the function of that name in `c_library.c`, by the calls that `std` makes for sockets and for files.
#[unsafe(no_mangle)]
pub extern "C" fn exchange(fd: i32, rounds: u32) -> u32 {
    // SAFETY: the caller owns the descriptor and keeps it open; neither owner here closes it.
    let (mut stream, mut file) =
        unsafe { (ManuallyDrop::new(UnixStream::from_raw_fd(fd)), ManuallyDrop::new(File::from_raw_fd(fd))) };
    for done in 0..rounds {
        let mut byte = [0];
        let moved = if done % 2 == 0 {
            stream.read_exact(&mut byte).and_then(|()| stream.write_all(&[byte[0].wrapping_add(1)]))
        } else {
            file.read_exact(&mut byte).and_then(|()| file.write_all(&[byte[0].wrapping_add(1)]))
        };
        if moved.is_err() {
            return done;
        }
    }
    rounds
}

/// Sleeps.
#[unsafe(no_mangle)]
pub extern "C" fn nap(milliseconds: u32) -> i32 {
    std::thread::sleep(Duration::from_millis(milliseconds.into()));
    0
}
