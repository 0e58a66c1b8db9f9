//! Crashes, partitions, failing disks: what was acknowledged stays, and nobody is told a lie.

use super::*;
use crate::sim::rng::Rng;

#[test]
fn acknowledged_commands_survive_the_crash_of_every_node() {
    simulate(1, plain, |mut cluster| {
        let leader = cluster.leader();
        for value in 0..30 {
            cluster.propose(leader, &[value]).unwrap();
        }
        (0..3).for_each(|node| cluster.crash(node));
        (0..3).for_each(|node| cluster.start(node));
        let leader = cluster.leader();
        cluster.replica(leader).read_barrier(soon()).unwrap();
        assert_eq!(cluster.lines(leader), (0..30).collect::<Vec<_>>());
        cluster.end();
    });
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable_on_a_majority() {
    simulate(10, plain, |mut cluster| {
        for machine in &cluster.machines {
            machine.disk.set_sync_latency(Duration::from_millis(5), Duration::from_millis(20));
        }
        for value in 0..12 {
            let leader = cluster.leader();
            cluster.wait("an acknowledgement", |cluster| cluster.propose(leader, &[value]).ok());
            // The power fails in the very moment of the acknowledgement, everywhere.
            (0..3).for_each(|node| cluster.crash(node));
            (0..3).for_each(|node| cluster.start(node));
            let leader = cluster.leader();
            cluster.replica(leader).read_barrier(soon()).unwrap();
            assert_eq!(cluster.lines(leader), (0..=value).collect::<Vec<_>>());
        }
        cluster.end();
    });
}

#[test]
fn a_cluster_of_one_acknowledges_only_what_is_durable() {
    Sim::new(11).run(|| {
        let mut disk = SimDisk::new(11);
        disk.set_sync_latency(Duration::from_millis(5), Duration::from_millis(20));
        for value in 0..12 {
            let ledger = Ledger::default();
            let shown = ledger.shown.clone();
            let group = Group::new("the only node");
            let (here, end) = (Arc::new(disk.clone()), Arc::new(End(Arc::default())));
            let config = ReplicaConfig::new(NodeId(0), vec![NodeId(0)], "/data");
            let replica = group.spawn(move || Replica::start(config, ledger, here, end)).join();
            let replica = replica.unwrap().unwrap();
            while replica.read_barrier(soon()).is_err() {
                time::sleep(Duration::from_millis(5));
            }
            assert_eq!(shown.lock(|lines| lines.len()), value);
            replica.propose(vec![command(value as u64)], soon()).unwrap();
            group.cancel();
            disk = disk.crash();
        }
    });
}

#[test]
fn the_loss_of_the_leader_costs_no_acknowledged_command() {
    simulate(2, plain, |mut cluster| {
        let first = cluster.leader();
        cluster.propose(first, &[1, 2]).unwrap();
        cluster.crash(first);
        let second = cluster.leader();
        assert_ne!(first, second);
        cluster.propose(second, &[3]).unwrap();
        cluster.start(first);
        cluster.wait_equal(Some(&[1, 2, 3]));
        cluster.end();
    });
}

#[test]
fn a_replaced_command_is_reported_as_not_appended() {
    simulate(3, plain, |cluster| {
        let first = cluster.leader();
        cluster.propose(first, &[1]).unwrap();
        cluster.net.cut.lock(|cut| cut.push(NodeId(first as u64)));
        let alone = cluster.replica(first).clone();
        let deadline = time::now() + Duration::from_secs(20);
        let client = fiber_runtime::spawn(move || alone.propose(vec![command(66)], deadline));
        let second = cluster.leader();
        cluster.propose(second, &[2]).unwrap();
        cluster.net.cut.lock(Vec::clear);
        let result = client.join().unwrap();
        assert!(matches!(result, Err(ProposeError::NotLeader { .. })), "{result:?}");
        cluster.wait_equal(Some(&[1, 2]));
        cluster.end();
    });
}

#[test]
fn a_leader_without_a_majority_confirms_no_read() {
    simulate(4, plain, |cluster| {
        let first = cluster.leader();
        cluster.net.cut.lock(|cut| cut.push(NodeId(first as u64)));
        let deadline = time::now() + Duration::from_millis(600);
        let read = cluster.replica(first).read_barrier(deadline);
        assert!(matches!(read, Err(ReadError::NotLeader { .. } | ReadError::TimedOut)), "{read:?}");
        cluster.net.cut.lock(Vec::clear);
        cluster.end();
    });
}

#[test]
fn a_failed_sync_stops_the_node_and_says_why() {
    simulate(5, plain, |mut cluster| {
        let leader = cluster.leader();
        cluster.propose(leader, &[1]).unwrap();
        cluster.machines[leader].disk.fail_sync_after(0);
        let replica = cluster.replica(leader).clone();
        let result = cluster.propose(leader, &[2]);
        // The others may have committed it; but this node never says so out of its own broken log.
        assert!(matches!(result, Ok(_) | Err(ProposeError::OutcomeUnknown { .. })), "{result:?}");
        let error = replica.wait_fatal().expect("it was not asked to stop");
        assert!(matches!(*error, ReplicaError::Wal(_)), "{error}");
        assert!(replica.status().stopped.unwrap().contains("injected sync fault"));
        assert_eq!(replica.propose(vec![command(3)], soon()), Err(ProposeError::Stopped));
        assert_eq!(replica.read_barrier(soon()), Err(ReadError::Stopped));
        drop(replica);
        // The others go on; the node comes back with what was synced.
        cluster.crash(leader);
        let next = cluster.leader();
        cluster.propose(next, &[4]).unwrap();
        cluster.start(leader);
        let lines = cluster.wait_equal(None);
        assert!(lines == [1, 4] || lines == [1, 2, 4], "{lines:?}");
        cluster.end();
    });
}

#[test]
fn a_full_disk_stops_the_node_with_a_clear_message() {
    simulate(6, plain, |cluster| {
        let leader = cluster.leader();
        cluster.machines[leader].disk.set_capacity(Some(0));
        let replica = cluster.replica(leader).clone();
        let error = cluster.wait("the node to stop", |cluster| {
            let _ = cluster.replica(leader).propose(vec![Bytes::from(vec![7; 8]); 500], soon());
            replica.status().stopped
        });
        assert!(error.contains("the disk is full"), "{error}");
        drop(replica);
        cluster.end();
    });
}

#[test]
fn a_damaged_log_is_refused_at_start() {
    simulate(8, plain, |mut cluster| {
        let leader = cluster.leader();
        cluster.propose(leader, &[1, 2, 3]).unwrap();
        cluster.crash(leader);
        let disk = &cluster.machines[leader].disk;
        let path = disk.paths().into_iter().find(|path| path.extension().is_some_and(|kind| kind == "wal"));
        // In the batch after the first block.
        disk.flip_bit(&path.unwrap(), 600, 3);
        let error = cluster.try_start(leader).unwrap_err();
        assert!(error.to_string().contains("the log is damaged"), "{error}");
        cluster.end();
    });
}

#[test]
fn a_stopped_node_releases_its_directory() {
    simulate(9, plain, |mut cluster| {
        let leader = cluster.leader();
        cluster.propose(leader, &[1]).unwrap();
        let process = cluster.machines[leader].process.take().unwrap();
        let second = cluster.try_start(leader).unwrap_err();
        assert!(second.to_string().contains("in use by another process"), "{second}");
        drop(cluster.net.nodes.lock(|nodes| nodes.remove(&NodeId(leader as u64))));
        process.replica.stop();
        cluster.start(leader);
        cluster.wait_equal(Some(&[1]));
        cluster.end();
    });
}

#[test]
fn random_faults_lose_nothing_that_was_acknowledged() {
    for seed in 0..100 {
        let tune = |config: &mut ReplicaConfig| config.snapshot_entries = 20;
        simulate(1000 + seed, tune, move |mut cluster| {
            let mut random = Rng::new(seed, "faults");
            let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
            for value in 0..60u64 {
                if random.chance(0.15) {
                    let node = random.below(3) as usize;
                    if cluster.machines[node].process.is_some() {
                        cluster.crash(node);
                    } else {
                        cluster.start(node);
                    }
                }
                if random.chance(0.1) {
                    let node = NodeId(random.below(3));
                    cluster.net.cut.lock(|cut| {
                        if cut.pop().is_none() {
                            cut.push(node)
                        }
                    });
                }
                let percent = random.below(20);
                cluster.net.loss.lock(|loss| *loss = percent);
                let running = cluster.running();
                if running.is_empty() {
                    continue;
                }
                let node = *random.pick(&running);
                let node = cluster.replica(node).status().leader.map_or(node, |leader| leader.0 as usize);
                if cluster.machines[node].process.is_none() {
                    time::sleep(Duration::from_millis(100));
                    continue;
                }
                let deadline = time::now() + Duration::from_millis(300);
                match cluster.replica(node).propose(vec![command(value)], deadline) {
                    Ok(_) => acknowledged.push(value),
                    Err(error) if error.is_not_appended() => refused.push(value),
                    Err(_) => {}
                }
            }
            cluster.net.cut.lock(Vec::clear);
            cluster.net.loss.lock(|loss| *loss = 0);
            for node in 0..3 {
                if cluster.machines[node].process.is_none() {
                    cluster.start(node);
                }
            }
            let leader = cluster.leader();
            cluster.wait("a last command", |cluster| cluster.propose(cluster.leader(), &[999]).ok());
            let lines = cluster.wait_equal(None);
            for value in &acknowledged {
                assert!(lines.contains(value), "seed {seed}: {value} is lost, leader {leader}");
            }
            for value in &refused {
                assert!(!lines.contains(value), "seed {seed}: {value} was refused, yet it is there");
            }
            let mut unique = lines.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), lines.len(), "seed {seed}: a command is there twice");
            cluster.end();
        });
    }
}
