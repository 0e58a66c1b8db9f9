//! What the kernel knows about this process, under the names every Prometheus client library uses.

use std::fs;

use super::text::Text;

/// Linux reports times in ticks of this length on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory and processor use of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Address space in bytes.
    pub virtual_bytes: u64,
    /// User and system time in seconds.
    pub cpu_seconds: f64,
    /// Threads.
    pub threads: u64,
}

/// Reads the kernel's figures; zeros where `/proc` is not there.
pub fn usage() -> Usage {
    let mut usage = Usage::default();
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        for line in status.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let number = || value.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
            match key {
                "VmRSS" => usage.resident_bytes = number().unwrap_or(0) * 1024,
                "VmSize" => usage.virtual_bytes = number().unwrap_or(0) * 1024,
                "Threads" => usage.threads = number().unwrap_or(0),
                _ => {}
            }
        }
    }
    if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
        // The program's name stands in parentheses and may hold blanks; fields are counted behind it.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
        let ticks =
            |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        usage.cpu_seconds = (ticks(11) + ticks(12)) / TICKS_PER_SECOND;
    }
    usage
}

/// Appends the process metrics.
pub fn encode(out: &mut String) {
    let usage = usage();
    let mut text = Text::new(out);
    text.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", usage.resident_bytes);
    text.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", usage.virtual_bytes);
    text.counter(
        "process_cpu_seconds_total",
        "User and system processor time spent in seconds.",
        usage.cpu_seconds,
    );
    text.gauge("process_threads", "Threads of the process.", usage.threads);
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Open file descriptors.", descriptors.count());
    }
}
