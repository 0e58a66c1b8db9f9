//! Why a snapshot could not be written, read or received.

use std::io;
use std::path::{Path, PathBuf};

use crate::core::EntryId;

/// An error of the snapshot store.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system refused an operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The file is not a whole snapshot.
    #[error("the snapshot {} is damaged: expected {expected}, found {found}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// It was written by another version of this program.
    #[error("{} has format version {found}, this program reads version {supported}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// It is larger than allowed.
    #[error("a snapshot of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its size, as far as it is known.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The log names a snapshot that is not there.
    #[error("the snapshot of entry {} (term {}) is missing in {}", id.index, id.term, dir.display())]
    Missing {
        /// Its last entry.
        id: EntryId,
        /// Where it was looked for.
        dir: PathBuf,
    },
}

impl SnapshotError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
        let path = path.to_owned();
        move |source| SnapshotError::Io { action, path, source }
    }

    pub(super) fn corrupt(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> SnapshotError {
        SnapshotError::Corrupt { path: path.to_owned(), expected: expected.into(), found: found.into() }
    }
}
