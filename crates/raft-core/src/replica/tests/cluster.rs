//! A healthy cluster: it elects, appends, reads, and batches.

use super::*;

#[test]
fn a_command_is_applied_on_every_node() {
    simulate(1, plain, |cluster| {
        let leader = cluster.leader();
        let indices = cluster.propose(leader, &[7, 8, 9]).unwrap();
        assert!(indices.windows(2).all(|pair| pair[1] == pair[0] + 1), "{indices:?}");
        cluster.wait_equal(Some(&[7, 8, 9]));
        cluster.end();
    });
}

#[test]
fn others_than_the_leader_say_who_leads() {
    simulate(2, plain, |cluster| {
        let leader = cluster.leader();
        let other = (leader + 1) % 3;
        cluster.wait("the follower to know", |cluster| cluster.replica(other).status().leader);
        let known = Some(NodeId(leader as u64));
        assert_eq!(cluster.propose(other, &[1]), Err(ProposeError::NotLeader { leader: known }));
        assert_eq!(cluster.replica(other).read_barrier(soon()), Err(ReadError::NotLeader { leader: known }));
        cluster.end();
    });
}

#[test]
fn a_confirmed_read_sees_what_was_acknowledged() {
    simulate(3, plain, |cluster| {
        let leader = cluster.leader();
        for value in 0..20 {
            let index = cluster.propose(leader, &[value]).unwrap()[0];
            let read = cluster.replica(leader).read_barrier(soon()).unwrap();
            assert!(read >= index, "read at {read} after a write at {index}");
            assert!(cluster.lines(leader).contains(&value));
        }
        cluster.end();
    });
}

#[test]
fn many_clients_share_writes_and_syncs() {
    simulate(4, plain, |cluster| {
        let leader = cluster.leader();
        let before = cluster.replica(leader).status();
        let clients: Vec<_> = (0..200u64)
            .map(|client| {
                let replica = cluster.replica(leader).clone();
                fiber_runtime::spawn(move || {
                    for step in 0..5 {
                        replica.propose(vec![command(client * 100 + step)], soon()).unwrap();
                        replica.read_barrier(soon()).unwrap();
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let after = cluster.replica(leader).status();
        assert_eq!(after.counters.proposed - before.counters.proposed, 1000);
        let syncs = after.fsyncs - before.fsyncs;
        assert!(syncs < 200, "{syncs} syncs for 1000 commands");
        assert_eq!(cluster.wait_equal(None).len(), 1000);
        cluster.end();
    });
}

#[test]
fn equal_seeds_give_equal_runs() {
    let run = |seed: u64| {
        let sim = Sim::new(seed);
        let lines = sim.run(move || {
            let mut cluster = Cluster::new(seed, plain);
            for value in 0..10 {
                let leader = cluster.leader();
                let _ = cluster.propose(leader, &[value]);
                if value == 5 {
                    cluster.crash(leader);
                    cluster.start(leader);
                }
            }
            let lines = cluster.wait_equal(None);
            cluster.end();
            lines
        });
        (sim.trace_hash(), lines)
    };
    assert_eq!(run(77), run(77));
    assert_ne!(run(77).0, run(78).0);
}

#[test]
fn leadership_moves_on_request() {
    simulate(5, plain, |cluster| {
        let leader = cluster.leader();
        cluster.propose(leader, &[1]).unwrap();
        let next = (leader + 1) % 3;
        cluster.wait_equal(Some(&[1]));
        cluster.replica(leader).transfer_leadership(NodeId(next as u64));
        cluster.wait("the new leader", |cluster| {
            (cluster.replica(next).status().role == Role::Leader).then_some(())
        });
        cluster.wait("a commit of the new term", |cluster| cluster.propose(next, &[2]).ok());
        cluster.wait_equal(Some(&[1, 2]));
        cluster.end();
    });
}

#[test]
fn what_is_too_much_is_refused_at_once() {
    let tune = |config: &mut ReplicaConfig| {
        config.max_pending_commands = 4;
        config.max_command_bytes = 100;
    };
    simulate(6, tune, |cluster| {
        let leader = cluster.leader();
        let replica = cluster.replica(leader).clone();
        let large = replica.propose(vec![Bytes::from(vec![0; 101])], soon());
        assert_eq!(large, Err(ProposeError::TooLarge { bytes: 101, limit: 100 }));
        // Without a majority nothing completes.
        cluster.net.cut.lock(|cut| cut.push(NodeId(leader as u64)));
        let waiting = replica.clone();
        let deadline = time::now() + Duration::from_millis(100);
        let client = fiber_runtime::spawn(move || waiting.propose((1..=4).map(command).collect(), deadline));
        time::sleep(Duration::from_millis(10));
        assert_eq!(replica.propose(vec![command(5)], soon()), Err(ProposeError::Overloaded));
        let result = client.join().unwrap();
        assert_eq!(result, Err(ProposeError::OutcomeUnknown { reason: "the deadline passed" }));
        cluster.net.cut.lock(Vec::clear);
        cluster.end();
    });
}

#[test]
fn an_idle_leader_sends_only_heartbeats() {
    simulate(7, plain, |cluster| {
        let leader = cluster.leader();
        let before = cluster.replica(leader).status().counters.sent;
        time::sleep(Duration::from_secs(1));
        let sent = cluster.replica(leader).status().counters.sent - before;
        // Heartbeats to two peers every three ticks of 10 ms.
        assert!((50..100).contains(&sent), "{sent} messages in a second");
        cluster.end();
    });
}

#[test]
fn messages_beyond_the_queue_are_dropped_and_counted() {
    let tune = |config: &mut ReplicaConfig| config.max_queued_events = 8;
    simulate(8, tune, |cluster| {
        let leader = cluster.leader();
        let replica = cluster.replica((leader + 1) % 3);
        let status = replica.status();
        let message = Message {
            from: NodeId(leader as u64),
            to: status.id,
            term: status.term,
            body: crate::core::Body::TimeoutNow,
        };
        // The owner fiber does not run between these.
        (0..100).for_each(|_| replica.deliver(Message { term: 0, ..message.clone() }));
        assert!(replica.status().counters.refused >= 90, "{:?}", replica.status().counters);
        cluster.propose(cluster.leader(), &[1]).unwrap();
        cluster.wait_equal(Some(&[1]));
        cluster.end();
    });
}

#[test]
fn a_cluster_of_one_confirms_reads_that_come_with_a_tick() {
    Sim::new(9).run(|| {
        let config = ReplicaConfig::new(NodeId(0), vec![NodeId(0)], "/data");
        let tick = config.tick;
        let (disk, net) = (Arc::new(SimDisk::new(9)), Arc::new(End(Arc::default())));
        let replica = Replica::start(config, Ledger::default(), disk, net).unwrap();
        let start = time::now();
        for round in 50..500 {
            time::sleep_until(start + tick * round);
            let read = replica.read_barrier(time::now() + tick * 4);
            assert!(read.is_ok(), "round {round}: {read:?}, {:?}", replica.status());
        }
        replica.stop();
    });
}

/// Notes how often another fiber has run when each command is applied.
struct Clocked(Arc<std::sync::atomic::AtomicU64>);

impl StateMachine for Clocked {
    type Output = u64;

    fn apply(&mut self, _: EntryId, _: Bytes) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn freeze(&mut self) -> Box<dyn FrozenState> {
        Box::new(Frozen(Arc::default()))
    }

    fn restore(&mut self, _: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_long_batch_lets_other_fibers_run_in_between() {
    Sim::new(10).run(|| {
        let turns = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counter = turns.clone();
        let config = ReplicaConfig::new(NodeId(0), vec![NodeId(0)], "/data");
        let (disk, net) = (Arc::new(SimDisk::new(10)), Arc::new(End(Arc::default())));
        let replica = Replica::start(config, Clocked(turns), disk, net).unwrap();
        while replica.read_barrier(soon()).is_err() {
            time::sleep(Duration::from_millis(10));
        }
        let other = fiber_runtime::spawn(move || {
            for _ in 0..20_000 {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                fiber_runtime::yield_now();
            }
        });
        let mut seen = replica.propose((0..2000).map(command).collect(), soon()).unwrap();
        seen.dedup();
        assert!(seen.len() >= 20, "others ran {} times during 2000 commands", seen.len());
        other.join().unwrap();
        replica.stop();
    });
}
