//! Which thread-locals of libraries each fiber has for itself, for whoever wants to know.

/// Which thread-locals of the libraries in this program each fiber has for itself.
#[derive(Clone, Debug, Default)]
pub struct PrivateThreadLocals {
    /// Each fiber has its own of these.
    pub private: Vec<String>,
    /// Those of the same libraries that the fibers of a worker share, because nobody has looked at them yet.
    pub shared: Vec<String>,
}

/// Why fibers have no thread-locals of their own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThreadLocalsError {
    /// The crate was built without its feature `hook`, or for a C library that gives no way to do it.
    #[error("fiber-runtime was built without the means to give fibers thread-locals of their own")]
    NotBuilt,
    /// The program or shared object has no symbol table.
    #[error(
        "the program was stripped of its symbols: fibers share the thread-locals of libraries such as tokio"
    )]
    Stripped,
    /// The file that the program was started from cannot be read, or is not an ELF file of this machine's kind.
    #[error("the program's symbols cannot be read: {reason}")]
    Unreadable {
        /// What went wrong, with the path.
        reason: String,
    },
    /// The symbols are not those of the running program: its file was replaced.
    #[error("the symbols on disk are not those of the running program")]
    OtherProgram,
}

/// Which thread-locals of the libraries in this program each fiber has for itself: those of tokio, so that blocking
/// clients that are made of asynchronous ones (`postgres`) can be called by many fibers of a worker at once.
///
/// # Errors
/// There are none, and each such call keeps the worker to itself or panics with tokio's "Cannot start a runtime from within
/// a runtime".
pub fn private_thread_locals() -> Result<PrivateThreadLocals, ThreadLocalsError> {
    #[cfg(feature = "hook")]
    return super::thread_locals::found();
    #[cfg(not(feature = "hook"))]
    Err(ThreadLocalsError::NotBuilt)
}
