//! A redis-server of this test's own, in memory only.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use moon_tests::process::Process;
use moon_tests::resp::Client;
use moon_tests::wait::wait_until;
use tempfile::TempDir;

use crate::program::{self, PATIENCE};

/// A running redis-server. Dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl RedisServer {
    /// Starts one that takes 10,000 clients and writes nothing to disk. `None`, with the reason printed, if there is no
    /// redis-server in `PATH`.
    ///
    /// # Panics
    /// If it does not answer in time.
    pub fn start() -> Option<RedisServer> {
        let folders = program::folders(std::env::var_os("PATH").as_deref());
        let Some(path) = program::find("redis-server", folders) else {
            program::skipped("no redis-server in PATH");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("moon-redis-").tempdir().expect("a temporary folder");
        let address = program::free_address();
        let mut command = Command::new(path);
        command.current_dir(folder.path());
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--maxclients", "10000"]);
        // A thousand clients connect at once, faster than they are accepted.
        command.args(["--tcp-backlog", "4096"]);
        let log = folder.path().join("log");
        let mut process = Process::start(&mut command, &log);
        wait_until("an answer of redis-server", PATIENCE, || {
            if let Some(status) = process.ended() {
                panic!("redis-server ended with {status}: {}", program::end_of_log(&log));
            }
            Client::new(address, Duration::from_secs(1)).call(&["PING"]).is_ok()
        });
        Some(RedisServer { address, _process: process, _folder: folder })
    }

    /// As the `redis` crate wants it.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }
}
