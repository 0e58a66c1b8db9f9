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

/// A free address; the listener that found it is gone, so another process could take it, but hardly in this moment.
fn free_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn three_nodes_over_rpc_replicate_and_send_a_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().to_owned();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.block_on(move || {
        const CLUSTER: u64 = 0xabc;
        let addresses: BTreeMap<NodeId, _> = (0..3).map(|id| (NodeId(id), free_address())).collect();
        let start = |id: u64| {
            let mut config =
                ReplicaConfig::new(NodeId(id), (0..3).map(NodeId).collect(), dir.join(id.to_string()));
            config.segment_bytes = 1 << 20;
            config.fill_bytes = 1 << 18;
            config.snapshot_entries = 200;
            config.core.trailing_entries = 10;
            config.chunk_bytes = 1000;
            // Patient, because this machine builds and tests other things meanwhile.
            config.core.election_ticks = 50;
            let peers =
                addresses.iter().filter(|(peer, _)| peer.0 != id).map(|(&peer, &at)| (peer, at)).collect();
            let transport = Arc::new(RpcTransport::new(CLUSTER, &peers, &fiber_rpc::ChannelConfig::lan()));
            let ledger = Ledger::default();
            let shown = ledger.shown.clone();
            let replica = Replica::start(config, ledger, Arc::new(RealDisk), transport.clone()).unwrap();
            let service = RaftService::new(replica.clone(), CLUSTER);
            let server =
                fiber_rpc::Server::builder().service(service).bind(addresses[&NodeId(id)]).unwrap().spawn();
            (replica, shown, server, transport)
        };
        let propose = |nodes: &[Replica<Ledger>], value: u64| {
            let deadline = time::now() + Duration::from_secs(20);
            loop {
                for node in nodes {
                    match node.propose(vec![command(value)], deadline) {
                        Ok(_) => return,
                        Err(error) => assert!(error.is_not_appended(), "{error}"),
                    }
                }
                assert!(
                    time::now() < deadline,
                    "no leader: {:#?}",
                    nodes.iter().map(Replica::status).collect::<Vec<_>>()
                );
                time::sleep(Duration::from_millis(10));
            }
        };
        let first: Vec<_> = (0..2).map(start).collect();
        let nodes: Vec<_> = first.iter().map(|node| node.0.clone()).collect();
        for value in 0..450 {
            propose(&nodes, value);
        }
        // The third comes when the log is gone.
        let third = start(2);
        let deadline = time::now() + Duration::from_secs(20);
        while third.1.lock(|shown| shown.len()) < 450 {
            assert!(time::now() < deadline, "never caught up: {:#?}", third.0.status());
            time::sleep(Duration::from_millis(10));
        }
        assert_eq!(third.0.status().counters.snapshots_installed, 1);
        let expected = first[0].1.lock(|shown| shown.clone());
        assert_eq!(third.1.lock(|shown| shown.clone()), expected);
        for (replica, _, server, transport) in first.into_iter().chain([third]) {
            server.shutdown(time::now() + Duration::from_secs(1));
            transport.close();
            replica.stop();
        }
    });
}

#[test]
fn frames_that_are_not_for_this_node_are_refused() {
    use fiber_rpc::{CallContext, Code, Service};

    simulate(1, plain, |cluster| {
        let service = RaftService::new(cluster.replica(0).clone(), 7);
        let cx = CallContext::new("127.0.0.1:1".parse().unwrap(), None);
        let message = |from, to| Message {
            from: NodeId(from),
            to: NodeId(to),
            term: 1,
            body: crate::core::Body::TimeoutNow,
        };
        let code = |frame| service.call(&cx, "Messages", frame).unwrap_err().code();
        assert_eq!(code(codec::encode_messages(7, &[message(1, 2)])), Code::InvalidArgument);
        assert_eq!(code(codec::encode_messages(7, &[message(9, 0)])), Code::InvalidArgument);
        assert_eq!(code(codec::encode_messages(7, &[message(0, 0)])), Code::InvalidArgument);
        assert_eq!(code(codec::encode_messages(8, &[message(1, 0)])), Code::InvalidArgument);
        assert_eq!(code(Bytes::from_static(b"nonsense")), Code::InvalidArgument);
        assert_eq!(service.call(&cx, "Other", Bytes::new()).unwrap_err().code(), Code::UnknownMethod);
        assert!(service.call(&cx, "Messages", codec::encode_messages(7, &[message(1, 0)])).is_ok());
        drop(service);
        cluster.end();
    });
}
