//! A replicated, linearizable key-value store.
#![forbid(unsafe_code)]
