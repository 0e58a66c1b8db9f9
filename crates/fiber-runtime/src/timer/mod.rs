//! Timers of one worker: a hierarchical wheel with intrusive nodes.
//!
//! A fiber waits for at most one deadline at a time, so the node lives in its header: arming and cancelling are a few
//! pointer writes, with no allocation and no lock.

mod wheel;

pub(crate) use wheel::{TimerNode, Wheel};
