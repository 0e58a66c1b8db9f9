//! What a piece of work needs of the machine: time, threads, memory.
//!
//! Threads and memory of the process are looked at a hundred times a second while the work runs, and what there was before
//! is taken off. The stack that the kernel keeps for each thread (16 KiB on x86-64) is nowhere in the figures.

use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// What a piece of work needed: its time, and the most of everything else at any moment.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// From its beginning to its end.
    pub elapsed: Duration,
    /// More threads than before.
    pub threads: u64,
    /// More resident memory than before.
    pub resident_kib: u64,
}

/// What the process has at one moment.
#[derive(Clone, Copy)]
struct Look {
    threads: u64,
    resident_kib: u64,
}

impl Look {
    fn take() -> Look {
        let process = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Look { threads: field(&process, "Threads"), resident_kib: field(&process, "VmRSS") }
    }

    fn or_more(self, other: Look) -> Look {
        Look {
            threads: self.threads.max(other.threads),
            resident_kib: self.resident_kib.max(other.resident_kib),
        }
    }
}

/// A number in the text of a file below `/proc`.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("the kernel says {name}"))
}

/// Runs `work` on the calling thread and measures it.
///
/// # Panics
/// If `work` does.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Figures) {
    let over = AtomicBool::new(false);
    let looking = Barrier::new(2);
    thread::scope(|scope| {
        // Ends the looking also when the work panics: the scope waits for it.
        let end = SetOnDrop(&over);
        let looks = scope.spawn(|| {
            // The thread that looks is there before and after, and so is not counted.
            let before = Look::take();
            looking.wait();
            let mut most = before;
            while !over.load(Ordering::Relaxed) {
                most = most.or_more(Look::take());
                thread::sleep(PAUSE);
            }
            (before, most)
        });
        looking.wait();
        let began = Instant::now();
        let result = work();
        let elapsed = began.elapsed();
        drop(end);
        let (before, most) = looks.join().expect("looking does not fail");
        let figures = Figures {
            elapsed,
            threads: most.threads - before.threads,
            resident_kib: most.resident_kib - before.resident_kib,
        };
        (result, figures)
    })
}

/// Relaxed: the flag orders nothing, and joining the thread does.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_memory_and_time_of_the_work_are_seen() {
        const THREADS: usize = 20;
        const BYTES: usize = 32 << 20;
        let ((), figures) = measure(|| {
            let touched = std::hint::black_box(vec![1u8; BYTES]);
            let all = Barrier::new(THREADS);
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        all.wait();
                        thread::sleep(10 * PAUSE);
                    });
                }
            });
            drop(touched);
        });
        assert!(figures.elapsed >= 10 * PAUSE, "{figures:?}");
        // Other tests of the process may end threads meanwhile, but not so many.
        assert!(figures.threads >= THREADS as u64 - 5, "{figures:?}");
        assert!(figures.resident_kib >= (BYTES / 1024 / 2) as u64, "{figures:?}");
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        assert_eq!(field("VmRSSx:\t1 kB\nVmRSS:\t  23 kB\n", "VmRSS"), 23);
    }
}
