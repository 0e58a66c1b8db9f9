//! What the owner fiber, the apply fiber, the log thread and the handles have in common: marks that only grow, counters,
//! the published status, and the word that it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use fiber_runtime::sync::{Spin, WaitGroup, oneshot};

use crate::core::{Index, NodeId, Role, Term, Ticket};
use crate::wal::WalStats;

use super::error::ReplicaError;
use super::pending::Gauge;
use super::status::{ReplicaCounters, ReplicaStatus};

/// State shared by the parts of one replica.
pub(super) struct Shared {
    /// Highest ticket that is durable. Written by the log thread.
    persisted: AtomicU64,
    /// Highest index that is applied and shown to readers. Written by the apply fiber.
    applied: AtomicU64,
    term: AtomicU64,
    /// A nudge is queued and not yet seen.
    nudged: AtomicBool,
    stopping: AtomicBool,
    /// The owner could not queue something for the apply fiber and wants to hear when there is room.
    pub(super) apply_is_full: AtomicBool,
    pub(super) refused: AtomicU64,
    /// Bytes of messages that wait for the owner.
    pub(super) queued_bytes: AtomicUsize,
    pub(super) snapshots_sent: AtomicU64,
    pub(super) snapshots_installed: AtomicU64,
    pub(super) gauge: Arc<Gauge>,
    /// The parts that still run.
    pub(super) running: WaitGroup,
    status: Spin<ReplicaStatus>,
    wal: Spin<WalStats>,
    ending: Spin<Ending>,
    /// Queues [`ReplicaEvent::Nudge`](super::event::ReplicaEvent::Nudge) if there is room; if there is none, the owner
    /// has something to do anyway.
    nudge: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Ending {
    error: Option<Arc<ReplicaError>>,
    waiters: Vec<oneshot::Sender<()>>,
    is_over: bool,
}

impl Shared {
    pub(super) fn new(
        id: NodeId,
        gauge: Gauge,
        applied: Index,
        nudge: Box<dyn Fn() + Send + Sync>,
    ) -> Shared {
        let status = ReplicaStatus {
            id,
            role: Role::Follower,
            term: 0,
            leader: None,
            commit_index: 0,
            applied_index: applied,
            last_log_index: 0,
            persisted_index: 0,
            snapshot_index: 0,
            backlog_bytes: 0,
            waiting_reads: 0,
            fsyncs: 0,
            wal_bytes: 0,
            wal: WalStats::default(),
            counters: ReplicaCounters::default(),
            pending_commands: 0,
            stopped: None,
            peers: Vec::new(),
        };
        Shared {
            persisted: AtomicU64::new(0),
            applied: AtomicU64::new(applied),
            term: AtomicU64::new(0),
            nudged: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            apply_is_full: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            queued_bytes: AtomicUsize::new(0),
            snapshots_sent: AtomicU64::new(0),
            snapshots_installed: AtomicU64::new(0),
            gauge: Arc::new(gauge),
            running: WaitGroup::new(),
            status: Spin::new(status),
            wal: Spin::new(WalStats::default()),
            ending: Spin::new(Ending::default()),
            nudge,
        }
    }

    /// Makes the owner look at the marks. Cheap when it was told already.
    ///
    /// The one who changes a mark stores it first and nudges then; the owner takes the nudge first and reads the marks
    /// then. So the owner either reads the new mark or is nudged again.
    pub(super) fn nudge(&self) {
        if !self.nudged.swap(true, Ordering::SeqCst) {
            (self.nudge)();
        }
    }

    /// The owner is about to read the marks.
    pub(super) fn take_nudge(&self) {
        self.nudged.store(false, Ordering::SeqCst);
    }

    pub(super) fn persisted(&self) -> Ticket {
        self.persisted.load(Ordering::SeqCst)
    }

    pub(super) fn set_persisted(&self, ticket: Ticket) {
        self.persisted.store(ticket, Ordering::SeqCst);
        self.nudge();
    }

    pub(super) fn applied(&self) -> Index {
        self.applied.load(Ordering::SeqCst)
    }

    pub(super) fn set_applied(&self, index: Index) {
        self.applied.store(index, Ordering::SeqCst);
        self.nudge();
    }

    pub(super) fn term(&self) -> Term {
        self.term.load(Ordering::SeqCst)
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        self.status.lock(|status| status.leader)
    }

    /// Shows a new status to whoever asks.
    pub(super) fn publish(&self, update: impl FnOnce(&mut ReplicaStatus)) {
        let term = self.status.lock(|status| {
            update(status);
            status.term
        });
        self.term.store(term, Ordering::SeqCst);
    }

    /// Bytes written to the log since the start, and those it held then. Only grows.
    pub(super) fn wal_written(&self) -> u64 {
        self.wal.lock(|wal| wal.bytes + wal.opened_bytes)
    }

    pub(super) fn set_wal_stats(&self, stats: WalStats) {
        self.wal.lock(|wal| *wal = stats);
    }

    pub(super) fn status(&self) -> ReplicaStatus {
        let mut status = self.status.lock(|status| status.clone());
        let wal = self.wal.lock(|wal| *wal);
        status.applied_index = self.applied();
        status.fsyncs = wal.syncs;
        status.wal_bytes = wal.bytes;
        status.wal = wal;
        status.pending_commands = self.gauge.commands();
        status.counters.refused = self.refused.load(Ordering::Relaxed);
        status.counters.snapshots_sent = self.snapshots_sent.load(Ordering::Relaxed);
        status.counters.snapshots_installed = self.snapshots_installed.load(Ordering::Relaxed);
        status.stopped = self.error().map(|error| error.to_string());
        if status.stopped.is_none() && self.is_stopping() {
            status.stopped = Some("it was asked to".to_owned());
        }
        status
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Asks the owner to end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.nudge();
    }

    /// Ends the replica because of an error. The first one counts.
    pub(super) fn fail(&self, error: ReplicaError) {
        let error = Arc::new(error);
        let is_first = self.ending.lock(|ending| {
            let is_first = ending.error.is_none();
            ending.error.get_or_insert_with(|| error.clone());
            is_first
        });
        if is_first {
            tracing::error!(%error, "the replica stops");
        }
        self.stop();
        self.end();
    }

    /// Wakes whoever waits for the end.
    pub(super) fn end(&self) {
        let waiters = self.ending.lock(|ending| {
            ending.is_over = true;
            std::mem::take(&mut ending.waiters)
        });
        for waiter in waiters {
            let _ = waiter.send(());
        }
    }

    pub(super) fn error(&self) -> Option<Arc<ReplicaError>> {
        self.ending.lock(|ending| ending.error.clone())
    }

    /// Waits until the replica has ended; says why if it was not asked to.
    pub(super) fn wait_end(&self) -> Option<Arc<ReplicaError>> {
        let (waiter, woken) = oneshot::channel();
        let is_over = self.ending.lock(|ending| {
            if !ending.is_over {
                ending.waiters.push(waiter);
            }
            ending.is_over
        });
        if !is_over {
            // An error means that the replica is gone as well.
            let _ = woken.recv();
        }
        self.error()
    }
}

/// Stops the replica if the fiber or thread that holds it panics.
pub(super) struct Watch {
    pub(super) shared: Arc<Shared>,
    pub(super) part: &'static str,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(ReplicaError::Panicked(self.part));
        }
    }
}
