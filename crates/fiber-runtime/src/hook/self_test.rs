//! Whether the symbols are in place: `std` is made to call them, outside a fiber, and they say that they were reached.

use std::sync::atomic::{AtomicU32, Ordering};

/// Why blocking code would block the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The crate was built without its feature `hook`.
    #[error("fiber-runtime was built without its feature `hook`: blocking libc calls block the worker")]
    NotBuilt,
    /// The program's `std` calls another definition.
    #[error(
        "std's call of `{symbol}` does not arrive in fiber-runtime: the symbol was linked from elsewhere"
    )]
    NotLinked {
        /// The first symbol that was missed.
        symbol: &'static str,
    },
    /// The test could not be made.
    #[error("the hooks could not be tested: no socket pair could be made")]
    NotTested,
}

/// The symbols that `std` must reach. Those that it does not use have no bit of their own.
#[cfg_attr(not(feature = "hook"), allow(dead_code, reason = "without hooks nothing arrives"))]
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Probe {
    Other = 0,
    Recv = 1,
    Send = 2,
    Sleep = 4,
    Close = 8,
    Accept = 16,
    Connect = 32,
}

/// How many tests run: while none does, an arriving call costs one load.
static RUNNING: AtomicU32 = AtomicU32::new(0);
/// The bits of those that were reached by any test.
static REACHED: AtomicU32 = AtomicU32::new(0);

impl Probe {
    #[cfg_attr(not(feature = "hook"), allow(dead_code, reason = "without hooks nothing arrives"))]
    #[inline]
    pub(super) fn arrived(self) {
        if RUNNING.load(Ordering::Relaxed) != 0 {
            REACHED.fetch_or(self as u32, Ordering::Relaxed);
        }
    }
}

/// Makes `std` sleep, receive, send, connect, accept and close, and looks whether its calls arrive here. Takes some
/// microseconds, and blocks nobody.
///
/// # Errors
/// They do not, or the crate was built without hooks.
pub fn self_test() -> Result<(), HookError> {
    if cfg!(not(feature = "hook")) {
        return Err(HookError::NotBuilt);
    }
    super::link();
    RUNNING.fetch_add(1, Ordering::Relaxed);
    let made = super::disabled(call_std);
    RUNNING.fetch_sub(1, Ordering::Relaxed);
    let reached = REACHED.load(Ordering::Relaxed);
    if made.is_err() {
        return Err(HookError::NotTested);
    }
    let symbols = [
        (Probe::Sleep, "clock_nanosleep"),
        (Probe::Recv, "recv"),
        (Probe::Send, "send"),
        (Probe::Accept, "accept4"),
        (Probe::Connect, "connect"),
        (Probe::Close, "close"),
    ];
    match symbols.into_iter().find(|&(probe, _)| reached & probe as u32 == 0) {
        Some((_, symbol)) => Err(HookError::NotLinked { symbol }),
        None => Ok(()),
    }
}

fn call_std() -> std::io::Result<()> {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    std::thread::sleep(std::time::Duration::from_nanos(1));
    let (mut one, mut other) = UnixStream::pair()?;
    one.write_all(b"?")?;
    other.read_exact(&mut [0])?;
    // A listener that is non-blocking and has no connection: accepting fails at once, and so does connecting to a path
    // that does not exist.
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    drop(listener.accept());
    drop(UnixStream::connect("/nonexistent/fiber-runtime"));
    Ok(())
}
