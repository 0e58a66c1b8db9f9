//! Settings: conf files of `key=value` lines, the environment, and flags, one above the other.
//!
//! A value comes from the highest of: a flag (`--data`, `--set key=value`), the environment (`KVSERVER_` and the key
//! in capitals), the conf file, the default. [`settings`] is the one list of keys, defaults and explanations;
//! `conf/reference.conf` is made from it. A key nobody knows, a key given twice and a value that does not fit are
//! errors that say where they stand.

mod file;

mod nodes;

pub mod settings;

mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use nodes::{MAX_NODE_ID, NodeAddresses};
pub use settings::{LogFormat, Settings, SyncMode, reference};

/// Prefix of environment variables that set keys.
pub const ENVIRONMENT_PREFIX: &str = "KVSERVER_";

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a conf file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
    /// The file as a whole, or nothing in particular.
    Nowhere(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Flag(flag) => write!(f, "{flag}"),
            Origin::Nowhere(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What is wrong with the configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is neither blank, nor a comment, nor `key=value`.
    #[error("{origin}: expected key=value, found {text:?}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// The line.
        text: String,
    },
    /// No such key.
    #[error("{origin}: unknown key {key}{}", suggestion.as_ref().map(|s| format!("; did you mean {s}?")).unwrap_or_default())]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The key.
        key: String,
        /// A known key that looks like it.
        suggestion: Option<String>,
    },
    /// The key was given before in the same place.
    #[error("{origin}: {key} was already given at {first}")]
    Duplicate {
        /// Where.
        origin: Origin,
        /// The key.
        key: String,
        /// Where it was given first.
        first: Origin,
    },
    /// The value does not fit the key.
    #[error("{origin}: {key}: {problem}")]
    Value {
        /// Where.
        origin: Origin,
        /// The key.
        key: String,
        /// What is wrong with the value.
        problem: String,
    },
}

/// Values by key, with where each was given. Each layer replaces what the one below it gave.
pub(crate) type Assignments = BTreeMap<String, (String, Origin)>;

/// The whole configuration of a cluster and of the node that reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The nodes by id: 0, 1, 2, ...
    pub nodes: BTreeMap<u64, NodeAddresses>,
    /// Everything else.
    pub settings: Settings,
}

impl Config {
    /// Reads `file`, then puts `environment` and `flags` above it. Also gives the names of environment variables that
    /// begin with the prefix but name no key: not errors, because schedulers set such variables for their own ends.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(
        file: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Config, Vec<String>), ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { path: file.to_owned(), source })?;
        Config::parse(file, &text, environment, flags)
    }

    /// As [`Config::load`], with the text of the file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Config, Vec<String>), ConfigError> {
        let mut assignments = file::parse(file, text)?;
        let mut ignored = Vec::new();
        for (name, value) in environment {
            let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX).map(str::to_lowercase) else { continue };
            if settings::is_key(&key) || nodes::is_key(&key) {
                assignments.insert(key, (value, Origin::Environment(name)));
            } else {
                ignored.push(name);
            }
        }
        let mut given: Assignments = BTreeMap::new();
        for (key, value) in flags {
            let origin = Origin::Flag(format!("--set {key}={value}"));
            if let Some((_, first)) = given.get(&key) {
                return Err(ConfigError::Duplicate { origin, key, first: first.clone() });
            }
            given.insert(key, (value, origin));
        }
        assignments.extend(given);

        let mut settings = Settings::default();
        let mut node_keys = Vec::new();
        for (key, (value, origin)) in &assignments {
            if nodes::is_key(key) {
                node_keys.push((key.as_str(), value.as_str(), origin));
                continue;
            }
            match settings.set(key, value) {
                None => return Err(unknown(key, origin)),
                Some(Ok(())) => {}
                Some(Err(problem)) => {
                    return Err(ConfigError::Value { origin: origin.clone(), key: key.clone(), problem });
                }
            }
        }
        if let Err((key, problem)) = settings.check() {
            let origin = assignments.get(key).map(|(_, origin)| origin.clone());
            let origin = origin.unwrap_or_else(|| Origin::Nowhere(file.to_owned()));
            return Err(ConfigError::Value { origin, key: key.to_owned(), problem });
        }
        let nodes = nodes::assemble(file, &node_keys)?;
        Ok((Config { nodes, settings }, ignored))
    }
}

fn unknown(key: &str, origin: &Origin) -> ConfigError {
    let known = settings::KEYS.iter().map(|known| known.name);
    let suggestion = known
        .map(|known| (distance(key, known), known))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, known)| known.to_owned());
    ConfigError::UnknownKey { origin: origin.clone(), key: key.to_owned(), suggestion }
}

/// How many single-character changes turn `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
