//! What a leader knows about one follower's log, and how much it may send.
//!
//! ```text
//!                 accepted                    needed entry is compacted
//!      ┌─────────────────────────► Replicate ──────────────┐
//!      │                               │                   ▼
//!    Probe ◄───────────────────────────┘               Snapshot
//!      ▲  ▲     rejected, unreachable                    │   │
//!      │  └──────────────────────────────────────────────┘   │
//!      │        transfer ended                               │
//!      └─────────────────────────────────────────────────────┘  (accepted past the compaction point: Replicate)
//! ```
//!
//! - *Probe*: where the logs agree is not known. One append at a time; the next one leaves after an answer, or
//!   after a heartbeat was answered, which says that the peer is there and the probe was lost.
//! - *Replicate*: appends are pipelined (thesis §10.2.1) within a window of messages and bytes. `next_index` runs
//!   ahead of `match_index`.
//! - *Snapshot*: the peer needs entries that are gone; nothing is sent until the transfer ends.

use std::collections::VecDeque;

use super::message::ReadToken;
use super::types::Index;

/// How a peer is being fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationState {
    /// Looking for the place where the logs agree.
    Probe,
    /// Streaming entries.
    Replicate,
    /// Waiting for a snapshot transfer.
    Snapshot,
}

/// See the module's documentation.
///
/// # Invariants
/// - `match_index < next_index`.
/// - Outside of `Replicate` the window is empty.
#[derive(Debug)]
pub(super) struct Progress {
    /// Highest index at which the peer's durable log is known to agree (paper Figure 2).
    pub(super) match_index: Index,
    /// Next entry to send (paper Figure 2).
    pub(super) next_index: Index,
    /// How the peer is being fed.
    pub(super) state: ReplicationState,
    /// In `Probe`: an append is out, wait for an answer.
    pub(super) paused: bool,
    /// A timed heartbeat is out: its answer makes up for appends that were lost.
    pub(super) resume_on_response: bool,
    /// Whether the peer was heard since the last CheckQuorum.
    pub(super) recent_active: bool,
    /// Newest read token the peer has echoed.
    pub(super) acked_token: ReadToken,
    /// Highest commit index sent to the peer.
    pub(super) sent_commit: Index,
    /// In `Probe`: the last index and the bytes of the append that is out.
    probed: Option<(Index, u64)>,
    window: Window,
}

impl Progress {
    /// The progress of a peer nothing is known about, in a term that starts with `next_index` (paper Figure 2).
    pub(super) fn new(next_index: Index) -> Progress {
        Progress {
            match_index: 0,
            next_index,
            state: ReplicationState::Probe,
            paused: false,
            resume_on_response: false,
            recent_active: false,
            acked_token: 0,
            sent_commit: 0,
            probed: None,
            window: Window::default(),
        }
    }

    /// Appends in flight.
    pub(super) fn inflight(&self) -> usize {
        self.window.sent.len()
    }

    /// Whether entries may be sent, given the limits of the window.
    pub(super) fn may_send(&self, max_messages: usize, max_bytes: usize) -> bool {
        match self.state {
            ReplicationState::Probe => !self.paused,
            ReplicationState::Replicate => {
                self.window.sent.len() < max_messages && self.window.bytes < max_bytes as u64
            }
            ReplicationState::Snapshot => false,
        }
    }

    /// Notes that an append with entries up to `last` (possibly none) was sent.
    pub(super) fn sent(&mut self, last: Index, bytes: u64) {
        match self.state {
            ReplicationState::Probe => {
                self.paused = true;
                self.probed = Some((last, bytes));
            }
            ReplicationState::Replicate if last >= self.next_index => {
                self.next_index = last + 1;
                self.window.add(last, bytes);
            }
            ReplicationState::Replicate | ReplicationState::Snapshot => {}
        }
    }

    /// Notes that the peer's log agrees up to `index`. Returns whether that is news.
    pub(super) fn accepted(&mut self, index: Index) -> bool {
        let news = index > self.match_index;
        self.match_index = self.match_index.max(index);
        self.next_index = self.next_index.max(index + 1);
        self.window.free_to(index);
        news
    }

    /// Handles the rejection of an append after `rejected`; `retry_at` is where the logs might agree. Returns whether
    /// it counts: a late answer to an append that was already overtaken does not.
    pub(super) fn rejected(&mut self, rejected: Index, retry_at: Index) -> bool {
        match self.state {
            ReplicationState::Snapshot => false,
            ReplicationState::Replicate if rejected <= self.match_index => false,
            ReplicationState::Replicate => {
                self.become_probe();
                true
            }
            // Only one probe is out at a time, so an answer to another one is late.
            ReplicationState::Probe if rejected != self.next_index - 1 => false,
            ReplicationState::Probe => {
                self.next_index = rejected.min(retry_at + 1).max(self.match_index + 1);
                self.paused = false;
                self.probed = None;
                true
            }
        }
    }

    /// Starts over after the last known match.
    pub(super) fn become_probe(&mut self) {
        self.enter(ReplicationState::Probe);
        self.next_index = self.match_index + 1;
    }

    /// The place where the logs agree is known: stream from here. What the probe carried is on its way already.
    pub(super) fn become_replicate(&mut self) {
        let probed = self.probed;
        self.enter(ReplicationState::Replicate);
        if let Some((last, bytes)) = probed {
            self.sent(last, bytes);
        }
    }

    /// The peer needs entries that are gone.
    pub(super) fn become_snapshot(&mut self) {
        self.enter(ReplicationState::Snapshot);
    }

    fn enter(&mut self, state: ReplicationState) {
        self.state = state;
        self.paused = false;
        self.probed = None;
        self.window.clear();
    }
}

/// The appends in flight to one peer: the last index and the bytes of each. An answer frees every append up to its
/// index, because answers are cumulative.
#[derive(Debug, Default)]
struct Window {
    sent: VecDeque<(Index, u64)>,
    bytes: u64,
}

impl Window {
    fn add(&mut self, last: Index, bytes: u64) {
        self.sent.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn free_to(&mut self, index: Index) {
        while let Some((last, bytes)) = self.sent.front().copied()
            && last <= index
        {
            self.sent.pop_front();
            self.bytes -= bytes;
        }
    }

    fn clear(&mut self) {
        self.sent.clear();
        self.bytes = 0;
    }
}
