//! RPC on fibers.
#![forbid(unsafe_code)]
