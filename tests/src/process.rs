//! A server process under test: finding the binary, starting it, the signals it gets, what `/proc` says about it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::wait::wait_for;

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("this package lies in the workspace")
}

/// The folder of the built programs: the test executable is `target/<profile>/deps/<name>-<hash>`.
pub fn program_folder() -> PathBuf {
    let executable = std::env::current_exe().expect("the path of the running test is known");
    executable
        .parent()
        .and_then(Path::parent)
        .expect("cargo puts tests below the profile's folder")
        .to_owned()
}

/// The path of a program of the `kvserver` package, built if it is missing or older than the sources.
///
/// Cargo gives the paths of programs only to the tests of their own package, hence this way. `cargo test --workspace`
/// has built them before any test runs, so that the build here is the exception (`cargo test -p moon-tests`).
///
/// # Panics
/// If it cannot be built.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = program_folder();
        let built = ["kvserver", "kvctl"]
            .map(|name| fs::metadata(folder.join(name)).and_then(|file| file.modified()));
        let oldest =
            built.into_iter().collect::<io::Result<Vec<_>>>().ok().and_then(|times| times.into_iter().min());
        if oldest.is_none_or(|oldest| newest_source(&workspace().join("crates")) > oldest) {
            build(&folder);
        }
    });
    let path = program_folder().join(name);
    assert!(path.is_file(), "{} was not built", path.display());
    path
}

fn newest_source(folder: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            newest = newest.max(newest_source(&entry.path()));
        } else if entry
            .path()
            .extension()
            .is_some_and(|kind| kind == "rs" || kind == "toml" || kind == "proto")
        {
            newest = newest.max(entry.metadata().and_then(|file| file.modified()).unwrap_or(newest));
        }
    }
    newest
}

fn build(folder: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(["build", "--package", "kvserver", "--bins"]);
    if folder.file_name().is_some_and(|profile| profile == "release") {
        command.arg("--release");
    }
    eprintln!("building the programs under test: {command:?}");
    let status = command.status().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "the programs under test were not built: {command:?} ended with {status}");
}

/// A running child process whose output goes to a file. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    paused: bool,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Process {
        let output = File::options().create(true).append(true).open(log).expect("the log can be written");
        let errors = output.try_clone().expect("a descriptor is free");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Process { child, log: log.to_owned(), paused: false }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// Waits for it to end by itself.
    ///
    /// # Panics
    /// When `limit` has passed.
    #[track_caller]
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        wait_for(format!("the end of process {}", self.pid()), limit, || self.ended())
    }

    /// Sends a signal, such as `TERM`.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot send {name} to process {}", self.pid());
    }

    /// `SIGKILL`, and waits until the process is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// `SIGSTOP`: it keeps its connections and says nothing.
    pub fn pause(&mut self) {
        self.signal("STOP");
        self.paused = true;
        wait_for("the process to stop", Duration::from_secs(5), || (self.state() == Some('T')).then_some(()));
    }

    /// `SIGCONT`.
    pub fn resume(&mut self) {
        self.signal("CONT");
        self.paused = false;
    }

    /// Whether [`Process::pause`] was the last of the two.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Fields of `/proc/PID/stat` after the name, so that `[0]` is the state.
    fn stat(&self) -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
        fields.split_whitespace().map(str::to_owned).collect()
    }

    fn state(&self) -> Option<char> {
        self.stat().first()?.chars().next()
    }

    /// A number of `/proc/PID/status`, such as `VmRSS` (in KiB) or `Threads`.
    ///
    /// # Panics
    /// If the process is gone or the field does not exist.
    #[track_caller]
    pub fn status_field(&self, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} of process {}", self.pid()))
    }

    /// Processor time used so far, in user and kernel mode. The kernel counts in hundredths of a second.
    ///
    /// # Panics
    /// If the process is gone.
    #[track_caller]
    pub fn cpu_time(&self) -> Duration {
        let fields = self.stat();
        let ticks = |place: usize| -> Option<u64> { fields.get(place)?.parse().ok() };
        let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
            panic!("no processor times of process {}", self.pid());
        };
        Duration::from_millis((user + system) * 10)
    }

    fn end(&mut self) {
        // Neither can fail in a way that matters: the child is ours, or it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
