//! How many descriptors the process may have: a thousand connections need more than the usual soft limit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::program;

/// Raises the soft limit so that `wanted` descriptors can be open. False, with the reason printed, if the hard limit is lower.
///
/// # Panics
/// If the system refuses what its hard limit allows.
pub fn allow(wanted: u64) -> bool {
    let limits = getrlimit(Resource::Nofile);
    // `None` is without limit.
    if limits.current.is_none_or(|current| current >= wanted) {
        return true;
    }
    if limits.maximum.is_some_and(|maximum| maximum < wanted) {
        program::skipped(&format!(
            "{wanted} descriptors are needed, and the hard limit is {:?}",
            limits.maximum
        ));
        return false;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limits.maximum })
        .expect("the soft limit may be raised up to the hard one");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_limit_allows_is_refused_and_what_is_there_is_not() {
        assert!(allow(1));
        let limits = getrlimit(Resource::Nofile);
        if let Some(maximum) = limits.maximum {
            assert!(!allow(maximum + 1));
            assert!(allow(maximum));
            assert_eq!(getrlimit(Resource::Nofile).current, limits.current.max(Some(maximum)));
        }
    }
}
