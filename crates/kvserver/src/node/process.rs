//! The life of a node's process: start in order, wait for a reason to end, stop in order.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fiber_rpc::{ChannelConfig, Pool, PoolConfig, Server, ServerHandle, ServerLimits};
use fiber_runtime::{FiberBuilder, JoinHandle, Runtime, time};
use raft_core::core::{NodeId, Role};
use raft_core::replica::{RaftService, Replica, ReplicaConfig, ReplicaError, RpcTransport, Transport};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use xxhash_rust::xxh3::xxh3_64;

use super::Node;
use super::disk::NodeDisk;
use crate::command::Backend;
use crate::config::{Config, LogFormat, Settings, SyncMode};
use crate::service::KvService;
use crate::store::KvMachine;
use crate::{http, logging, resp};

/// What the encoding of a command adds to its keys and values, at most.
const COMMAND_OVERHEAD: usize = 1 << 20;

/// How long a leader that stops may take to hand over before it goes without.
const HAND_OVER: Duration = Duration::from_millis(500);

/// Exit status after a second signal, as shells show an interrupted program.
const INTERRUPTED: i32 = 130;

/// Why a node did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The conf file has no such node.
    #[error("node {id} is not in the conf file, which has nodes 0 to {last}")]
    UnknownNode {
        /// The id that was asked for.
        id: u64,
        /// The largest id there is.
        last: u64,
    },
    /// The data directory cannot be made.
    #[error("cannot create data directory {}: {source}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A door cannot be opened.
    #[error("cannot listen on {address} ({door}): {source}")]
    Listen {
        /// Which door.
        door: &'static str,
        /// Its address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Logging cannot start.
    #[error("{0}")]
    Logging(#[from] logging::LogError),
    /// A thread, a signal handler or the runtime cannot be set up.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The replica did not start.
    #[error("cannot recover node {id} from {}: {source}", path.display())]
    Recover {
        /// The node.
        id: u64,
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: ReplicaError,
    },
    /// The replica stopped by itself: going on could lose data.
    #[error("node {id} cannot go on: {source}")]
    Failed {
        /// The node.
        id: u64,
        /// Why.
        source: Arc<ReplicaError>,
    },
}

/// Why a node is to end.
#[derive(Clone, Debug)]
enum Stop {
    Signal(i32),
    InputClosed,
    Failed(Arc<ReplicaError>),
}

/// Everything that runs.
pub(super) struct Running {
    node: Arc<Node>,
    replica: Replica<KvMachine>,
    transport: Arc<RpcTransport>,
    resp: Option<(resp::ServerHandle, JoinHandle<()>)>,
    http: Option<(http::ServerHandle, JoinHandle<()>)>,
    rpc: ServerHandle,
}

/// Runs node `id` of a configuration until a signal says to stop; with `stop_with_stdin`, also until standard input is
/// closed. Called by the main thread.
///
/// # Errors
/// The node did not start, or could not go on.
pub fn run(config: Config, id: u64, stop_with_stdin: bool) -> Result<(), NodeError> {
    if !config.nodes.contains_key(&id) {
        let last = *config.nodes.keys().last().expect("a configuration has at least one node");
        return Err(NodeError::UnknownNode { id, last });
    }
    let settings = config.settings.clone();
    let format = match settings.log_format {
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    };
    let _logging = logging::init(format, &settings.log_level)?;
    let (stop, stops) = fiber_runtime::sync::channel::bounded(4);
    listen_for_stop(stop.clone(), stop_with_stdin)?;
    fiber_runtime::diagnostics::dump_on_signal(SIGUSR1)
        .map_err(|source| NodeError::System { action: "listen for SIGUSR1", source })?;

    let runtime = runtime(&settings)?;
    let running = runtime.block_on(move || start(config, NodeId(id)));
    let running = match running {
        Ok(running) => running,
        Err(error) => {
            runtime.stop(Duration::ZERO);
            return Err(error);
        }
    };
    let reason = runtime.block_on({
        let replica = running.replica.clone();
        move || {
            let watch = move || {
                if let Some(error) = replica.wait_fatal() {
                    // Full or closed: the node is stopping already.
                    let _ = stop.try_send(Stop::Failed(error));
                }
            };
            FiberBuilder::new().name("watch").spawn(watch).detach();
            stops.recv().unwrap_or(Stop::InputClosed)
        }
    });
    match &reason {
        Stop::Signal(signal) => tracing::info!(signal, "stopping"),
        Stop::InputClosed => tracing::info!("stopping: the program that started this node has ended"),
        Stop::Failed(error) => tracing::error!(%error, "stopping: the replica cannot go on"),
    }
    let grace = if matches!(reason, Stop::Failed(_)) { Duration::ZERO } else { settings.stop_timeout_ms };
    runtime.block_on(move || running.stop(grace));
    let report = runtime.stop(Duration::from_millis(100));
    tracing::info!(clean = report.is_clean(), "stopped");
    match reason {
        Stop::Failed(source) => Err(NodeError::Failed { id, source }),
        Stop::Signal(_) | Stop::InputClosed => Ok(()),
    }
}

fn runtime(settings: &Settings) -> Result<Runtime, NodeError> {
    let builder = Runtime::builder().name("kv").stack_size(settings.stack_bytes);
    let builder = if settings.workers == 0 { builder } else { builder.workers(settings.workers) };
    builder.build().map_err(|source| NodeError::System { action: "start the runtime", source })
}

/// Turns signals, and if asked for the end of standard input, into a reason to stop.
fn listen_for_stop(
    stop: fiber_runtime::sync::channel::Sender<Stop>,
    stop_with_stdin: bool,
) -> Result<(), NodeError> {
    let system = |action| move |source| NodeError::System { action, source };
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(system("listen for signals"))?;
    let on_signal = stop.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut asked = false;
            for signal in signals.forever() {
                if asked {
                    std::process::exit(INTERRUPTED);
                }
                asked = true;
                // Full or closed: the node is stopping already.
                let _ = on_signal.try_send(Stop::Signal(signal));
            }
        })
        .map_err(system("start the thread for signals"))?;
    if stop_with_stdin {
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                // Whatever is written there is not for this program; an error is an end as well.
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                let _ = stop.try_send(Stop::InputClosed);
            })
            .map_err(system("start the thread for standard input"))?;
    }
    Ok(())
}

/// Starts everything, in order. Called in a fiber.
pub(super) fn start(config: Config, id: NodeId) -> Result<Running, NodeError> {
    let addresses = config.nodes[&id.0];
    let settings = config.settings.clone();
    let path = settings.data.join(format!("node-{id}"));
    std::fs::create_dir_all(&path).map_err(|source| NodeError::Data { path: path.clone(), source })?;

    let machine = KvMachine::new();
    let pool = Pool::new(PoolConfig { channel: channel_config(&settings), ..PoolConfig::default() });
    let node = Arc::new(Node::new(id, config.clone(), machine.store(), pool));
    let http = match addresses.http {
        None => None,
        Some(address) => Some(open_http(address, &node, &settings)?),
    };
    let resp = match addresses.resp {
        None => None,
        Some(address) => Some(open_resp(address, &node, &settings)?),
    };

    if settings.sync == SyncMode::None {
        tracing::warn!("sync=none: a power failure loses acknowledged writes");
    }
    tracing::info!(%id, data = %path.display(), "recovering");
    let recovery = time::now();
    let cluster = xxh3_64(settings.cluster.as_bytes());
    let peers = config.nodes.iter().map(|(peer, at)| (NodeId(*peer), at.rpc)).filter(|(peer, _)| *peer != id);
    let transport = Arc::new(RpcTransport::new(cluster, &peers.collect(), &channel_config(&settings)));
    let replica = Replica::start(
        replica_config(&settings, id, &config, path.clone()),
        machine,
        Arc::new(NodeDisk::new(settings.sync)),
        Arc::clone(&transport) as Arc<dyn Transport>,
    )
    .map_err(|source| NodeError::Recover { id: id.0, path, source })?;
    node.recovered(replica.clone());
    let summary = node.status_now();
    tracing::info!(
        applied_index = summary.applied_index,
        last_log_index = summary.last_log_index,
        keys = summary.keys,
        took_ms = time::now().saturating_duration_since(recovery).as_millis() as u64,
        "recovered"
    );

    let rpc = Server::builder()
        .service(RaftService::new(replica.clone(), cluster))
        .service(KvService::new(Arc::clone(&node)))
        .limits(server_limits(&settings))
        .bind(addresses.rpc)
        .map_err(|source| NodeError::Listen { door: "rpc", address: addresses.rpc, source });
    let rpc = match rpc {
        Ok(server) => server.spawn(),
        Err(error) => {
            replica.stop();
            return Err(error);
        }
    };
    let door = |address: Option<SocketAddr>| address.map_or("-".to_owned(), |address| address.to_string());
    tracing::info!(rpc = %addresses.rpc, resp = door(addresses.resp), http = door(addresses.http), "listening");
    Ok(Running { node, replica, transport, resp, http, rpc })
}

fn open_http(
    address: SocketAddr,
    node: &Arc<Node>,
    settings: &Settings,
) -> Result<(http::ServerHandle, JoinHandle<()>), NodeError> {
    let config = http::Config { request_timeout: settings.request_timeout_ms, ..http::Config::default() };
    let backend: Arc<dyn Backend> = Arc::clone(node) as Arc<dyn Backend>;
    let server = http::Server::bind(address, config, backend, node.registry())
        .map_err(|source| NodeError::Listen { door: "http", address, source })?;
    let handle = server.handle();
    Ok((handle, FiberBuilder::new().name("http").spawn(move || server.serve())))
}

fn open_resp(
    address: SocketAddr,
    node: &Arc<Node>,
    settings: &Settings,
) -> Result<(resp::ServerHandle, JoinHandle<()>), NodeError> {
    let config = resp::Config {
        limits: resp::Limits {
            arguments: 2 * settings.max_command_keys + 8,
            // Twice what is accepted, so that what is a little too large gets an error and not a closed connection.
            bulk_bytes: 2 * settings.max_value_bytes.max(settings.max_key_bytes),
            request_bytes: 2 * settings.max_command_bytes,
            batch_requests: settings.max_pipeline,
            ..resp::Limits::default()
        },
        max_clients: settings.max_connections,
        request_timeout: settings.request_timeout_ms,
        idle_timeout: Some(settings.idle_timeout_ms).filter(|timeout| !timeout.is_zero()),
        ..resp::Config::default()
    };
    let backend: Arc<dyn Backend> = Arc::clone(node) as Arc<dyn Backend>;
    let server = resp::Server::bind(address, config, backend, node.registry())
        .map_err(|source| NodeError::Listen { door: "resp", address, source })?;
    let handle = server.handle();
    Ok((handle, FiberBuilder::new().name("resp").spawn(move || server.serve())))
}

fn channel_config(settings: &Settings) -> ChannelConfig {
    let mut config = ChannelConfig::lan();
    // A node that was started again is to be heard soon.
    config.backoff.max = Duration::from_millis(200);
    config.frame.max_payload = settings.max_frame_bytes;
    config
}

fn server_limits(settings: &Settings) -> ServerLimits {
    let mut limits = ServerLimits { max_connections: settings.max_connections, ..ServerLimits::default() };
    limits.frame.max_payload = settings.max_frame_bytes;
    limits
}

fn replica_config(settings: &Settings, id: NodeId, config: &Config, path: PathBuf) -> ReplicaConfig {
    let voters = config.nodes.keys().map(|id| NodeId(*id)).collect();
    let mut replica = ReplicaConfig::new(id, voters, path);
    replica.tick = settings.tick_ms;
    replica.snapshot_log_bytes = settings.snapshot_log_bytes as u64;
    replica.max_pending_bytes = settings.max_inflight_bytes;
    replica.max_command_bytes = settings.max_command_bytes + COMMAND_OVERHEAD;
    replica.core.heartbeat_ticks = settings.heartbeat_ticks();
    replica.core.election_ticks = settings.election_ticks();
    replica.core.trailing_entries = settings.trailing_entries as u64;
    replica.core.trailing_bytes = settings.trailing_bytes;
    replica.core.max_uncommitted_bytes = settings.max_inflight_bytes;
    // Nodes that start together must not campaign together.
    replica.core.seed = id.0 ^ u64::from(std::process::id()) << 32 ^ started_nanos();
    replica
}

/// The low bits of the clock: entropy for election timeouts, nothing else.
fn started_nanos() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()))
}

impl Running {
    #[cfg(test)]
    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Lets running requests finish, hands the leadership over, and ends everything. Called in a fiber.
    pub(super) fn stop(self, grace: Duration) {
        let deadline = time::now() + grace;
        // Clients of other nodes are told to go elsewhere while the own clients' requests are finished.
        let doors: Vec<JoinHandle<()>> = [
            self.resp.map(|(handle, served)| shutdown(move || handle.shutdown(grace), served)),
            self.http.map(|(handle, served)| shutdown(move || handle.shutdown(grace), served)),
        ]
        .into_iter()
        .flatten()
        .collect();
        for door in doors {
            // A door that panicked is closed as well.
            let _ = door.join();
        }
        hand_over(&self.replica);
        self.node.begin_stop();
        self.rpc.shutdown(deadline.min(time::now() + HAND_OVER));
        self.replica.stop();
        self.transport.close();
    }
}

/// Closes a door on a fiber of its own, so that all of them close at the same time.
fn shutdown(close: impl FnOnce() + Send + 'static, served: JoinHandle<()>) -> JoinHandle<()> {
    FiberBuilder::new().name("shutdown").spawn(move || {
        close();
        // A door that panicked is closed as well.
        let _ = served.join();
    })
}

/// A leader that stops hands over to the follower that is furthest, so that nobody waits for an election timeout.
fn hand_over(replica: &Replica<KvMachine>) {
    let status = replica.status();
    if status.role != Role::Leader {
        return;
    }
    let alive = status.peers.iter().filter(|peer| peer.recent_active);
    let Some(heir) = alive.max_by_key(|peer| peer.match_index) else { return };
    replica.transfer_leadership(heir.id);
    let deadline = time::now() + HAND_OVER;
    while replica.status().role == Role::Leader && time::now() < deadline {
        time::sleep(Duration::from_millis(5));
    }
}
