//! How many descriptors the process may have: a thousand connections need more than the usual soft limit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::program;

/// Raises the soft limit so that `wanted` descriptors can be open. False, with the reason printed, if the hard limit is lower.
///
/// # Panics
/// If the system refuses what its hard limit allows.
pub fn allow(wanted: u64) -> bool {
    match raise(wanted) {
        Ok(()) => true,
        Err(maximum) => {
            program::skipped(&format!("{wanted} descriptors are needed, and the hard limit is {maximum}"));
            false
        }
    }
}

/// As [`allow`]; fails with the hard limit.
fn raise(wanted: u64) -> Result<(), u64> {
    let limits = getrlimit(Resource::Nofile);
    // `None` is without limit.
    if limits.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if let Some(maximum) = limits.maximum.filter(|maximum| *maximum < wanted) {
        return Err(maximum);
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limits.maximum })
        .expect("the soft limit may be raised up to the hard one");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_up_to_the_hard_one_and_no_further() {
        assert_eq!(raise(1), Ok(()));
        if let Some(maximum) = getrlimit(Resource::Nofile).maximum {
            assert_eq!(raise(maximum + 1), Err(maximum));
            assert_eq!(raise(maximum), Ok(()));
            assert_eq!(getrlimit(Resource::Nofile).current, Some(maximum));
        }
    }
}
