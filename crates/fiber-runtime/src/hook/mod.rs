//! The libc symbols that blocking code calls, defined here so that they park the fiber instead of the thread.
