//! Figures of a channel.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub(super) struct Counters {
    pub(super) calls: AtomicU64,
    pub(super) connects: AtomicU64,
    pub(super) connect_failures: AtomicU64,
    pub(super) pings: AtomicU64,
    pub(super) late_replies: AtomicU64,
    pub(super) state_changes: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        // Relaxed: statistics order nothing.
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Figures of a channel since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Callers that wait now.
    pub calls_in_flight: usize,
    /// Calls begun.
    pub calls: u64,
    /// Connections made.
    pub connects: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Pings sent.
    pub pings: u64,
    /// Replies that came after their caller had left.
    pub late_replies: u64,
    /// Changes of [`ChannelState`](crate::ChannelState).
    pub state_changes: u64,
    /// Frames that wait to be sent.
    pub outbox_frames: usize,
    /// Bytes that wait to be sent.
    pub outbox_bytes: usize,
}
