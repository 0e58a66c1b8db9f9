//! From addresses to names of functions.
//!
//! Done on the asker's thread: it reads the program's file and may take a while the first time. A dump of many fibers has
//! few different addresses, so each is looked up once.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::capture::{Capture, StackCopy};
use super::unwind::Unwinder;

/// A function that a fiber is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Frame {
    /// An address in its code.
    pub address: u64,
    /// Its name, when the program has symbols.
    pub function: Option<String>,
    /// The source file, when the program has line tables.
    pub file: Option<PathBuf>,
    /// The line in it.
    pub line: Option<u32>,
}

impl Frame {
    /// Whether it belongs to how a fiber is entered and switched. With full debug information the function has its path,
    /// with line tables only its bare name, but then its file is known.
    fn is_plumbing(&self) -> bool {
        const FUNCTIONS: [&str; 8] = [
            "corosensei::",
            "stack_init_trampoline",
            "fiber_runtime::fiber::header::",
            "fiber_runtime::fiber::park::",
            "fiber_runtime::scheduler::",
            "core::ops::function::",
            "core::panic::unwind_safe::",
            "std::panic",
        ];
        const FILES: [&str; 7] = [
            "/corosensei-",
            "fiber-runtime/src/fiber/header.rs",
            "fiber-runtime/src/fiber/park.rs",
            "fiber-runtime/src/scheduler/",
            "library/core/src/ops/function.rs",
            "library/core/src/panic/unwind_safe.rs",
            "library/std/src/panic",
        ];
        let function = self.function.as_deref().unwrap_or_default().trim_start_matches('<');
        let file = self.file.as_deref().and_then(Path::to_str).unwrap_or_default();
        function.starts_with("__rust_try")
            || FUNCTIONS.iter().any(|prefix| function.starts_with(prefix))
            || FILES.iter().any(|part| file.contains(part))
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.function {
            Some(function) => f.write_str(function)?,
            None => write!(f, "{:#x}", self.address)?,
        }
        if let (Some(file), Some(line)) = (&self.file, self.line) {
            write!(f, " at {}:{line}", short(file).display())?;
        }
        Ok(())
    }
}

/// The last parts of a path: enough to find the file, short enough to read.
fn short(file: &Path) -> PathBuf {
    const PARTS: usize = 4;
    let parts = file.components().count();
    file.components().skip(parts.saturating_sub(PARTS)).collect()
}

/// Functions, innermost first; shared by all fibers that are at the same place, of which there may be a million.
type Frames = Arc<[Arc<Frame>]>;

/// Where a fiber is: functions, innermost first, inlined ones included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Backtrace {
    frames: Frames,
    cut: bool,
}

impl Backtrace {
    /// The functions, innermost first.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = &Frame> {
        self.frames.iter().map(|frame| &**frame)
    }

    /// Whether nothing is known: the fiber has not started, or the processor is not x86-64.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The same for backtraces of one dump with the same functions.
    pub(super) fn place(&self) -> (*const Arc<Frame>, bool) {
        (self.frames.as_ptr(), self.cut)
    }

    /// Whether outer functions may be missing, because the stack is deeper than what is copied.
    pub fn is_cut(&self) -> bool {
        self.cut
    }
}

/// One function a line. The alternate form (`{:#}`) shows those of the fiber's entry and switch as well.
impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = f.alternate();
        for frame in self.frames().filter(|frame| all || !frame.is_plumbing()) {
            writeln!(f, "      {frame}")?;
        }
        if self.cut {
            writeln!(f, "      (outer functions are not shown: the stack is deep)")?;
        }
        Ok(())
    }
}

#[cfg(feature = "hook")]
impl Backtrace {
    /// The backtrace of a stack that was unwound in place, by the addresses to return to, without the first frames that
    /// are `own`. Allocates and reads files.
    pub(crate) fn of_addresses(addresses: &[u64], own: impl Fn(&Frame) -> bool, cut: bool) -> Backtrace {
        let frames = addresses.iter().flat_map(|&address| functions_at(address, false));
        let frames: Vec<_> = frames.skip_while(|frame| own(frame)).collect();
        Backtrace { frames: frames.into(), cut }
    }
}

/// Unwinds and names. Made for one dump.
pub(crate) struct Symboliser {
    unwinder: Unwinder,
    known: HashMap<(u64, bool), Vec<Arc<Frame>>>,
    /// Backtraces by their addresses, and whether the first is exact.
    places: HashMap<(Vec<u64>, bool), Frames>,
}

impl Symboliser {
    pub(crate) fn new() -> Self {
        Symboliser { unwinder: Unwinder::new(), known: HashMap::new(), places: HashMap::new() }
    }

    /// The backtrace of a copied stack.
    pub(crate) fn backtrace(&mut self, capture: &Capture, stack: &StackCopy) -> Backtrace {
        let place = (self.unwinder.unwind(capture, stack), capture.interrupted);
        if let Some(frames) = self.places.get(&place) {
            return Backtrace { frames: frames.clone(), cut: stack.cut };
        }
        let mut frames = Vec::with_capacity(place.0.len());
        for (at, &address) in place.0.iter().enumerate() {
            let exact = at == 0 && capture.interrupted;
            frames.extend_from_slice(self.functions(address, exact));
        }
        let frames: Frames = frames.into();
        self.places.insert(place, frames.clone());
        Backtrace { frames, cut: stack.cut }
    }

    /// The functions at an address: more than one where some were inlined. `exact`: the address is that of an
    /// instruction, not the one a call returns to.
    fn functions(&mut self, address: u64, exact: bool) -> &[Arc<Frame>] {
        self.known.entry((address, exact)).or_insert_with(|| functions_at(address, exact))
    }
}

/// See [`Symboliser::functions`].
fn functions_at(address: u64, exact: bool) -> Vec<Arc<Frame>> {
    let mut frames = Vec::new();
    // `resolve` takes return addresses, and looks at the byte before.
    let lookup = address + u64::from(exact);
    backtrace::resolve(lookup as *mut _, |symbol| {
        frames.push(Arc::new(Frame {
            address,
            // Without the hash that ends a mangled name.
            function: symbol.name().map(|name| format!("{name:#}")),
            file: symbol.filename().map(Path::to_owned),
            line: symbol.lineno(),
        }));
    });
    if frames.is_empty() {
        frames.push(Arc::new(Frame { address, function: None, file: None, line: None }));
    }
    frames
}
