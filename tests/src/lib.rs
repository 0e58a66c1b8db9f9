//! Whole-system test support: real processes, faults, history checking.
#![forbid(unsafe_code)]
