//! Programs of other packages: where they are, and what is said when they are not there.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server may take to start, and a piece of work to end, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The first file called `name` in one of `folders`.
pub fn find(name: &str, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The folders of a search path such as `PATH`.
pub fn folders(path: Option<&OsStr>) -> Vec<PathBuf> {
    path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default()
}

/// Says that something is left out, and why. Written past the capture of `cargo test`: a test that was skipped must not
/// look like one that passed.
pub fn skipped(reason: &str) {
    // Nobody listens if it fails.
    let _ = writeln!(std::io::stderr().lock(), "skipped: {reason}");
}

/// The end of a log, for messages.
pub fn end_of_log(path: &Path) -> String {
    const SHOWN_BYTES: usize = 4000;
    let text = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(SHOWN_BYTES)..]).into_owned()
}

/// A port nobody listens on. Another process may take it before the server does; then the server says so and ends.
///
/// # Panics
/// If there is none.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("a listener has an address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_the_first_folder_that_has_it_and_in_no_other() {
        let first = tempfile::tempdir().unwrap();
        let second = tempfile::tempdir().unwrap();
        let both = || [first.path().to_owned(), second.path().to_owned()];
        assert_eq!(find("server", both()), None);
        std::fs::write(second.path().join("server"), "").unwrap();
        assert_eq!(find("server", both()), Some(second.path().join("server")));
        std::fs::write(first.path().join("server"), "").unwrap();
        assert_eq!(find("server", both()), Some(first.path().join("server")));
    }

    #[test]
    fn a_search_path_is_taken_apart_and_may_be_missing() {
        assert_eq!(folders(Some(OsStr::new("/a:/b"))), [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert!(folders(None).is_empty());
    }
}
