//! Whether the symbols are in place: `std` is made to call them, outside a fiber, and they say that they were reached.
//!
//! Addresses would prove nothing: where the crate is part of a shared library, its own reference to `recv` is bound to
//! another library's as well. Only a call that arrives shows where calls arrive.

use std::ffi::{CStr, CString};
use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// Why blocking code would block the worker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// The crate was built without its feature `hook`.
    #[error("fiber-runtime was built without its feature `hook`: blocking libc calls block the worker")]
    NotBuilt,
    /// The program's `std` calls another definition.
    #[error(
        "std's calls of `{symbol}` do not arrive in fiber-runtime but in {provider}, so blocking calls block the worker: \
         fiber-runtime must be linked into the executable, or its shared library be loaded before libc (LD_PRELOAD)"
    )]
    NotLinked {
        /// The first symbol that was missed.
        symbol: &'static str,
        /// The file whose definition the program finds first.
        provider: String,
    },
    /// The test could not be made.
    #[error("the hooks could not be tested: {action}: {kind}")]
    NotTested {
        /// What failed.
        action: &'static str,
        /// How.
        kind: io::ErrorKind,
    },
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
    Yield = 64,
    Futex = 128,
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

/// An action of the test that failed.
type Failure = (&'static str, io::Error);

/// What every start of a program can afford: some system calls that no sandbox refuses.
const AT_START: [(Probe, &CStr); 5] = [
    (Probe::Recv, c"recv"),
    (Probe::Send, c"send"),
    (Probe::Close, c"close"),
    (Probe::Yield, c"sched_yield"),
    (Probe::Futex, c"syscall"),
];

/// What only the whole test asks.
const ON_REQUEST: [(Probe, &CStr); 3] =
    [(Probe::Sleep, c"clock_nanosleep"), (Probe::Accept, c"accept4"), (Probe::Connect, c"connect")];

/// Makes `std` sleep, receive, send, connect, accept and close, and looks whether its calls arrive here. Takes some
/// microseconds, and blocks nobody.
///
/// A shorter form of it runs when the process builds its first runtime, and reports a failure once: as a warning through
/// `tracing`, or on standard error if nobody subscribes to warnings.
///
/// # Errors
/// They do not, or the crate was built without hooks.
///
/// ```
/// # #[cfg(feature = "hook")]
/// fiber_runtime::hook::self_test().expect("this program calls fiber-runtime's symbols");
/// ```
pub fn self_test() -> Result<(), HookError> {
    if cfg!(not(feature = "hook")) {
        return Err(HookError::NotBuilt);
    }
    super::link();
    check(&AT_START, call_a_little)?;
    check(&ON_REQUEST, call_the_rest)
}

/// The test that comes with the first runtime of the process.
pub(crate) fn check_at_start() {
    static ONCE: Once = Once::new();

    // Without the feature, plain calls are what was asked for; miri has no sockets.
    if cfg!(any(not(feature = "hook"), miri)) {
        return;
    }
    ONCE.call_once(|| match check(&AT_START, call_a_little) {
        Err(error @ HookError::NotLinked { .. }) if tracing::enabled!(tracing::Level::WARN) => {
            tracing::warn!(%error, "the hooks are not in place");
        }
        // Nobody listens, and a program that only stalls would be worse than a line it did not ask for.
        Err(error @ HookError::NotLinked { .. }) => eprintln!("fiber-runtime: {error}"),
        // A process without descriptors to spare hears of that elsewhere.
        Ok(()) | Err(HookError::NotTested { .. } | HookError::NotBuilt) => {}
    });
}

fn check(symbols: &[(Probe, &'static CStr)], call_std: fn() -> Result<(), Failure>) -> Result<(), HookError> {
    RUNNING.fetch_add(1, Ordering::Relaxed);
    let made = super::disabled(call_std);
    RUNNING.fetch_sub(1, Ordering::Relaxed);
    let reached = REACHED.load(Ordering::Relaxed);
    made.map_err(|(action, error)| HookError::NotTested { action, kind: error.kind() })?;
    match symbols.iter().find(|&&(probe, _)| reached & probe as u32 == 0) {
        Some(&(_, symbol)) => Err(HookError::NotLinked {
            symbol: symbol.to_str().expect("the names above are ASCII"),
            provider: provider(symbol),
        }),
        None => Ok(()),
    }
}

fn call_a_little() -> Result<(), Failure> {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    std::thread::yield_now();
    // A lock that nobody contends makes no system call; a condition variable does.
    let lock = std::sync::Mutex::new(());
    let guard = lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    drop(std::sync::Condvar::new().wait_timeout(guard, std::time::Duration::ZERO));
    let (mut one, mut other) = UnixStream::pair().map_err(|error| ("making a socket pair", error))?;
    one.write_all(b"?").map_err(|error| ("writing to a socket", error))?;
    other.read_exact(&mut [0]).map_err(|error| ("reading from a socket", error))
}

fn call_the_rest() -> Result<(), Failure> {
    std::thread::sleep(std::time::Duration::from_nanos(1));
    // A listener that is non-blocking and has no connection: accepting fails at once, and so does connecting to a path
    // that does not exist.
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| ("listening on the loopback address", error))?;
    drop(listener.accept());
    drop(std::os::unix::net::UnixStream::connect("/nonexistent/fiber-runtime"));
    Ok(())
}

/// The file in which the dynamic linker finds `symbol` first.
fn provider(symbol: &CStr) -> String {
    // SAFETY: the name is a C string; the default handle asks the whole program, as its libraries do.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
    // SAFETY: a Dl_info of zeros is valid: null pointers.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the call looks the address up, whatever it is, and fills in the info, which lives through the call.
    let found = unsafe { libc::dladdr(address, &raw mut info) } != 0 && !info.dli_fname.is_null();
    if !found {
        return "another library".to_owned();
    }
    // SAFETY: the name is a C string that the dynamic linker keeps while the library is loaded; it is copied at once.
    let name: CString = unsafe { CStr::from_ptr(info.dli_fname) }.to_owned();
    name.to_string_lossy().into_owned()
}
