//! Moon's surface: a scheduler with descriptor events and timers, over the runtime.
