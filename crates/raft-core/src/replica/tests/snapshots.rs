//! Snapshots: taken, used at restart, sent to who is too far behind.

use super::*;

fn small(config: &mut ReplicaConfig) {
    config.snapshot_entries = 50;
    config.core.trailing_entries = 5;
    config.chunk_bytes = 300;
}

#[test]
fn a_snapshot_shortens_the_log_and_serves_the_restart() {
    simulate(1, small, |mut cluster| {
        let leader = cluster.leader();
        for value in 0..1500 {
            cluster.propose(leader, &[value]).unwrap();
        }
        let status = cluster.wait("snapshots", |cluster| {
            let status = cluster.replica(leader).status();
            (status.snapshot_index >= 1450).then_some(status)
        });
        assert!(status.counters.snapshots_saved >= 10, "{status:?}");
        cluster
            .wait("short logs", |cluster| (cluster.replica(leader).status().wal.segments <= 2).then_some(()));
        let kept = cluster.machines[leader].disk.paths();
        let kept = kept.iter().filter(|path| path.extension().is_some_and(|kind| kind == "snap")).count();
        assert!((1..=3).contains(&kept), "{kept} snapshots");
        cluster.wait_equal(None);
        (0..3).for_each(|node| cluster.crash(node));
        (0..3).for_each(|node| cluster.start(node));
        cluster.wait_equal(Some(&(0..1500).collect::<Vec<_>>()));
        cluster.end();
    });
}

#[test]
fn the_size_of_the_log_on_disk_is_bounded_however_small_the_commands() {
    let tune = |config: &mut ReplicaConfig| config.snapshot_wal_bytes = 200_000;
    simulate(6, tune, |mut cluster| {
        let leader = cluster.leader();
        for round in 0..3 {
            for value in 0..1000 {
                cluster.propose(leader, &[round * 1000 + value]).unwrap();
            }
            let size = cluster.replica(leader).status().wal.disk_bytes;
            assert!(size < 500_000, "{size} bytes of log");
        }
        let saved = cluster.replica(leader).status().counters.snapshots_saved;
        assert!(saved >= 5, "{saved} snapshots");
        // What a restarted node finds counts, too.
        let other = (leader + 1) % 3;
        for value in 3000..3200 {
            cluster.propose(leader, &[value]).unwrap();
            if value % 10 == 0 {
                cluster.crash(other);
                cluster.start(other);
            }
        }
        let size = cluster.replica(other).status().wal.disk_bytes;
        assert!(size < 500_000, "{size} bytes of log");
        cluster.end();
    });
}

#[test]
fn a_node_that_was_away_too_long_gets_a_snapshot() {
    simulate(2, small, |mut cluster| {
        let leader = cluster.leader();
        let away = (leader + 1) % 3;
        cluster.propose(leader, &[0]).unwrap();
        cluster.crash(away);
        for value in 1..200 {
            cluster.propose(leader, &[value]).unwrap();
        }
        cluster.wait("a snapshot", |cluster| {
            (cluster.replica(leader).status().snapshot_index > 100).then_some(())
        });
        cluster.start(away);
        cluster.wait_equal(Some(&(0..200).collect::<Vec<_>>()));
        assert_eq!(cluster.replica(away).status().counters.snapshots_installed, 1);
        assert!(cluster.net.chunks.lock(|chunks| *chunks) > 3);
        // What was installed is durable.
        cluster.crash(away);
        cluster.start(away);
        assert!(cluster.replica(away).status().applied_index > 50);
        cluster.wait_equal(Some(&(0..200).collect::<Vec<_>>()));
        cluster.end();
    });
}

#[test]
fn an_interrupted_transfer_goes_on_where_it_was() {
    simulate(3, small, |mut cluster| {
        let leader = cluster.leader();
        let away = (leader + 1) % 3;
        cluster.crash(away);
        for value in 0..300 {
            cluster.propose(leader, &[value]).unwrap();
        }
        cluster.wait("a snapshot", |cluster| {
            (cluster.replica(leader).status().snapshot_index > 200).then_some(())
        });
        cluster.start(away);
        for _ in 0..5 {
            let seen = cluster.net.chunks.lock(|chunks| *chunks);
            cluster.wait("a few chunks", |cluster| {
                (cluster.net.chunks.lock(|chunks| *chunks) > seen + 3).then_some(())
            });
            if cluster.replica(away).status().counters.snapshots_installed > 0 {
                break;
            }
            cluster.net.cut.lock(|cut| cut.push(NodeId(away as u64)));
            time::sleep(Duration::from_millis(50));
            cluster.net.cut.lock(Vec::clear);
        }
        cluster.wait_equal(Some(&(0..300).collect::<Vec<_>>()));
        cluster.end();
    });
}

#[test]
fn a_paused_follower_costs_the_leader_no_memory_and_catches_up() {
    let tune = |config: &mut ReplicaConfig| {
        small(config);
        config.core.max_inflight_messages = 8;
    };
    simulate(4, tune, |cluster| {
        let leader = cluster.leader();
        let paused = (leader + 1) % 3;
        cluster.net.cut.lock(|cut| cut.push(NodeId(paused as u64)));
        for value in 0..500 {
            cluster.propose(leader, &[value]).unwrap();
        }
        let status = cluster.replica(leader).status();
        let peer = status.peers.iter().find(|peer| peer.id == NodeId(paused as u64)).unwrap();
        assert!(peer.inflight <= 8, "{peer:?}");
        assert!(status.backlog_bytes < 100_000, "{status:?}");
        cluster.net.cut.lock(Vec::clear);
        cluster.wait_equal(Some(&(0..500).collect::<Vec<_>>()));
        cluster.end();
    });
}

#[test]
fn chunks_of_strangers_and_old_terms_are_refused() {
    simulate(5, small, |cluster| {
        let leader = cluster.leader();
        cluster.propose(leader, &[1]).unwrap();
        let receiver = (leader + 1) % 3;
        let id = |node: usize| NodeId(node as u64);
        let term = cluster.wait("the term", |cluster| {
            let term = cluster.replica(receiver).status().term;
            (term > 0).then_some(term)
        });
        let good = SnapshotChunk {
            from: id(leader),
            to: id(receiver),
            term,
            meta: crate::core::SnapshotMeta::default(),
            total: 100,
            offset: 0,
            data: Bytes::from_static(b"start"),
        };
        let replica = cluster.replica(receiver);
        let refused = |chunk, reason| assert_eq!(replica.deliver_chunk(chunk), SnapshotAck::Refused(reason));
        refused(SnapshotChunk { from: NodeId(77), ..good.clone() }, ChunkRefusal::Unavailable);
        refused(SnapshotChunk { to: NodeId(77), ..good.clone() }, ChunkRefusal::Unavailable);
        refused(SnapshotChunk { term: term - 1, ..good.clone() }, ChunkRefusal::Stale);
        assert_eq!(replica.deliver_chunk(good), SnapshotAck::Wanted { offset: 5 });
        cluster.end();
    });
}

#[test]
fn snapshots_taken_while_one_is_being_sent_do_not_hurt_it() {
    simulate(7, small, |mut cluster| {
        let leader = cluster.leader();
        let away = (leader + 1) % 3;
        cluster.crash(away);
        for value in 0..200 {
            cluster.propose(leader, &[value]).unwrap();
        }
        cluster.wait("a snapshot", |cluster| {
            (cluster.replica(leader).status().snapshot_index > 100).then_some(())
        });
        cluster.start(away);
        // Many snapshots come and go, and the one that is on its way is removed from the directory.
        for value in 200..900 {
            cluster.propose(leader, &[value]).unwrap();
            if value % 10 == 0 {
                cluster.replica(leader).trigger_snapshot();
            }
        }
        cluster.wait_equal(Some(&(0..900).collect::<Vec<_>>()));
        assert!(cluster.replica(away).status().counters.snapshots_installed >= 1);
        cluster.end();
    });
}

#[test]
fn a_power_cut_at_any_point_of_an_installation_is_survived() {
    for seed in 0..30 {
        simulate(2000 + seed, small, move |mut cluster| {
            let leader = cluster.leader();
            let away = (leader + 1) % 3;
            // It knows something of the log, which the snapshot will replace.
            for value in 0..20 {
                cluster.propose(leader, &[value]).unwrap();
            }
            cluster.crash(away);
            for value in 20..200 {
                cluster.propose(leader, &[value]).unwrap();
            }
            cluster.wait("a snapshot", |cluster| {
                (cluster.replica(leader).status().snapshot_index > 100).then_some(())
            });
            for _ in 0..4 {
                cluster.start(away);
                time::sleep(Duration::from_micros(sim::random_u64() % 60_000));
                cluster.crash(away);
            }
            cluster.start(away);
            cluster.wait_equal(Some(&(0..200).collect::<Vec<_>>()));
            cluster.end();
        });
    }
}
