//! Lines of `key=value`. Blank lines and lines that begin with `#` say nothing; spaces around key and value are cut.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Assignments, ConfigError, Origin};

pub(super) fn parse(path: &Path, text: &str) -> Result<Assignments, ConfigError> {
    let mut assignments: Assignments = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let origin = Origin::File { path: path.to_owned(), line: number + 1 };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key_and_value = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
        let Some((key, value)) = key_and_value.filter(|(key, _)| !key.is_empty()) else {
            return Err(ConfigError::Syntax { origin, text: line.to_owned() });
        };
        if let Some((_, first)) = assignments.get(key) {
            return Err(ConfigError::Duplicate { origin, key: key.to_owned(), first: first.clone() });
        }
        assignments.insert(key.to_owned(), (value.to_owned(), origin));
    }
    Ok(assignments)
}
