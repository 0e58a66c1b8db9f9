//! Bad neighbours: garbage at every port, a second process on the same data, a full disk.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use moon_tests::cluster::{Cluster, Options, PATIENCE};
use moon_tests::process::Process;
use moon_tests::wait::wait_until;
use moon_tests::workload::{Load, assert_all_present};

/// Things that no client says, each worse than the last.
fn garbage() -> Vec<Vec<u8>> {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut byte = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 24) as u8
        };
        (0..length).map(|_| byte()).collect()
    };
    vec![
        Vec::new(),
        b"\0".to_vec(),
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"*1000000000\r\n".to_vec(),
        b"*2\r\n$3\r\nGET\r\n$99999999999\r\n".to_vec(),
        b"*-1\r\n$-5\r\nSET\r\n".to_vec(),
        b"*3\r\n$3\r\nSET\r\n$1\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/9.9\r\n\r\n".to_vec(),
        [b"GET / HTTP/1.1\r\n".to_vec(), b"x: y\r\n".repeat(20_000)].concat(),
        noise(10),
        noise(1000),
        noise(200_000),
        vec![b'*'; 100_000],
        vec![0x80; 100_000],
    ]
}

/// Sends `bytes` and reads until the node closes or is silent.
fn throw(at: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    // The node may close at any byte; all that counts is what becomes of the node.
    let _ = stream.write_all(bytes);
    let mut answer = [0; 4096];
    while matches!(stream.read(&mut answer), Ok(1..)) {}
}

#[test]
fn garbage_at_every_port_hurts_nobody() {
    let mut cluster = Cluster::start(&Options::nodes(3));
    let leader = cluster.wait_for_leader();
    let memory: Vec<u64> = (0..3).map(|node| cluster.process(node).status_field("VmRSS")).collect();
    let term = cluster.status(leader).unwrap().number("term");
    for node in [leader, (leader + 1) % 3] {
        let at = cluster.addresses(node);
        for port in [at.rpc, at.resp, at.http] {
            for bytes in garbage() {
                throw(port, &bytes);
            }
        }
    }
    cluster.assert_running();
    for (node, memory) in memory.into_iter().enumerate() {
        let reply = cluster.client(node).call(&["SET", "after", "garbage"]).unwrap();
        assert!(reply.is_ok(), "node {node}: {reply:?}");
        let grown = cluster.process(node).status_field("VmRSS").saturating_sub(memory);
        assert!(grown < 64 << 10, "node {node} grew by {grown} KiB");
    }
    println!("term {term} before, {} after", cluster.status(leader).unwrap().number("term"));
    cluster.wait_for_agreement();
}

#[test]
fn second_process_on_the_same_data_is_refused() {
    let mut cluster = Cluster::start(&Options::nodes(3));
    cluster.wait_for_leader();
    // Other ports, so that nothing but the data directory can be in its way.
    let other = cluster.other_ports(0);
    let log = cluster.data().join("second.log");
    let mut second =
        Process::start(cluster.command(0).args(other.iter().flat_map(|set| ["--set", set])), &log);
    let status = second.wait_for_end(PATIENCE);
    assert!(!status.success(), "a second process ran on the data of node 0");
    let log = second.log();
    assert!(log.contains("lock") || log.contains("in use") || log.contains("already"), "{log}");
    cluster.assert_running();
    assert!(cluster.client(0).call(&["SET", "still", "here"]).unwrap().is_ok());
}

#[test]
fn full_disk_ends_the_node_with_a_clear_word_and_loses_nothing() {
    let mut cluster = Cluster::start(&Options::nodes(3).set("snapshot_log_bytes", "1GiB"));
    let leader = cluster.wait_for_leader();
    let victim = (leader + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    cluster.kill(victim);
    // The shell counts in blocks of 512 or 1024 bytes: a limit that the log reaches soon after its start. Without the
    // trap the kernel would end the process before it can say why.
    let node = cluster.command(victim);
    let mut limited = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", 9 << 10);
    limited.arg("-c").arg(script).arg(node.get_program()).args(node.get_args());
    cluster.start_node_as(victim, limited);

    let load = Load::start(&cluster, &others, 4, "full", 4000);
    let ended = (0..PATIENCE.as_millis() / 50).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        cluster.process(victim).ended()
    });
    let log = cluster.process(victim).log();
    let report = load.stop();
    println!("the node with the full disk: {ended:?}; {report}");
    let status = ended.unwrap_or_else(|| panic!("the node goes on without a disk:\n{log}"));
    assert!(!status.success(), "{status}");
    let last = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
    assert!(last.contains("File too large") || last.contains("space") || last.contains("write"), "{last}");

    // The others never noticed, and with room again the node is one of them.
    cluster.kill(victim);
    cluster.start_node(victim);
    wait_until("the node to serve again", PATIENCE, || {
        cluster.client(victim).call(&["SET", "room", "again"]).is_ok_and(|reply| reply.is_ok())
    });
    cluster.wait_for_agreement();
    for node in 0..3 {
        assert_all_present(&cluster, node, &report.acknowledged);
    }
}
