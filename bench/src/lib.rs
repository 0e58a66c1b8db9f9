//! Shared parts of the benchmarks: histogram, warm-up, report.
#![forbid(unsafe_code)]
