//! The programs as a person runs them: what they print, their exit status, how they end.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fiber_rpc::{CallContext, Server, Status};
use fiber_runtime::Runtime;
use kvserver::command::{Outcome, Request, Response, Write, decode_requests, encode_answers};
use kvserver::service::proto::{
    ExecuteRequest, ExecuteResponse, Kv, KvServer, StatusRequest, StatusResponse,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A conf file with free ports in a directory of its own.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(nodes: usize, more: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let free: Vec<TcpListener> = (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut text = String::new();
        for (id, listener) in free.iter().enumerate() {
            let port = listener.local_addr().unwrap().port();
            text += &format!("node{id}ip=127.0.0.1\nnode{id}port={port}\n");
        }
        std::fs::write(folder.path().join("test.conf"), text + more).unwrap();
        Place { folder }
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("test.conf")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn kvserver(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvserver"));
        command.args(arguments).arg("-f").arg(self.conf()).arg("--data").arg(self.data());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn kvctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvctl"));
        command.arg("-f").arg(self.conf()).args(arguments).output().unwrap()
    }

    /// A put that succeeds as soon as the cluster serves.
    fn wait_until_served(&self) {
        let output = self.kvctl(&["put", "ready", "yes", "--timeout-ms", "30000"]);
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// Kills what a failed test leaves behind.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guard {
    fn start(command: &mut Command) -> Guard {
        Guard(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    fn wait_for_end(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "process {} does not end", self.0.id());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "cannot send {name} to {pid}");
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, expected: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    assert!(text(output).contains(expected), "{:?} does not contain {expected:?}", text(output));
}

#[test]
fn mistakes_end_with_one_clear_line() {
    let place = Place::new(3, "# a comment\nelection=5\n");
    let output = place.kvserver(&["--id", "0"]).output().unwrap();
    let line =
        format!("kvserver: {}:8: unknown key election; did you mean election_ms?\n", place.conf().display());
    assert_eq!((output.status.code(), text(&output)), (Some(1), line));

    let place = Place::new(3, "");
    let output = place.kvserver(&["--id", "7"]).output().unwrap();
    assert_fails(&output, 1, "kvserver: node 7 is not in the conf file, which has nodes 0 to 2\n");
    let output = place.kvserver(&["cluster", "-n", "5"]).output().unwrap();
    assert_fails(&output, 1, "has 3 nodes; give as many or leave -n out\n");
    let output = place.kvserver(&["--id", "0", "--set", "tick_ms=x"]).output().unwrap();
    assert_fails(&output, 1, "kvserver: --set tick_ms=x: tick_ms: \"x\" is not a whole number\n");
    let output = Command::new(env!("CARGO_BIN_EXE_kvserver")).arg("--id").arg("0").output().unwrap();
    assert_fails(&output, 2, "--file <CONF>");
    assert!(!place.data().exists(), "a node that does not start leaves nothing behind");
}

#[test]
fn check_and_reference_print_the_settings() {
    let place = Place::new(2, "tick_ms=20\n");
    let output = place.kvserver(&["check"]).env("KVSERVER_ELECTION_MS", "700").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    for expected in ["node 1: rpc 127.0.0.1:", "tick_ms: 20ms", "election_ms: 700ms"] {
        assert!(text(&output).contains(expected), "{}", text(&output));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_kvserver")).arg("reference").output().unwrap();
    assert!(output.status.success() && text(&output).contains("\ntick_ms=10\n"), "{}", text(&output));
}

#[test]
fn kvctl_says_by_its_status_what_happened() {
    let place = Place::new(1, "");
    let mut node = Guard::start(place.kvserver(&["--id", "0"]).stdout(Stdio::null()).stderr(Stdio::null()));
    place.wait_until_served();
    let run = |arguments: &[&str]| {
        let output = place.kvctl(arguments);
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let ok = |line: &str| (0, format!("{line}\n"));
    assert_eq!(run(&["put", "k", "a b"]), ok("OK"));
    assert_eq!(run(&["get", "k"]), ok("a b"));
    assert_eq!(run(&["append", "k", "c"]), ok("4"));
    assert_eq!(run(&["cas", "k", "x", "y"]), (1, "not swapped, the value is a bc\n".to_owned()));
    assert_eq!(run(&["cas", "k", "a bc", "y"]), ok("OK"));
    assert_eq!(run(&["cas", "new", "--absent", "1"]), ok("OK"));
    assert_eq!(run(&["incr", "new", "-3"]), ok("-2"));
    assert_eq!(run(&["scan", "--keys-only"]), ok("k\nnew\nready"));
    assert_eq!(run(&["get", "missing"]).0, 1);
    assert_eq!(run(&["delete", "new", "ready", "missing"]), ok("2"));
    assert_eq!(run(&["--json", "get", "k"]), ok(r#"{"found":true,"key":"k","value":"y"}"#));
    assert_eq!(run(&["--json", "get", "missing"]), (1, "{\"found\":false,\"key\":\"missing\"}\n".to_owned()));
    assert_eq!(run(&["scan", "--json"]), ok(r#"{"entries":[{"key":"k","value":"y"}],"more":false}"#));
    assert_eq!(run(&["incr", "k"]).0, 1);
    let (code, status) = run(&["--json", "status"]);
    assert!(code == 0 && status.contains(r#""role":"leader""#), "{status}");
    assert_fails(&place.kvctl(&["put", "k"]), 2, "Usage:");
    let output = Command::new(env!("CARGO_BIN_EXE_kvctl")).arg("status").output().unwrap();
    assert_fails(&output, 2, "--endpoints");

    node.signal("TERM");
    assert!(node.wait_for_end().success());
    let output = place.kvctl(&["put", "k", "v", "--timeout-ms", "300"]);
    assert_fails(&output, 1, "kvctl: not done: ");
    assert_eq!(place.kvctl(&["status", "--timeout-ms", "300"]).status.code(), Some(1));
}

/// Opens sessions, and loses every write and read.
struct Lossy;

impl Kv for Lossy {
    fn execute(&self, _: &CallContext, request: ExecuteRequest) -> Result<ExecuteResponse, Status> {
        let batch = decode_requests(request.batch).unwrap();
        let opens = |request: &Request| matches!(request, Request::Write(c) if c.write == Write::OpenSession);
        if !batch.iter().all(opens) {
            return Err(Status::application("lost"));
        }
        let answers = [Ok(Response::Written(Outcome::Done { revision: 1 }))];
        Ok(ExecuteResponse { answers: encode_answers(&answers), leader: String::new() })
    }

    fn status(&self, _: &CallContext, _: StatusRequest) -> Result<StatusResponse, Status> {
        Err(Status::application("lost"))
    }
}

#[test]
fn a_write_that_may_have_happened_ends_with_status_3() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let server = runtime.block_on(|| {
        let server = Server::builder().service(KvServer::new(Lossy));
        server.bind("127.0.0.1:0".parse().unwrap()).unwrap().spawn()
    });
    let endpoint = server.local_addr().to_string();
    let kvctl = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvctl"));
        command.args(["-e", &endpoint, "--timeout-ms", "200"]).args(arguments).output().unwrap()
    };
    assert_fails(&kvctl(&["put", "k", "v"]), 3, "kvctl: outcome unknown: ");
    assert_fails(&kvctl(&["--json", "append", "k", "v"]), 3, r#"{"error":"outcome_unknown","message":"#);
    // Reading again is always safe, so a lost read is only not done.
    assert_fails(&kvctl(&["get", "k"]), 1, "kvctl: not done: ");
    drop(server);
    runtime.stop(Duration::ZERO);
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let place = Place::new(1, "");
    let _first = Guard::start(place.kvserver(&["--id", "0"]).stdout(Stdio::null()).stderr(Stdio::null()));
    place.wait_until_served();
    let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = format!("node0port={other}");
    let output = place.kvserver(&["--id", "0", "--set", &port]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let last = text(&output).lines().last().unwrap().to_owned();
    assert!(last.starts_with("kvserver: cannot recover node 0 from "), "{last}");
}

/// The lines a process prints, as they come.
struct Lines {
    lines: std::sync::mpsc::Receiver<String>,
    seen: String,
}

impl Lines {
    fn of(from: impl Read + Send + 'static) -> Lines {
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Lines { lines, seen: String::new() }
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(what) => return line,
                Ok(line) => self.seen += &format!("{line}\n"),
                Err(error) => panic!("no line with {what:?} ({error}):\n{}", self.seen),
            }
        }
    }
}

#[test]
fn a_cluster_says_who_died_and_stops_in_order() {
    let place = Place::new(3, "");
    let mut cluster = Guard::start(&mut place.kvserver(&["cluster", "-n", "3"]));
    let mut table = Lines::of(cluster.0.stdout.take().unwrap());
    let mut log = Lines::of(cluster.0.stderr.take().unwrap());
    table.wait_for("node  role");
    let rows: Vec<String> = (0..3).map(|_| table.wait_for("127.0.0.1:")).collect();
    assert_eq!(rows.iter().filter(|row| row.contains("leader")).count(), 1, "{rows:?}");
    assert!(place.kvctl(&["put", "k", "v"]).status.success());

    let pid: u32 = rows[0].split_whitespace().last().unwrap().parse().unwrap();
    signal(pid, "KILL");
    let line = log.wait_for("was killed by signal 9");
    assert!(line.contains(&format!("node 0 (pid {pid})")), "{line}");
    log.wait_for("--id 0 -f ");
    assert!(place.kvctl(&["put", "k", "w", "--timeout-ms", "20000"]).status.success());

    // Started by hand it takes part again.
    let again = place.kvserver(&["--id", "0"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut again = Guard(again);
    let deadline = Instant::now() + PATIENCE;
    while !place.kvctl(&["status"]).status.success() {
        assert!(Instant::now() < deadline, "node 0 does not come back: {}", text(&place.kvctl(&["status"])));
    }
    again.signal("INT");
    assert!(again.wait_for_end().success());

    cluster.signal("TERM");
    assert!(cluster.wait_for_end().success());
    let left = place.kvctl(&["status", "--timeout-ms", "200"]);
    assert!(text(&left).contains("does not answer"), "{}", text(&left));
}

#[test]
fn nodes_end_when_the_cluster_command_is_killed() {
    let place = Place::new(3, "");
    let mut cluster = Guard::start(place.kvserver(&["cluster"]).stderr(Stdio::null()));
    let mut table = Lines::of(cluster.0.stdout.take().unwrap());
    let pids: Vec<String> =
        (0..3).map(|_| table.wait_for("127.0.0.1:").split_whitespace().last().unwrap().to_owned()).collect();
    cluster.signal("KILL");
    cluster.wait_for_end();
    let deadline = Instant::now() + PATIENCE;
    for pid in pids {
        while std::path::Path::new("/proc").join(&pid).join("exe").exists() {
            assert!(Instant::now() < deadline, "node with pid {pid} outlives the cluster command");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_node_told_to_ends_with_its_standard_input() {
    let place = Place::new(1, "");
    let mut command = place.kvserver(&["--id", "0", "--stop-with-stdin"]);
    let mut node = Guard::start(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()));
    let input: Option<ChildStdin> = node.0.stdin.take();
    place.wait_until_served();
    drop(input);
    assert!(node.wait_for_end().success());
}
