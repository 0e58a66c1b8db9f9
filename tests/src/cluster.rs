//! A cluster of real `kvserver` processes on this machine, in a temporary folder, on free ports.
//!
//! Clusters take turns: a lock file makes every test that starts one wait for the others, in this process and in
//! others, because two clusters at once measure each other. When a test fails the ends of the nodes' logs are printed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::http;
use crate::process::{Process, program, program_folder};
use crate::proxy::Proxy;
use crate::resp::Client;
use crate::wait::{wait_for, wait_until};

/// How long a healthy cluster may take for anything on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How much of each log is shown when a test fails.
const SHOWN_LOG_BYTES: usize = 6000;

/// What kind of cluster to start.
#[derive(Clone, Debug)]
pub struct Options {
    nodes: usize,
    settings: Vec<(String, String)>,
    proxied: bool,
}

impl Options {
    /// `nodes` nodes with default settings.
    pub fn nodes(nodes: usize) -> Options {
        Options { nodes, settings: Vec::new(), proxied: false }
    }

    /// Lets every node reach every other through a proxy of its own, so that links can be cut.
    pub fn behind_proxies(mut self) -> Options {
        self.proxied = true;
        self
    }

    /// Adds a line to the conf file.
    pub fn set(mut self, key: &str, value: impl ToString) -> Options {
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }
}

/// Where one node listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For its peers and for the clerk.
    pub rpc: SocketAddr,
    /// For Redis clients.
    pub resp: SocketAddr,
    /// For status, health and metrics.
    pub http: SocketAddr,
}

/// What `/status` of a node says.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    /// A numeric field.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {}", self.0))
    }

    /// A field as text, whether it is a string or a number; the same text for the same value.
    pub fn text(&self, field: &str) -> String {
        match &self.0[field] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the node says it leads.
    pub fn is_leader(&self) -> bool {
        self.text("role").eq_ignore_ascii_case("leader")
    }
}

/// A running cluster. Dropping it kills the nodes and removes their data.
#[derive(Debug)]
pub struct Cluster {
    addresses: Vec<Addresses>,
    processes: Vec<Option<Process>>,
    conf: PathBuf,
    /// From the first node to the second.
    proxies: BTreeMap<(usize, usize), Proxy>,
    folder: TempDir,
    _turn: File,
}

impl Cluster {
    /// Starts all nodes and waits for a leader that accepts writes.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn start(options: &Options) -> Cluster {
        let mut cluster = Cluster::prepare(options);
        for node in 0..options.nodes {
            cluster.start_node(node);
        }
        cluster.wait_for_leader();
        cluster
    }

    /// Writes the conf file and starts nothing.
    ///
    /// # Panics
    /// If there is no temporary folder or no free port.
    pub fn prepare(options: &Options) -> Cluster {
        program("kvserver"); // Built before the turn begins.
        let turn = take_turn();
        let folder = tempfile::Builder::new().prefix("moon-cluster-").tempdir().expect("a temporary folder");
        let addresses: Vec<Addresses> = (0..options.nodes)
            .map(|_| Addresses { rpc: free_address(), resp: free_address(), http: free_address() })
            .collect();
        let mut proxies = BTreeMap::new();
        if options.proxied {
            let nodes = 0..options.nodes;
            for (from, to) in nodes.clone().flat_map(|from| nodes.clone().map(move |to| (from, to))) {
                if from != to {
                    proxies.insert((from, to), Proxy::start(addresses[to].rpc).expect("a proxy can listen"));
                }
            }
        }
        let conf = folder.path().join("cluster.conf");
        let processes = addresses.iter().map(|_| None).collect();
        let cluster = Cluster { addresses, processes, conf, proxies, folder, _turn: turn };
        let write = |path: &Path, text: String| fs::write(path, text).expect("a conf file can be written");
        write(&cluster.conf, cluster.conf_text(options, None));
        for node in 0..options.nodes {
            write(&cluster.conf_of(node), cluster.conf_text(options, Some(node)));
        }
        cluster
    }

    /// The conf file as `reader` sees it: others behind their proxies, if there are any.
    fn conf_text(&self, options: &Options, reader: Option<usize>) -> String {
        let mut text = String::new();
        for (node, at) in self.addresses.iter().enumerate() {
            let proxy = reader.and_then(|reader| self.proxies.get(&(reader, node)));
            let rpc = proxy.map_or(at.rpc, Proxy::address);
            text += &format!("node{node}ip={}\nnode{node}port={}\n", rpc.ip(), rpc.port());
            text += &format!("node{node}resp={}\nnode{node}http={}\n", at.resp.port(), at.http.port());
        }
        for (key, value) in &options.settings {
            text += &format!("{key}={value}\n");
        }
        text
    }

    /// The conf file of one node.
    fn conf_of(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("node{node}.conf"))
    }

    /// Cuts `node` off from all others, in both directions: nothing passes, connections stay open.
    pub fn isolate(&self, node: usize) {
        for ((from, to), proxy) in &self.proxies {
            if *from == node || *to == node {
                proxy.partition();
            }
        }
    }

    /// Ends all cuts.
    pub fn heal(&self) {
        self.proxies.values().for_each(Proxy::heal);
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// The conf file.
    pub fn conf(&self) -> &Path {
        &self.conf
    }

    /// The folder given to `--data`.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where `node` listens.
    pub fn addresses(&self, node: usize) -> Addresses {
        self.addresses[node]
    }

    /// The command that runs `node`.
    pub fn command(&self, node: usize) -> Command {
        let mut command = Command::new(program("kvserver"));
        command
            .args(["--id", &node.to_string(), "-f"])
            .arg(self.conf_of(node))
            .arg("--data")
            .arg(self.data());
        command
    }

    /// Settings that give `node` other ports than the conf file does, as `--set` takes them.
    pub fn other_ports(&self, node: usize) -> Vec<String> {
        let key = |name: &str| format!("node{node}{name}={}", free_address().port());
        ["port", "resp", "http"].map(key).to_vec()
    }

    /// Starts a node that is not running.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start_node(&mut self, node: usize) {
        let command = self.command(node);
        self.start_node_as(node, command);
    }

    /// Starts a node with a command of one's own.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start_node_as(&mut self, node: usize, mut command: Command) {
        assert!(self.processes[node].is_none(), "node {node} runs already");
        self.processes[node] = Some(Process::start(&mut command, &self.log_path(node)));
    }

    /// Where the output of `node` goes.
    pub fn log_path(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("node{node}.log"))
    }

    /// The process of a running node.
    ///
    /// # Panics
    /// If it was killed.
    pub fn process(&mut self, node: usize) -> &mut Process {
        self.processes[node].as_mut().unwrap_or_else(|| panic!("node {node} does not run"))
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self, node: usize) {
        self.processes[node].take().unwrap_or_else(|| panic!("node {node} does not run")).kill();
    }

    /// The nodes that run and are not paused.
    pub fn awake(&self) -> Vec<usize> {
        let awake = |process: &Option<Process>| process.as_ref().is_some_and(|process| !process.is_paused());
        (0..self.len()).filter(|node| awake(&self.processes[*node])).collect()
    }

    /// What a node says about itself, if it answers.
    pub fn status(&self, node: usize) -> Option<Status> {
        let answer = http::get(self.addresses[node].http, "/status", Duration::from_secs(2)).ok()?;
        let (200, body) = answer else { return None };
        Some(Status(serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in /status: {body}"))))
    }

    /// The node that leads in the highest term, as far as the nodes that are awake say.
    pub fn leader(&self) -> Option<usize> {
        let states = self.awake().into_iter().filter_map(|node| Some((node, self.status(node)?)));
        states
            .filter(|(_, status)| status.is_leader())
            .max_by_key(|(_, status)| status.number("term"))
            .map(|(n, _)| n)
    }

    /// Waits for a leader that accepts a write.
    ///
    /// # Panics
    /// When none is found in time, or when a node has ended by itself.
    #[track_caller]
    pub fn wait_for_leader(&mut self) -> usize {
        wait_for("a leader that accepts writes", PATIENCE, || {
            self.assert_running();
            let leader = self.leader()?;
            let reply = self.client(leader).call(&["SET", "harness:ready", "yes"]).ok()?;
            reply.is_ok().then_some(leader)
        })
    }

    /// Waits until every node that is awake has applied what the others have, and returns their state hash.
    ///
    /// # Panics
    /// When that does not happen in time, or when equal logs have given different states.
    #[track_caller]
    pub fn wait_for_agreement(&mut self) -> String {
        wait_for("all nodes at the same applied index", PATIENCE, || {
            self.assert_running();
            let awake = self.awake();
            let states: Vec<Status> = awake.iter().map(|node| self.status(*node)).collect::<Option<_>>()?;
            let applied: Vec<u64> = states.iter().map(|status| status.number("applied_index")).collect();
            applied.iter().all(|index| *index == applied[0]).then(|| {
                let hashes: Vec<String> = states.iter().map(|status| status.text("state_hash")).collect();
                assert!(
                    hashes.iter().all(|hash| *hash == hashes[0]),
                    "nodes {awake:?} at {applied:?}: {hashes:?}"
                );
                hashes[0].clone()
            })
        })
    }

    /// Waits until `node` answers on its HTTP port.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn wait_for_answer(&mut self, node: usize) {
        wait_until(format!("an answer of node {node}"), PATIENCE, || {
            self.assert_running();
            self.status(node).is_some()
        });
    }

    /// A Redis client of one node.
    pub fn client(&self, node: usize) -> Client {
        Client::new(self.addresses[node].resp, Duration::from_secs(5))
    }

    /// Fails if a node has ended that nobody killed.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    pub fn assert_running(&mut self) {
        for (node, process) in self.processes.iter_mut().enumerate() {
            if let Some(status) = process.as_mut().and_then(Process::ended) {
                panic!("node {node} ended by itself: {status}");
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.processes.clear(); // Kills them.
        if std::thread::panicking() {
            for node in 0..self.len() {
                let log = fs::read(self.log_path(node)).unwrap_or_default();
                let log =
                    String::from_utf8_lossy(&log[log.len().saturating_sub(SHOWN_LOG_BYTES)..]).into_owned();
                eprintln!("--- end of the log of node {node}\n{log}");
            }
        }
    }
}

/// Waits until no other cluster runs. The turn ends when the file is closed.
fn take_turn() -> File {
    let path = program_folder().join("moon-cluster.lock");
    let file =
        File::create(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
    file.lock().unwrap_or_else(|error| panic!("cannot lock {}: {error}", path.display()));
    file
}

/// A port nobody listens on, below the range the kernel gives to outgoing connections: a port from that range could
/// be taken by a client of another node while its own node is down.
fn free_address() -> SocketAddr {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + (start + offset) % COUNT));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
