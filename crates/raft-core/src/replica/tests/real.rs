//! The same fibers on a real runtime, real time and the real disk.

use fiber_runtime::Runtime;

use super::*;
use crate::wal::RealDisk;

/// A node of one has nobody to talk to.
struct Nowhere;

impl Transport for Nowhere {
    fn send(&self, _: Message) -> Result<(), Dropped> {
        Err(Dropped)
    }

    fn snapshot_chunk(&self, chunk: SnapshotChunk, _: Instant) -> Result<SnapshotAck, TransportError> {
        Err(TransportError { to: chunk.to, reason: "nowhere".to_owned() })
    }
}

#[test]
fn a_node_of_one_keeps_its_commands_on_the_real_disk() {
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let dir = root.path().to_owned();
    runtime.block_on(move || {
        let start = || {
            let mut config = ReplicaConfig::new(NodeId(0), vec![NodeId(0)], &dir);
            config.segment_bytes = 1 << 20;
            config.fill_bytes = 1 << 18;
            config.snapshot_entries = 300;
            let ledger = Ledger::default();
            let shown = ledger.shown.clone();
            let replica = Replica::start(config, ledger, Arc::new(RealDisk), Arc::new(Nowhere)).unwrap();
            let deadline = soon();
            while replica.read_barrier(deadline).is_err() {
                assert!(time::now() < deadline, "never a leader: {:?}", replica.status());
                time::sleep(Duration::from_millis(5));
            }
            (replica, shown)
        };
        let (replica, _) = start();
        let clients: Vec<_> = (0..20u64)
            .map(|client| {
                let replica = replica.clone();
                fiber_runtime::spawn(move || {
                    for step in 0..50 {
                        replica.propose(vec![command(client * 50 + step)], soon()).unwrap();
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let status = replica.status();
        assert_eq!(status.counters.proposed, 1000);
        assert!(status.fsyncs < 1000, "{} syncs", status.fsyncs);
        replica.stop();
        let (replica, shown) = start();
        let mut lines: Vec<u64> = shown
            .lock(|shown| shown.clone())
            .iter()
            .map(|(_, line)| u64::from_le_bytes(line[..].try_into().unwrap()))
            .collect();
        lines.sort_unstable();
        assert_eq!(lines, (0..1000).collect::<Vec<_>>());
        replica.stop();
    });
}

#[test]
fn a_panic_of_the_state_machine_stops_the_node() {
    // Not in a simulation: there, a panic of any fiber fails the run.
    let root = tempfile::tempdir().unwrap();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let dir = root.path().to_owned();
    runtime.block_on(move || {
        let mut config = ReplicaConfig::new(NodeId(0), vec![NodeId(0)], dir);
        config.segment_bytes = 1 << 20;
        config.fill_bytes = 1 << 18;
        let replica =
            Replica::start(config, Ledger::default(), Arc::new(RealDisk), Arc::new(Nowhere)).unwrap();
        let deadline = soon();
        while replica.read_barrier(deadline).is_err() {
            assert!(time::now() < deadline, "never a leader: {:?}", replica.status());
            time::sleep(Duration::from_millis(5));
        }
        let result = replica.propose(vec![Bytes::from_static(b"panic")], soon());
        assert!(matches!(result, Err(ProposeError::OutcomeUnknown { .. })), "{result:?}");
        assert!(matches!(*replica.wait_fatal().unwrap(), ReplicaError::Panicked("apply")));
    });
}
