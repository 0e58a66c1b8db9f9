//! `kvserver cluster`: the nodes of a conf file as child processes of this one.
//!
//! Every child is told to stop by closing its standard input. That also happens when this process dies in whatever
//! way, so no node outlives it unnoticed. A child that ends is reported and not started again.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kvserver::clerk::{BlockingClerk, ClerkConfig};
use kvserver::command::NodeStatus;
use kvserver::config::Config;
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::SettingArguments;

/// How long the nodes may take to elect a leader before that is remarked upon.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a node gets beyond its own time to stop before it is killed.
const STOP_MARGIN: Duration = Duration::from_secs(3);

/// A running node.
struct Node {
    id: u64,
    child: Child,
    ended: bool,
}

pub(crate) fn run(
    count: Option<usize>,
    log_dir: Option<PathBuf>,
    settings: &SettingArguments,
) -> Result<(), String> {
    let config = settings.load()?;
    let file = settings.file.as_ref().expect("clap demands the conf file");
    if let Some(count) = count
        && count != config.nodes.len()
    {
        let found = config.nodes.len();
        return Err(format!(
            "-n {count}: {} has {found} nodes; give as many or leave -n out",
            file.display()
        ));
    }
    if let Some(dir) = &log_dir {
        std::fs::create_dir_all(dir)
            .map_err(|error| format!("cannot create log directory {}: {error}", dir.display()))?;
    }
    // Before the first child, so that no signal and no end of a child is missed.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGCHLD])
        .map_err(|error| format!("cannot listen for signals: {error}"))?;

    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut nodes = Vec::new();
    for id in config.nodes.keys() {
        let arguments = node_arguments(*id, file, settings)?;
        nodes.push(start(&program, *id, &arguments, log_dir.as_deref())?);
    }
    let stopping = Arc::new(AtomicBool::new(false));
    let announcer = std::thread::spawn({
        let (config, file, stopping) = (config.clone(), file.clone(), Arc::clone(&stopping));
        let pids: Vec<u32> = nodes.iter().map(|node| node.child.id()).collect();
        move || announce(&config, &file, &pids, &stopping)
    });

    let deadline = watch(&mut signals, &mut nodes, &config, &program, file, settings);
    stopping.store(true, Ordering::Release);
    let result = match deadline {
        None => Err("every node has ended".to_owned()),
        Some(deadline) => stop(nodes, deadline, &mut signals),
    };
    if announcer.join().is_err() {
        return Err("the thread that announces the cluster panicked".to_owned());
    }
    result
}

/// The arguments with which one node is run, by this process or by hand.
fn node_arguments(id: u64, file: &Path, settings: &SettingArguments) -> Result<Vec<String>, String> {
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is not UTF-8", path.display()))
    };
    let mut arguments = vec!["--id".to_owned(), id.to_string(), "-f".to_owned(), text(file)?];
    if let Some(data) = &settings.data {
        arguments.extend(["--data".to_owned(), text(data)?]);
    }
    for (key, value) in &settings.set {
        arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
    }
    Ok(arguments)
}

fn start(program: &Path, id: u64, arguments: &[String], log_dir: Option<&Path>) -> Result<Node, String> {
    let mut command = Command::new(program);
    // A group of its own: Ctrl-C in a terminal reaches this process only, which then stops the nodes in order.
    command.args(arguments).arg("--stop-with-stdin").stdin(Stdio::piped()).process_group(0);
    match log_dir {
        Some(dir) => {
            let path = dir.join(format!("node-{id}.log"));
            let log = File::options().create(true).append(true).open(&path);
            let log = log.and_then(|log| Ok((log.try_clone()?, log)));
            let (out, err) = log.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
            command.stdout(out).stderr(err);
        }
        None => {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
    }
    let mut child = command.spawn().map_err(|error| format!("cannot start node {id}: {error}"))?;
    if let Some(out) = child.stdout.take() {
        relay(id, out);
    }
    if let Some(err) = child.stderr.take() {
        relay(id, err);
    }
    Ok(Node { id, child, ended: false })
}

/// Copies a node's lines to standard error with its number before them, until the node closes its end.
fn relay(id: u64, from: impl Read + Send + 'static) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let mut out = format!("node {id} | ").into_bytes();
            out.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(&line));
            out.push(b'\n');
            // Nobody reads any more: the node must not block on it.
            let _ = std::io::stderr().lock().write_all(&out);
            line.clear();
        }
    });
}

/// Waits for a signal to stop and gives the time by which the nodes must have ended; nothing if all ended before.
fn watch(
    signals: &mut Signals,
    nodes: &mut [Node],
    config: &Config,
    program: &Path,
    file: &Path,
    settings: &SettingArguments,
) -> Option<Instant> {
    for signal in signals.forever() {
        if signal != SIGCHLD {
            return Some(Instant::now() + config.settings.stop_timeout_ms + STOP_MARGIN);
        }
        for node in nodes.iter_mut().filter(|node| !node.ended) {
            let Ok(Some(status)) = node.child.try_wait() else { continue };
            node.ended = true;
            let again = node_arguments(node.id, file, settings).unwrap_or_default().join(" ");
            eprintln!(
                "kvserver: node {} (pid {}) {}. It is not started again; to do so:\n  {} {again}",
                node.id,
                node.child.id(),
                describe(status),
                program.display(),
            );
        }
        if nodes.iter().all(|node| node.ended) {
            return None;
        }
    }
    None
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    }
}

/// Lets the nodes stop, kills those that do not, and says which did not end well. A second signal kills at once.
fn stop(mut nodes: Vec<Node>, deadline: Instant, signals: &mut Signals) -> Result<(), String> {
    eprintln!("kvserver: stopping {} nodes", nodes.iter().filter(|node| !node.ended).count());
    let mut bad = Vec::new();
    for node in nodes.iter_mut().filter(|node| !node.ended) {
        drop(node.child.stdin.take());
    }
    while nodes.iter().any(|node| !node.ended) {
        let hurry = signals.pending().any(|signal| signal != SIGCHLD) || Instant::now() >= deadline;
        for node in nodes.iter_mut().filter(|node| !node.ended) {
            match node.child.try_wait() {
                Ok(Some(status)) => {
                    node.ended = true;
                    if !status.success() {
                        bad.push(format!("node {} {}", node.id, describe(status)));
                    }
                }
                Ok(None) if hurry => {
                    // It may have ended in between; the next round sees how.
                    let _ = node.child.kill();
                }
                Ok(None) => {}
                Err(error) => {
                    node.ended = true;
                    bad.push(format!("node {}: {error}", node.id));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    if bad.is_empty() { Ok(()) } else { Err(bad.join("; ")) }
}

/// Waits for a leader and prints where everybody listens. Nodes that somebody else started at the same addresses are
/// not taken for these.
fn announce(config: &Config, file: &Path, pids: &[u32], stopping: &AtomicBool) {
    let endpoints: Vec<SocketAddr> = config.nodes.values().map(|node| node.rpc).collect();
    let attempt = Duration::from_millis(500);
    let clerk = BlockingClerk::new(endpoints, ClerkConfig { attempt_timeout: attempt, ..Default::default() });
    let clerk = match clerk {
        Ok(clerk) => clerk,
        Err(error) => return eprintln!("kvserver: cannot ask the nodes for their state: {error}"),
    };
    let started = Instant::now();
    let mut remarked = false;
    while !stopping.load(Ordering::Acquire) {
        let states: Vec<Option<NodeStatus>> = config
            .nodes
            .values()
            .zip(pids)
            .map(|(node, pid)| clerk.status(node.rpc).ok().filter(|status| status.pid == *pid))
            .collect();
        let leader = states.iter().flatten().find_map(|state| state.leader_id);
        let all = states.iter().flatten().filter(|state| state.leader_id == leader).count();
        if leader.is_some() && all == config.nodes.len() {
            return print_table(config, file, &states);
        }
        if started.elapsed() > PATIENCE && !remarked {
            remarked = true;
            let missing: Vec<String> = config
                .nodes
                .keys()
                .zip(&states)
                .filter(|(_, state)| state.is_none())
                .map(|(id, _)| id.to_string())
                .collect();
            let who = if missing.is_empty() { "none".to_owned() } else { missing.join(", ") };
            eprintln!("kvserver: still waiting for a leader; nodes that do not answer: {who}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn print_table(config: &Config, file: &Path, states: &[Option<NodeStatus>]) {
    let mut out = format!("\n{:<5} {:<9} {:<22} {:<22} {:<22} pid\n", "node", "role", "rpc", "redis", "http");
    let door = |address: Option<SocketAddr>| address.map_or("-".to_owned(), |address| address.to_string());
    for ((id, node), state) in config.nodes.iter().zip(states) {
        let (role, pid) = state.as_ref().map_or(("?", 0), |state| (state.role.as_str(), state.pid));
        let rpc = node.rpc.to_string();
        let (resp, http) = (door(node.resp), door(node.http));
        out += &format!("{id:<5} {role:<9} {rpc:<22} {resp:<22} {http:<22} {pid}\n");
    }
    if let Some(resp) = config.nodes.values().find_map(|node| node.resp) {
        out += &format!("\nTry: redis-cli -h {} -p {} set greeting hello", resp.ip(), resp.port());
    }
    out += &format!("\n     kvctl -f {} status\nCtrl-C stops all nodes.\n", file.display());
    // Standard output may be closed; the cluster runs all the same.
    let _ = std::io::stdout().lock().write_all(out.as_bytes());
}
