//! A PostgreSQL of this test's own, in a temporary folder, with enough connections.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use moon_tests::process::Process;
use moon_tests::wait::wait_until;
use tempfile::TempDir;

use crate::program::{self, PATIENCE};

/// Where Debian keeps the programs, below a folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Who runs the server when the test is root, whom PostgreSQL refuses.
const USER: &str = "postgres";

/// A running PostgreSQL. Dropping it ends it.
#[derive(Debug)]
pub struct PostgresServer {
    address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

impl PostgresServer {
    /// Makes a cluster and starts its server, with `connections` connections and no regard for crashes. `None`, with the
    /// reason printed, where there is no PostgreSQL or nobody who may run it.
    ///
    /// # Panics
    /// If it does not answer in time.
    pub fn start(connections: usize) -> Option<PostgresServer> {
        let (Some(initdb), Some(postgres)) = (find("initdb"), find("postgres")) else {
            program::skipped(&format!("no PostgreSQL server in PATH or below {DEBIAN}"));
            return None;
        };
        let user = match run_as() {
            Ok(user) => user,
            Err(reason) => {
                program::skipped(&reason);
                return None;
            }
        };
        let folder = tempfile::Builder::new().prefix("moon-postgres-").tempdir().expect("a temporary folder");
        if let Some((user, group)) = user {
            chown(folder.path(), Some(user), Some(group)).expect("root may give its folder away");
        }
        let command = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(folder.path()).env("LC_ALL", "C");
            if let Some((user, group)) = user {
                command.uid(user).gid(group);
            }
            command
        };
        let data = folder.path().join("data");
        let log = folder.path().join("log");
        let mut make = command(&initdb);
        make.args(["--auth", "trust", "--username", USER, "--encoding", "UTF8", "--no-sync", "--pgdata"]);
        let status = Process::start(make.arg(&data), &log).wait_for_end(PATIENCE);
        assert!(status.success(), "initdb ended with {status}: {}", program::end_of_log(&log));

        let address = program::free_address();
        let mut serve = command(&postgres);
        serve.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &address.port().to_string()]);
        let limit = format!("max_connections={connections}");
        // No socket in a folder of the system's, and no waiting for a disk.
        for setting in [&limit, "unix_socket_directories=", "fsync=off", "shared_buffers=32MB"] {
            serve.args(["-c", setting]);
        }
        let mut process = Process::start(&mut serve, &log);
        wait_until("an answer of PostgreSQL", PATIENCE, || {
            if let Some(status) = process.ended() {
                panic!("postgres ended with {status}: {}", program::end_of_log(&log));
            }
            program::end_of_log(&log).contains("ready to accept connections")
        });
        Some(PostgresServer { address, process, _folder: folder })
    }

    /// As the `postgres` crate wants it.
    pub fn parameters(&self) -> String {
        format!("host={} port={} user={USER} dbname={USER}", self.address.ip(), self.address.port())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // Its signal for stopping at once: killed, it would leave its shared memory behind.
        self.process.signal("QUIT");
        self.process.wait_for_end(PATIENCE);
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let mut folders = program::folders(std::env::var_os("PATH").as_deref());
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    program::find(name, folders)
}

/// Whom the server has to run as: nobody else, or the user and group that Debian's package makes.
fn run_as() -> Result<Option<(u32, u32)>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    match user_and_group(&users, USER) {
        Some(found) => Ok(Some(found)),
        None => Err(format!("PostgreSQL does not run as root, and there is no user {USER}")),
    }
}

/// The numbers of a user in the text of `/etc/passwd`.
fn user_and_group(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:\npostgres:x:101:104:,,,:/:\nbad:x\n";
        assert_eq!(user_and_group(users, "postgres"), Some((101, 104)));
        assert_eq!(user_and_group(users, "post"), None);
        assert_eq!(user_and_group(users, "bad"), None);
    }
}
