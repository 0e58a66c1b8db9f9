//! What has changed since the last time becomes effects: one write, one append per peer, one acknowledgement, and
//! the next committed entries, however many events were stepped in between.

use crate::core::effect::Effect;
use crate::core::message::{AppendResponse, Body};
use crate::core::types::HardState;

use super::{Core, RoleState};

impl Core {
    /// The order matters for speed only: storage first, because it takes longest.
    pub(super) fn flush(&mut self) {
        self.flush_persist();
        self.flush_replication();
        self.flush_acknowledgement();
        self.flush_apply();
    }

    /// Tells the driver once if role, term or leader are not what it was told last.
    pub(super) fn announce(&mut self) {
        let current = (self.role(), self.term, self.leader);
        if current != self.announced {
            self.announced = current;
            let (role, term, leader) = current;
            self.effects.push(Effect::RoleChanged { role, term, leader });
        }
    }

    /// Gives storage what it does not hold yet. A moved commit index alone is written at most once per tick: it is
    /// advisory, and every other write carries it anyway.
    fn flush_persist(&mut self) {
        // Never ahead of the durable log: after a crash in the middle of this write, the commit index would otherwise
        // speak of an old entry that the rest of the write was to replace.
        let commit_index = self.log.applicable();
        let hard_state = HardState { term: self.term, voted_for: self.voted_for, commit_index };
        let stored = self.gate.stored();
        let snapshot = self.snapshot.take();
        let entries = self.log.issue();
        let promise_moved = (hard_state.term, hard_state.voted_for) != (stored.term, stored.voted_for);
        let must_sync = promise_moved || snapshot.is_some() || !entries.is_empty();
        let commit_due = self.commit_write_due && hard_state != stored;
        self.commit_write_due = false;
        if must_sync || commit_due {
            let hard_state = (hard_state != stored).then_some(hard_state);
            let ticket = self.gate.issue(hard_state, self.log.issued(), must_sync);
            self.effects.push(Effect::Persist { ticket, hard_state, entries, snapshot, must_sync });
        }
        self.gate.seal();
        self.keep_promises();
    }

    /// Answers the leader, once for all appends of this batch, when what it sent is durable.
    fn flush_acknowledgement(&mut self) {
        let RoleState::Follower(follower) = &mut self.role else { return };
        let Some(leader) = self.leader else { return };
        if !self.gate.term_is_durable() {
            return;
        }
        if let Some(match_index) = follower.acknowledge(self.log.persisted()) {
            self.send(leader, Body::AppendResponse(AppendResponse::Accepted { match_index }));
        }
    }

    /// Hands committed entries out while the state machine keeps up.
    fn flush_apply(&mut self) {
        let max_bytes = self.config.max_apply_bytes;
        while self.log.applying() < self.log.applicable()
            && self.log.bytes_between(self.log.applied(), self.log.applying()) < max_bytes as u64
        {
            let entries = self.log.hand_out(max_bytes);
            self.effects.push(Effect::Apply { entries });
        }
    }
}
