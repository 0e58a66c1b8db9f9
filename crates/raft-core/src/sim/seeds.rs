//! Which seeds a test runs, and what a failing one says.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `run` for the seeds `0..count` and returns how many there were.
///
/// The environment changes which: `MOON_SEED=n` runs that seed alone, `MOON_SEEDS=n` runs `0..n`, and `MOON_FIRST=n`
/// begins there.
///
/// # Panics
/// When `run` fails or panics, after saying how to run that seed again.
pub fn for_each_seed(count: u64, run: impl FnMut(u64) -> Result<(), String>) -> u64 {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
    };
    let seeds = match number("MOON_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("MOON_FIRST").unwrap_or(0);
            first..first + number("MOON_SEEDS").unwrap_or(count)
        }
    };
    let runs = seeds.end - seeds.start;
    run_all(seeds, run);
    runs
}

fn run_all(seeds: Range<u64>, mut run: impl FnMut(u64) -> Result<(), String>) {
    for seed in seeds {
        let again = format!("seed {seed} failed; MOON_SEED={seed} runs it again");
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(Ok(())) => {}
            Ok(Err(found)) => panic!("{again}\n{found}"),
            Err(panic) => {
                eprintln!("{again}");
                resume_unwind(panic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_seed_is_named() {
        let failing = |seed| if seed == 3 { Err("broken".to_owned()) } else { Ok(()) };
        let panic = catch_unwind(|| run_all(0..10, failing)).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("MOON_SEED=3") && text.contains("broken"), "{text}");
    }
}
