//! Starting a replica, and the handle that clients and transports hold.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use fiber_runtime::sync::channel::{self, Receiver, RecvTimeoutError, SendTimeoutError, Sender};
use fiber_runtime::sync::{Mutex, WaitToken, oneshot};
use fiber_runtime::{FiberBuilder, offload, sim};

use crate::core::{Body, ConfState, Entry, EntryId, Index, Message, NodeId, Restored};
use crate::snapshot::{SnapshotAck, SnapshotChunk, SnapshotStore, Spool};
use crate::wal::{self, Disk, Recovered, Wal, WalConfig, WalEvent, WalJob};

use super::apply::Apply;
use super::config::ReplicaConfig;
use super::error::{ProposeError, ReadError, ReplicaError};
use super::event::{Delivery, Proposal, ReadRequest, ReplicaEvent};
use super::owner::{Owner, Parts};
use super::pending::{Gauge, Waiting};
use super::shared::{Shared, Watch};
use super::snapshots::{self, ReceiveChunk, Receiving};
use super::state_machine::StateMachine;
use super::status::ReplicaStatus;
use super::transport::Transport;

/// Writes that wait for the log thread, and jobs that wait for the apply fiber, before they wait with the owner.
const MAX_QUEUED_JOBS: usize = 1024;

/// Stacks of the fibers that run the core and somebody else's state machine.
const STACK_BYTES: usize = 256 << 10;

/// A running node of a replicated state machine. Clones are handles of the same node; it stops when the last one is
/// dropped.
///
/// ```
/// use std::{io, sync::Arc, time::Duration};
///
/// use bytes::Bytes;
/// use fiber_runtime::{sim::Sim, time};
/// use raft_core::core::{EntryId, Message, NodeId};
/// use raft_core::replica::{
///     Dropped, FrozenState, Replica, ReplicaConfig, StateMachine, Transport, TransportError,
/// };
/// use raft_core::sim::SimDisk;
/// use raft_core::snapshot::{SnapshotAck, SnapshotChunk};
///
/// /// Adds up the lengths of the commands.
/// struct Sum(u64);
///
/// impl StateMachine for Sum {
///     type Output = u64;
///     fn apply(&mut self, _: EntryId, command: Bytes) -> u64 {
///         self.0 += command.len() as u64;
///         self.0
///     }
///     fn freeze(&mut self) -> Box<dyn FrozenState> {
///         Box::new(Sum(self.0))
///     }
///     fn restore(&mut self, source: &mut dyn io::Read) -> io::Result<()> {
///         let mut bytes = [0; 8];
///         source.read_exact(&mut bytes)?;
///         self.0 = u64::from_le_bytes(bytes);
///         Ok(())
///     }
/// }
///
/// impl FrozenState for Sum {
///     fn write_to(self: Box<Self>, sink: &mut dyn io::Write) -> io::Result<()> {
///         sink.write_all(&self.0.to_le_bytes())
///     }
/// }
///
/// /// A cluster of one has nobody to talk to. Real ones use `RpcTransport`.
/// struct Nobody;
///
/// impl Transport for Nobody {
///     fn send(&self, _: Message) -> Result<(), Dropped> {
///         Err(Dropped)
///     }
///     fn snapshot_chunk(
///         &self,
///         chunk: SnapshotChunk,
///         _: std::time::Instant,
///     ) -> Result<SnapshotAck, TransportError> {
///         Err(TransportError { to: chunk.to, reason: "nobody is there".into() })
///     }
/// }
///
/// // In a simulation; a node with `RealDisk` in a `fiber_runtime::Runtime` is started in the same way.
/// Sim::new(1).run(|| {
///     let config = ReplicaConfig::new(NodeId(0), vec![NodeId(0)], "/data");
///     let replica =
///         Replica::start(config, Sum(0), Arc::new(SimDisk::new(1)), Arc::new(Nobody)).unwrap();
///     let deadline = time::now() + Duration::from_secs(5);
///     while replica.read_barrier(deadline).is_err() {
///         time::sleep(Duration::from_millis(10));
///     }
///     let commands = vec![Bytes::from("three"), Bytes::from("two")];
///     assert_eq!(replica.propose(commands, deadline).unwrap(), [5, 8]);
///     replica.stop();
/// });
/// ```
pub struct Replica<S: StateMachine> {
    shared: Arc<Shared>,
    config: Arc<ReplicaConfig>,
    events: Sender<ReplicaEvent<S::Output>>,
    chunks: Arc<dyn ReceiveChunk>,
    _last: Arc<StopWhenDropped>,
}

impl<S: StateMachine> Clone for Replica<S> {
    fn clone(&self) -> Replica<S> {
        Replica {
            shared: self.shared.clone(),
            config: self.config.clone(),
            events: self.events.clone(),
            chunks: self.chunks.clone(),
            _last: self._last.clone(),
        }
    }
}

struct StopWhenDropped(Arc<Shared>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What storage held.
struct Storage<S, D: Disk> {
    wal: Wal<D>,
    recovered: Recovered,
    store: Arc<SnapshotStore<D>>,
    machine: S,
}

impl<S: StateMachine> Replica<S> {
    /// Opens the log and the newest snapshot in `config.dir`, or makes them, and starts the node. Must be called in a
    /// fiber. The state machine must be as new: what was applied before is applied again, from the snapshot on.
    ///
    /// # Errors
    /// If the settings make no sense, the directory is in use, or what it holds is damaged.
    pub fn start<D: Disk>(
        config: ReplicaConfig,
        machine: S,
        disk: Arc<D>,
        transport: Arc<dyn Transport>,
    ) -> Result<Replica<S>, ReplicaError> {
        config.validate().map_err(ReplicaError::Config)?;
        let config = Arc::new(config);
        let opened = config.clone();
        let Storage { wal, recovered, store, machine } = offload(move || open(&opened, machine, disk))?;
        let Recovered { hard_state, snapshot, entries, torn } = recovered;
        let id = config.core.id;
        if let Some(torn) = torn {
            tracing::info!(%id, segment = %torn.path.display(), offset = torn.offset, "cut a torn batch off the log");
        }
        let last = snapshot.as_ref().map_or_else(EntryId::default, |meta| meta.last);
        let conf = snapshot
            .as_ref()
            .map(|meta| meta.conf.clone())
            .filter(|conf| !conf.voters.is_empty())
            .unwrap_or_else(|| ConfState { voters: config.core.voters.clone() });
        tracing::info!(%id, term = hard_state.term, snapshot = last.index, entries = entries.len(), "storage is open");

        let (events, inbox) = channel::bounded(config.max_queued_events);
        let (wal_jobs, wal_inbox) = channel::bounded(MAX_QUEUED_JOBS);
        let (apply_jobs, apply_inbox) = channel::bounded(MAX_QUEUED_JOBS);
        let nudger = events.clone();
        let nudge = Box::new(move || {
            // If it is full the owner is about to look anyway.
            let _ = nudger.try_send(ReplicaEvent::Nudge);
        });
        let gauge = Gauge::new(config.max_pending_commands, config.max_pending_bytes);
        let shared = Arc::new(Shared::new(id, gauge, last.index, nudge));
        shared.set_wal_stats(wal.stats());

        let parts = Parts {
            config: config.clone(),
            shared: shared.clone(),
            store: store.clone(),
            transport,
            events: inbox,
            sender: events.clone(),
            wal: wal_jobs,
            apply: apply_jobs,
            newest: snapshot.clone(),
        };
        let restored = Restored { hard_state, snapshot, entries, applied: last.index };
        let owner = Owner::new(parts, restored)?;

        let watch = |part| Watch { shared: shared.clone(), part };
        start_log(wal, wal_inbox, store.clone(), watch("log"), shared.running.enter())?;
        let apply = Apply {
            config: config.clone(),
            shared: shared.clone(),
            store: store.clone(),
            events: events.clone(),
            waiting: Waiting::new(),
            readers: Vec::new(),
            last,
            conf: conf.clone(),
            entries_since: 0,
            bytes_since: 0,
            wal_mark: 0,
            is_saving: Arc::new(AtomicBool::new(false)),
        };
        let (guard, token) = (watch("apply"), shared.running.enter());
        drop(FiberBuilder::new().name("raft-apply").stack_size(STACK_BYTES).spawn(move || {
            let _guards = (guard, token);
            apply.run(machine, &apply_inbox);
        }));
        let (guard, token) = (watch("owner"), shared.running.enter());
        drop(FiberBuilder::new().name("raft-owner").stack_size(STACK_BYTES).spawn(move || {
            let _guards = (guard, token);
            owner.run();
        }));
        let chunks = Arc::new(Receiving {
            shared: shared.clone(),
            store: store.clone(),
            events: events.clone(),
            id,
            voters: conf.voters,
            spool: Mutex::new(Some(Spool::new(store))),
        });
        let last = Arc::new(StopWhenDropped(shared.clone()));
        Ok(Replica { shared, config, events, chunks, _last: last })
    }

    /// Appends commands, one entry each, in this order and without others between them, and waits until they are
    /// applied here. Wakes the caller once. The results are in the order of the commands.
    ///
    /// # Errors
    /// [`ProposeError::is_not_appended`] says whether it is certain that none of them will ever be applied.
    pub fn propose(&self, commands: Vec<Bytes>, deadline: Instant) -> Result<Vec<S::Output>, ProposeError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let limit = self.config.max_command_bytes;
        if let Some(bytes) = commands.iter().map(Bytes::len).find(|&bytes| bytes > limit) {
            return Err(ProposeError::TooLarge { bytes, limit });
        }
        let bytes = commands.iter().map(Bytes::len).sum();
        let admission = self.shared.gauge.admit(commands.len(), bytes).ok_or(ProposeError::Overloaded)?;
        let (reply, client) = oneshot::channel();
        let proposal = Proposal { commands, deadline, reply, admission };
        match self.events.send_until(ReplicaEvent::Propose(proposal), deadline) {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(_)) => return Err(ProposeError::Overloaded),
            Err(SendTimeoutError::Closed(_)) => return Err(ProposeError::Stopped),
        }
        match client.recv_until(deadline) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                Err(ProposeError::OutcomeUnknown { reason: "the deadline passed" })
            }
            Err(RecvTimeoutError::Closed) => {
                Err(ProposeError::OutcomeUnknown { reason: "the replica stopped" })
            }
        }
    }

    /// Waits until the local state machine may be read: what it shows then includes every command that was acknowledged
    /// anywhere before this call (thesis §6.4). Returns the index that it has applied at least.
    ///
    /// # Errors
    /// A read may always be tried again.
    pub fn read_barrier(&self, deadline: Instant) -> Result<Index, ReadError> {
        let (reply, client) = oneshot::channel();
        match self.events.send_until(ReplicaEvent::Read(ReadRequest { deadline, reply }), deadline) {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(_)) => return Err(ReadError::Overloaded),
            Err(SendTimeoutError::Closed(_)) => return Err(ReadError::Stopped),
        }
        match client.recv_until(deadline) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(ReadError::TimedOut),
            Err(RecvTimeoutError::Closed) => Err(ReadError::Stopped),
        }
    }

    /// Takes a message from a peer. Never blocks: if too much is queued the message is dropped, as a network may.
    pub fn deliver(&self, message: Message) {
        self.deliver_all(vec![message]);
    }

    /// Takes several messages from a peer, as one event.
    pub fn deliver_all(&self, messages: Vec<Message>) {
        let count = messages.len() as u64;
        let bytes = messages.iter().map(entry_bytes).sum();
        // Relaxed: a limit, nothing is published through it.
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_taken = (queued == 0 || queued + bytes <= self.config.max_queued_bytes)
            && self.events.try_send(ReplicaEvent::Deliver(Delivery { messages, bytes })).is_ok();
        if !is_taken {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.refused.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Takes a piece of a snapshot from a leader and stores it. Blocks the calling fiber only.
    pub fn deliver_chunk(&self, chunk: SnapshotChunk) -> SnapshotAck {
        self.chunks.receive(chunk)
    }

    /// The node at this moment. Works after it has stopped, too.
    pub fn status(&self) -> ReplicaStatus {
        self.shared.status()
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.config.core.id
    }

    /// Its settings.
    pub fn config(&self) -> &ReplicaConfig {
        &self.config
    }

    /// Takes a snapshot soon, whatever the settings say.
    pub fn trigger_snapshot(&self) {
        let _ = self.events.send(ReplicaEvent::TriggerSnapshot);
    }

    /// Hands the leadership to `to`, if this node leads and `to` keeps up (thesis §3.10). Watch the status for success.
    pub fn transfer_leadership(&self, to: NodeId) {
        let _ = self.events.send(ReplicaEvent::Transfer(to));
    }

    /// Starts an election now. For tests and operators.
    pub fn campaign(&self) {
        let _ = self.events.send(ReplicaEvent::Campaign);
    }

    /// Waits until the node has stopped. Says why if it was not asked to: its log failed, or an invariant is broken.
    /// The process should exit then.
    pub fn wait_fatal(&self) -> Option<Arc<ReplicaError>> {
        self.shared.wait_end()
    }

    /// Stops the node and waits until its log is closed. What is under way ends as outcome unknown.
    pub fn stop(self) {
        self.shared.stop();
        self.shared.running.wait();
    }
}

fn entry_bytes(message: &Message) -> usize {
    match &message.body {
        Body::AppendEntries(append) => append.entries.iter().map(Entry::size).sum::<usize>(),
        _ => 0,
    }
}

/// Opens everything. Blocks the thread.
fn open<S: StateMachine, D: Disk>(
    config: &ReplicaConfig,
    mut machine: S,
    disk: Arc<D>,
) -> Result<Storage<S, D>, ReplicaError> {
    let wal_config = WalConfig {
        node: config.core.id,
        segment_bytes: config.segment_bytes,
        fill_bytes: config.fill_bytes,
        block_bytes: config.block_bytes,
        new_store_id: fresh_id(),
    };
    // The log first: its lock is that of the whole directory.
    let (wal, recovered) = Wal::open(disk.clone(), config.dir.join("wal"), wal_config)?;
    let store = SnapshotStore::open(disk, config.dir.join("snapshots"), config.snapshots)?;
    let named = recovered.snapshot.as_ref().map(|meta| meta.last);
    store.remove_newer(named)?;
    if let Some(id) = named {
        snapshots::restore(&store, id, &mut machine)?;
        machine.applied(id.index);
    }
    Ok(Storage { wal, recovered, store: Arc::new(store), machine })
}

/// A number nobody else has: drawn from the seed in a simulation, from the system's randomness otherwise.
fn fresh_id() -> u64 {
    if sim::is_simulated() { sim::random_u64() } else { RandomState::new().build_hasher().finish() }
}

/// Runs the log on a thread of its own: a sync blocks whoever calls it. In a simulation, on a fiber.
fn start_log<D: Disk>(
    wal: Wal<D>,
    jobs: Receiver<WalJob>,
    store: Arc<SnapshotStore<D>>,
    watch: Watch,
    token: WaitToken,
) -> Result<(), ReplicaError> {
    let work = move || {
        let _token = token;
        let watch = watch;
        let shared = watch.shared.clone();
        wal::run(wal, &jobs, |event| match event {
            WalEvent::Persisted { ticket, stats } => {
                shared.set_wal_stats(stats);
                shared.set_persisted(ticket);
            }
            WalEvent::Compacted { named, stats } => {
                shared.set_wal_stats(stats);
                if let Err(error) = store.prune(named, shared.applied()) {
                    tracing::warn!(%error, "cannot remove old snapshots");
                }
                shared.nudge();
            }
            WalEvent::Failed(error) => shared.fail(ReplicaError::Wal(error)),
        });
    };
    if sim::is_simulated() {
        drop(FiberBuilder::new().name("raft-log").stack_size(STACK_BYTES).spawn(work));
        return Ok(());
    }
    std::thread::Builder::new()
        .name("raft-log".to_owned())
        .spawn(work)
        .map(drop)
        .map_err(ReplicaError::Thread)
}
