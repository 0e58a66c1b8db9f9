//! Stackful fibers for Rust that make ordinary blocking code scale.
