//! The same work on fibers and on one thread for each piece, measured in one program.
//!
//! Fibers come first. What the allocator keeps of theirs the threads find ready to use, so the comparison of memory leans
//! to the side of the threads.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fiber_runtime::Runtime;

use crate::Failure;
use crate::measure::{Figures, measure};
use crate::program::PATIENCE;

/// A piece of work; the number says which.
pub trait Work: Fn(usize) -> Result<(), Failure> + Send + Sync + 'static {}

impl<F: Fn(usize) -> Result<(), Failure> + Send + Sync + 'static> Work for F {}

/// How work is put on fibers.
#[derive(Clone, Copy, Debug)]
pub struct Fibers {
    /// Threads that run them.
    pub workers: usize,
    /// Bytes of a fiber's stack.
    pub stack_size: usize,
}

impl Fibers {
    /// On `workers` threads, with stacks of 256 KiB of address space. The libraries were not written for small stacks, and
    /// unoptimised code needs several times what optimised code does; only what is touched is memory.
    pub fn on(workers: usize) -> Fibers {
        Fibers { workers, stack_size: 256 << 10 }
    }

    /// Does `count` pieces of work at once, and waits for all.
    ///
    /// # Panics
    /// If one fails, or when they have not ended in time.
    #[track_caller]
    pub fn run(self, count: usize, work: impl Work) -> Figures {
        let ((), figures) = measure(|| {
            let runtime = Runtime::builder()
                .workers(self.workers)
                .stack_size(self.stack_size)
                .name("libraries")
                .build()
                .expect("a runtime can be made");
            let work = Arc::new(work);
            let fibers: Vec<_> = (0..count)
                .map(|number| {
                    let work = work.clone();
                    runtime.spawn(move || work(number))
                })
                .collect();
            for (number, fiber) in fibers.into_iter().enumerate() {
                match fiber.join_timeout(PATIENCE) {
                    Ok(Ok(result)) => check(number, result),
                    Ok(Err(failed)) => {
                        failed.resume();
                    }
                    Err(_) => panic!("work {number} hangs: {}", runtime.stop(Duration::ZERO)),
                }
            }
            let report = runtime.stop(PATIENCE);
            assert!(report.is_clean(), "{report}");
        });
        figures
    }
}

/// Does `count` pieces of work at once on a thread each, and waits for all.
///
/// # Panics
/// If one fails, or a thread cannot be made.
#[track_caller]
pub fn run_on_threads(count: usize, work: impl Work) -> Figures {
    let ((), figures) = measure(|| {
        let work = Arc::new(work);
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let work = work.clone();
                let body = move || work(number);
                thread::Builder::new().spawn(body).expect("a thread can be made")
            })
            .collect();
        for (number, thread) in threads.into_iter().enumerate() {
            match thread.join() {
                Ok(result) => check(number, result),
                Err(payload) => resume_unwind(payload),
            }
        }
    });
    figures
}

#[track_caller]
fn check(number: usize, result: Result<(), Failure>) {
    if let Err(failure) = result {
        panic!("work {number} failed: {failure}");
    }
}

/// What both ways needed.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What the work is.
    pub title: String,
    /// What fibers needed.
    pub fibers: Figures,
    /// What a thread for each piece needed.
    pub threads: Figures,
}

impl Comparison {
    /// Does `count` pieces of work on fibers, then on threads.
    ///
    /// # Panics
    /// As [`Fibers::run`] and [`run_on_threads`].
    #[track_caller]
    pub fn run(title: &str, fibers: Fibers, count: usize, work: impl Work + Clone) -> Comparison {
        let title = format!("{title}, {count} at once, {} worker(s)", fibers.workers);
        Comparison { title, fibers: fibers.run(count, work.clone()), threads: run_on_threads(count, work) }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        writeln!(f, "  {:<8}{:>9}{:>10}{:>12}", "", "seconds", "threads", "resident")?;
        for (name, figures) in [("fibers", &self.fibers), ("threads", &self.threads)] {
            let seconds = figures.elapsed.as_secs_f64();
            let resident = format!("{:.1} MiB", figures.resident_kib as f64 / 1024.0);
            writeln!(f, "  {name:<8}{seconds:>9.2}{:>10}{resident:>12}", figures.threads)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn both_ways_do_every_piece_once() {
        let done = Arc::new(AtomicUsize::new(0));
        let count = done.clone();
        let comparison = Comparison::run("counting", Fibers::on(1), 10, move |number| {
            count.fetch_add(1 << number, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!(done.load(Ordering::Relaxed), 2 * ((1 << 10) - 1));
        let table = comparison.to_string();
        assert!(table.starts_with("counting, 10 at once, 1 worker(s)\n"), "{table}");
        assert_eq!(table.lines().count(), 4, "{table}");
    }

    #[test]
    #[should_panic(expected = "work 1 failed: no luck")]
    fn a_failure_on_a_fiber_is_told_with_its_number() {
        Fibers::on(1).run(2, |number| if number == 1 { Err("no luck".into()) } else { Ok(()) });
    }

    #[test]
    #[should_panic(expected = "work 1 failed: no luck")]
    fn a_failure_on_a_thread_is_told_with_its_number() {
        run_on_threads(2, |number| if number == 1 { Err("no luck".into()) } else { Ok(()) });
    }
}
