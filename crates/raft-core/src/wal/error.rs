//! Why the log could not be opened or written.

use std::io;
use std::path::{Path, PathBuf};

use crate::core::NodeId;

/// An error of the write-ahead log.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
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
    /// The disk is full. The node stops: it can no longer promise anything.
    #[error("cannot {action} {}: the disk is full ({source}); free space and start the node again", path.display())]
    DiskFull {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The log is damaged where it was durable once. Opening it would forget promises this node has made, so it is
    /// refused. An empty directory would forget the same promises: as long as the membership cannot change, the files
    /// must be restored.
    #[error(
        "the log is damaged: {} at offset {offset}: expected {expected}, found {found}. It was durable before, so the node \
         may have promised what is lost here; it must not vote with a shorter log, nor with an empty one. Restore \
         the file; the other nodes go on as long as they are a majority",
        path.display()
    )]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Another process has this directory open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The directory belongs to another node.
    #[error("{} is the log of node {found}, not of node {expected}", path.display())]
    WrongNode {
        /// The segment that says so.
        path: PathBuf,
        /// Who opens it.
        expected: NodeId,
        /// Whose it is.
        found: NodeId,
    },
    /// The file was written by another version of this program.
    #[error("{} has format version {found}, this program reads version {supported}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The caller asked for something that does not fit the log; nothing was written.
    #[error("refused a write that does not fit the log: {0}")]
    Refused(String),
    /// The configuration makes no sense.
    #[error("invalid log configuration: {0}")]
    Config(String),
    /// An earlier write failed; the log takes no more.
    #[error("the log has failed before and takes no more writes")]
    Failed,
}

impl WalError {
    /// Wraps an error of the file system, telling a full disk apart.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WalError {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                WalError::DiskFull { action, path, source }
            }
            _ => WalError::Io { action, path, source },
        }
    }

    /// Damage at a place of a file.
    pub(crate) fn corrupt(
        path: &Path,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> WalError {
        WalError::Corrupt { path: path.to_owned(), offset, expected: expected.into(), found: found.into() }
    }

    /// Whether the log is damaged, as opposed to unreachable or misused.
    pub fn is_corruption(&self) -> bool {
        matches!(self, WalError::Corrupt { .. })
    }
}
