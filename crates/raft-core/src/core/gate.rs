//! The durability gate: which writes are under way, and what must not be said before they are done.
//!
//! Raft answers a vote or an append only after it has stored it (paper Figure 2, §5.6). This core never waits: it
//! hands a write to storage under a *ticket* and goes on; what depends on the write is held here until storage reports
//! the ticket.
//!
//! ```text
//!   step(AppendEntries 5..8)   step(AppendEntries 6'..7', newer leader)      Persisted{1}     Persisted{2}
//!     │                          │                                            │                │
//!     Persist{ticket 1, 5..8}    Persist{ticket 2, 6'..7'}                    durable: 5       durable: 7'
//!     write 1 covers 8           write 1 now covers 5, write 2 covers 7'      (not 8!)
//! ```
//!
//! The drawing shows the ABA case: when ticket 1 is reported, its entries 6 to 8 are already overwritten, even if
//! a later leader restores the very same entries under ticket 3. So a cut lowers what earlier writes cover, and only
//! the write that really stored an entry makes it durable.

use std::collections::VecDeque;

use super::message::Message;
use super::types::{HardState, Index, Term, Ticket};

/// Something to be done when everything issued so far is durable.
#[derive(Debug)]
pub(super) enum Promise {
    /// Send this vote.
    Vote(Message),
    /// Count the own vote in the election of this term.
    OwnVote(Term),
}

/// A write under way.
#[derive(Debug)]
struct Write {
    ticket: Ticket,
    /// The log is durable up to here once the write is.
    covers: Index,
}

/// See the module's documentation.
///
/// # Invariants
/// - `completed <= issued`; `writes` are exactly the tickets between them, in order.
/// - `term_ticket` and `synced` are at most `issued`.
#[derive(Debug)]
pub(super) struct Gate {
    issued: Ticket,
    completed: Ticket,
    /// The last ticket whose write is synced; later ones only moved the commit index.
    synced: Ticket,
    /// The ticket that made the current term and vote durable.
    term_ticket: Ticket,
    writes: VecDeque<Write>,
    /// Promises of the current batch, before its ticket is known.
    fresh: Vec<Promise>,
    held: VecDeque<(Ticket, Promise)>,
    /// The hard state storage was given last.
    stored: HardState,
}

impl Gate {
    /// A gate over storage that holds `stored`.
    pub(super) fn new(stored: HardState) -> Gate {
        Gate {
            issued: 0,
            completed: 0,
            synced: 0,
            term_ticket: 0,
            writes: VecDeque::new(),
            fresh: Vec::new(),
            held: VecDeque::new(),
            stored,
        }
    }

    /// The hard state storage was given last.
    pub(super) fn stored(&self) -> HardState {
        self.stored
    }

    /// The last ticket given out.
    pub(super) fn issued(&self) -> Ticket {
        self.issued
    }

    /// Whether the current term and vote are durable.
    pub(super) fn term_is_durable(&self) -> bool {
        self.term_ticket <= self.completed
    }

    /// Holds `promise` until everything that the next [`Gate::seal`] covers is durable.
    pub(super) fn promise(&mut self, promise: Promise) {
        self.fresh.push(promise);
    }

    /// Gives out the ticket of a write after which the log is durable up to `covers`.
    pub(super) fn issue(&mut self, hard_state: Option<HardState>, covers: Index, must_sync: bool) -> Ticket {
        self.issued += 1;
        self.writes.push_back(Write { ticket: self.issued, covers });
        if must_sync {
            self.synced = self.issued;
        }
        if let Some(hard_state) = hard_state {
            if (hard_state.term, hard_state.voted_for) != (self.stored.term, self.stored.voted_for) {
                self.term_ticket = self.issued;
            }
            self.stored = hard_state;
        }
        self.issued
    }

    /// Ties the promises of this batch to the writes issued so far.
    pub(super) fn seal(&mut self) {
        let ticket = self.synced;
        self.held.extend(self.fresh.drain(..).map(|promise| (ticket, promise)));
    }

    /// The log was cut: earlier writes cover at most `last` now.
    pub(super) fn cut(&mut self, last: Index) {
        for write in &mut self.writes {
            write.covers = write.covers.min(last);
        }
    }

    /// Storage has reported `ticket`. Returns up to which index the log is durable by it, if the ticket is news.
    pub(super) fn complete(&mut self, ticket: Ticket) -> Option<Index> {
        assert!(ticket <= self.issued, "ticket {ticket} is reported, but only {} was issued", self.issued);
        if ticket <= self.completed {
            return None;
        }
        self.completed = ticket;
        let mut covers = 0;
        while let Some(write) = self.writes.pop_front_if(|write| write.ticket <= ticket) {
            covers = write.covers.max(covers);
        }
        Some(covers)
    }

    /// The next promise whose writes are durable.
    pub(super) fn release(&mut self) -> Option<Promise> {
        let completed = self.completed;
        self.held.pop_front_if(|(ticket, _)| *ticket <= completed).map(|(_, promise)| promise)
    }
}
