//! Logs: tracing events to lines of text or JSON, written by a thread of their own.
//!
//! ```text
//!   fiber: event ──► line ──► bounded queue ──► writer thread ──► stderr
//!                               └── full: the line is dropped and counted
//! ```
//!
//! A terminal that is not read or a full disk must not hold up a worker and the thousands of fibers on it, so a line
//! that finds the queue full is dropped. The writer says how many were lost as soon as it gets on.

pub mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

pub use writer::{Guard, LineQueue, dropped_lines};

/// Environment variable that overrides the configured filter, as in `KVSERVER_LOG=info,kvserver::resp=debug`.
pub const FILTER_VARIABLE: &str = "KVSERVER_LOG";

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

impl FromStr for Format {
    type Err = LogError;

    fn from_str(name: &str) -> Result<Format, LogError> {
        match name {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The format is neither `text` nor `json`.
    #[error("log format '{0}' is neither text nor json")]
    Format(String),
    /// The filter is not one.
    #[error("log filter '{filter}' is not valid: {reason}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The writer thread did not start.
    #[error("cannot start the log writer: {0}")]
    Thread(#[source] io::Error),
    /// Somebody else's subscriber is in place already.
    #[error("logging was started before")]
    Twice,
}

/// Starts logging to standard error for the whole process.
///
/// `filter` is a level or a list such as `info,raft_core=debug`; the environment variable [`FILTER_VARIABLE`] goes
/// before it. Keep the guard for the life of the program: dropping it writes out what waits.
///
/// # Errors
/// [`LogError`].
pub fn init(format: Format, filter: &str) -> Result<Guard, LogError> {
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| filter.to_owned());
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| LogError::Filter { filter, reason: error.to_string() })?;
    let (queue, guard) = LineQueue::start(Box::new(io::stderr())).map_err(LogError::Thread)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_ansi(false)
        .with_writer(queue);
    let started = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| LogError::Twice)?;
    Ok(guard)
}
