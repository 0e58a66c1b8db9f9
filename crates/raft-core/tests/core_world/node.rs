//! One simulated machine: a core while it runs, and a disk that outlives it.

use raft_core::core::{Config, Core, Index, NodeId};

use super::disk::Disk;
use super::machine::Machine;

/// See the module's documentation.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) config: Config,
    pub(crate) core: Option<Core>,
    pub(crate) disk: Disk,
    pub(crate) machine: Machine,
    /// Snapshots received whole, by index, with the state they stand for.
    pub(crate) spool: Vec<super::machine::Snapshot>,
    /// Commit index before the last step, to see it move.
    pub(crate) commit: Index,
}

impl Node {
    pub(crate) fn new(config: Config) -> Node {
        Node {
            id: config.id,
            config,
            core: None,
            disk: Disk::default(),
            machine: Machine::new(None),
            spool: Vec::new(),
            commit: 0,
        }
    }

    /// Starts from the disk.
    pub(crate) fn start(&mut self) {
        let restored = self.disk.restored();
        self.machine = Machine::new(self.disk.snapshot.as_ref());
        let core = Core::new(self.config.clone(), restored).expect("a disk that only crashed is consistent");
        self.commit = core.commit_index();
        self.core = Some(core);
    }
}
