//! The state machine against a model, its snapshots, its sessions, and readers beside the writer.

mod commands;

mod model;

mod readers;

mod sessions;

mod snapshots;

use bytes::Bytes;

use super::KvMachine;
use crate::command::{Command, Outcome, Session, Write};

/// Applies commands at consecutive indices and publishes each.
struct Driver {
    machine: KvMachine,
    index: u64,
}

impl Driver {
    fn new() -> Driver {
        Driver { machine: KvMachine::new(), index: 0 }
    }

    fn command(&mut self, command: &Command) -> Outcome {
        self.index += 1;
        let outcome = self.machine.apply_command(self.index, command.encode());
        self.machine.publish(self.index);
        outcome
    }

    fn write(&mut self, write: Write) -> Outcome {
        self.command(&write.into())
    }

    fn once(&mut self, client_id: u128, sequence: u64, write: Write) -> Outcome {
        self.command(&Command { session: Some(Session { client_id, sequence }), write })
    }

    fn put(&mut self, key: &str, value: &str) {
        let outcome = self.write(Write::Put { key: bytes(key), value: bytes(value) });
        assert_eq!(outcome, Outcome::Done { revision: self.index });
    }

    fn get(&self, key: &str) -> Option<Bytes> {
        self.machine.store().view().get(&bytes(key))
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut file = Vec::new();
        self.machine.frozen().write(&mut file).unwrap();
        file
    }

    fn restored(snapshot: &[u8]) -> Driver {
        let mut machine = KvMachine::new();
        machine.restore_from(&mut &snapshot[..]).unwrap();
        let index = machine.summary().applied_index;
        Driver { machine, index }
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A small generator (xorshift64*): the same seed gives the same test.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
