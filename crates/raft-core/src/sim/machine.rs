//! State machines in a simulation: what a cluster runs is watched from inside, and what it runs by default.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::core::{EntryId, Index};
use crate::replica::{FrozenState, StateMachine};

use super::invariants::World;

/// A state machine with a fingerprint.
pub trait SimMachine: StateMachine {
    /// A number that is equal for equal states, and only for them but for a coincidence.
    fn digest(&self) -> u64;
}

/// The fingerprint of the state at each index, as the first node there had it.
#[derive(Debug, Default)]
pub struct Digests(BTreeMap<Index, u64>);

/// Wraps the machine of one node: says at which index each command was applied, publishes how far the node is, and
/// checks that equal logs give equal states.
#[derive(Debug)]
pub struct Watched<M> {
    machine: M,
    node: u64,
    applied: Arc<AtomicU64>,
    digests: Arc<Mutex<Digests>>,
    world: Arc<Mutex<World>>,
}

impl<M: SimMachine> Watched<M> {
    /// Watches `machine`, which belongs to `node`.
    pub fn new(
        machine: M,
        node: u64,
        applied: Arc<AtomicU64>,
        digests: Arc<Mutex<Digests>>,
        world: Arc<Mutex<World>>,
    ) -> Watched<M> {
        Watched { machine, node, applied, digests, world }
    }
}

impl<M: SimMachine> StateMachine for Watched<M> {
    type Output = (EntryId, M::Output);

    fn apply(&mut self, id: EntryId, command: Bytes) -> Self::Output {
        (id, self.machine.apply(id, command))
    }

    fn applied(&mut self, index: Index) {
        self.machine.applied(index);
        let digest = self.machine.digest();
        let mut digests = self.digests.lock().expect("one thread, and nothing panics in here");
        let first = *digests.0.entry(index).or_insert(digest);
        if first != digest {
            let found = format!("node {}: at index {index} {digest:x}, elsewhere {first:x}", self.node);
            self.world.lock().expect("as above").report("equal logs give equal states", found);
        }
        self.applied.store(index, Ordering::SeqCst);
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        self.machine.freeze()
    }

    fn restore(&mut self, source: &mut dyn io::Read) -> io::Result<()> {
        self.machine.restore(source)
    }
}

/// The default machine: the list of all commands ever applied, each a number.
#[derive(Clone, Debug, Default)]
pub struct ListMachine {
    names: Arc<Mutex<Vec<u64>>>,
    digest: u64,
}

impl ListMachine {
    /// A machine that shows its list to the holder of `names`.
    pub fn new(names: Arc<Mutex<Vec<u64>>>) -> ListMachine {
        names.lock().expect("nothing panics with the list").clear();
        ListMachine { names, digest: 0 }
    }

    /// The command that adds `name`, with `filler` bytes that only take room.
    pub fn command(name: u64, filler: usize) -> Bytes {
        [&name.to_le_bytes()[..], &vec![0; filler]].concat().into()
    }

    fn push(&mut self, name: u64) {
        self.digest = (self.digest.rotate_left(7) ^ name).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.names.lock().expect("nothing panics with the list").push(name);
    }
}

impl SimMachine for ListMachine {
    fn digest(&self) -> u64 {
        self.digest
    }
}

impl StateMachine for ListMachine {
    type Output = ();

    fn apply(&mut self, _: EntryId, command: Bytes) {
        let name = command.first_chunk().expect("a command of this machine begins with its number");
        self.push(u64::from_le_bytes(*name));
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        Box::new(FrozenList(self.names.lock().expect("nothing panics with the list").clone()))
    }

    fn restore(&mut self, source: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        let (names, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "half a number at the end"));
        }
        self.names.lock().expect("nothing panics with the list").clear();
        self.digest = 0;
        names.iter().for_each(|name| self.push(u64::from_le_bytes(*name)));
        Ok(())
    }
}

struct FrozenList(Vec<u64>);

impl FrozenState for FrozenList {
    fn write_to(self: Box<Self>, sink: &mut dyn io::Write) -> io::Result<()> {
        self.0.iter().try_for_each(|name| sink.write_all(&name.to_le_bytes()))
    }
}
