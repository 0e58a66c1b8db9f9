//! Reads: they do not go through the log, and are linearizable behind a read barrier.

use bytes::Bytes;

use super::write::{CommandError, Limits};

/// Most keys on one page of a scan; a larger limit is cut to it.
pub const MAX_SCAN_KEYS: u32 = 10_000;

/// A page of a scan ends after about so many bytes of keys and values.
pub const MAX_SCAN_BYTES: usize = 4 << 20;

/// A question about the current state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The value of a key. Gives [`ReadOutcome::Value`].
    Get {
        /// The key.
        key: Bytes,
    },
    /// The values of several keys, all at the same revision. Gives [`ReadOutcome::Values`].
    MultiGet {
        /// The keys; answered in this order.
        keys: Vec<Bytes>,
    },
    /// How many of these keys exist; one that is named twice counts twice. Gives [`ReadOutcome::Count`].
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// The length of a key's value in bytes, 0 if there is none. Gives [`ReadOutcome::Length`].
    Length {
        /// The key.
        key: Bytes,
    },
    /// The number of keys. Gives [`ReadOutcome::Count`].
    Count,
    /// A page of keys in ascending order, all at the same revision. Gives [`ReadOutcome::Page`].
    Scan {
        /// Only keys greater than this one; `None` starts at the first.
        after: Option<Bytes>,
        /// Only keys that begin with this.
        prefix: Bytes,
        /// Most keys on the page. At most [`MAX_SCAN_KEYS`]; the page may also end early, see [`MAX_SCAN_BYTES`].
        limit: u32,
        /// Whether the page carries values.
        values: bool,
    },
}

impl Read {
    /// Checks the question against what this node is configured to take in.
    ///
    /// # Errors
    /// The first limit that is exceeded.
    pub fn check(&self, limits: &Limits) -> Result<(), CommandError> {
        match self {
            Read::Get { key } | Read::Length { key } => limits.check_key(key),
            Read::MultiGet { keys } | Read::Exists { keys } => {
                limits.check_count(keys.len())?;
                keys.iter().try_for_each(|key| limits.check_key(key))
            }
            Read::Count => Ok(()),
            Read::Scan { after, prefix, .. } => {
                limits.check_key(prefix)?;
                after.iter().try_for_each(|key| limits.check_key(key))
            }
        }
    }
}

/// The answer to a [`Read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The value, if the key exists.
    Value(Option<Bytes>),
    /// The values, in the order they were asked for.
    Values(Vec<Option<Bytes>>),
    /// A number of keys.
    Count(u64),
    /// A length in bytes.
    Length(u64),
    /// A page of a scan.
    Page(ScanPage),
}

/// A page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Keys in ascending order; values are `None` unless they were asked for.
    pub entries: Vec<(Bytes, Option<Bytes>)>,
    /// Whether there may be more: ask again with `after` set to the last key.
    pub more: bool,
}
