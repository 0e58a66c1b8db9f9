//! Child processes: streams, waiting, killing, and what is left of those that nobody waits for.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use common::{PATIENCE, in_millis, on_fibers, wait_for};
use fiber_runtime::process::{Command, Stdio};
use fiber_runtime::signal::Signal;
use fiber_runtime::{spawn, time};

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    command
}

/// Both on a fiber and on a plain thread.
fn everywhere(check: fn()) {
    check();
    on_fibers(1, check);
}

#[test]
fn output_collects_both_streams_and_the_status() {
    everywhere(|| {
        let output = shell("echo out; echo err >&2; exit 3").output().unwrap();
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(output.stderr, b"err\n");
        assert_eq!(output.status.code(), Some(3));
        assert!(shell("exit 0").status().unwrap().success());
    });
}

#[test]
fn much_output_on_both_streams_does_not_dead_lock() {
    everywhere(|| {
        let script = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; \
                      echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done";
        let output = shell(script).output().unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (123_000, 123_000));
    });
}

#[test]
fn other_fibers_run_while_one_waits_and_waiting_has_a_deadline() {
    on_fibers(1, || {
        let mut child = shell("sleep 60").kill_on_drop(true).spawn().unwrap();
        let ticks = spawn(|| (0..10).for_each(|_| time::sleep(Duration::from_millis(1))));
        assert_eq!(child.wait_until(Some(in_millis(30))).unwrap_err().kind(), ErrorKind::TimedOut);
        ticks.join().unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        let pid = child.id().unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        // Once collected, the number may be somebody else's.
        assert_eq!(child.id(), None);
        child.kill().unwrap();
        assert_eq!(child.signal(Signal::USER1).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(child.wait().unwrap().signal().is_some(), "the status is kept");
        assert!(!is_alive(pid));
    });
}

#[test]
fn a_conversation_through_pipes() {
    everywhere(|| {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        for number in 0..100 {
            writeln!(input, "line {number}").unwrap();
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            assert_eq!(line, format!("line {number}\n"));
        }
        drop(input);
        let mut rest = Vec::new();
        lines.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn many_children_at_once_are_all_collected() {
    on_fibers(2, || {
        let children: Vec<_> = (0..20)
            .map(|code| spawn(move || shell(&format!("sleep 0.02; exit {code}")).status().unwrap().code()))
            .collect();
        for (code, child) in children.into_iter().enumerate() {
            assert_eq!(child.join().unwrap(), Some(code as i32));
        }
    });
}

#[test]
fn a_program_that_does_not_exist_is_an_error() {
    everywhere(|| {
        let error = Command::new("/nonexistent/program").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn settings_reach_the_child() {
    on_fibers(1, || {
        let output = shell("echo $WORD; pwd; cat")
            .env("WORD", "set")
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"set\n/\n");
        let mut command = Command::new("env");
        command.env("GONE", "1").env_clear();
        assert_eq!(command.output().unwrap().stdout, b"");
        command.as_std_mut().env("BACK", "2");
        assert_eq!(command.output().unwrap().stdout, b"BACK=2\n");
    });
}

/// Whether the process runs; a zombie does not.
fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// The letter of the process's state, if the kernel knows the number.
fn state(pid: u32) -> Option<char> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    status[status.rfind(')')? + 2..].chars().next()
}

#[test]
fn a_dropped_child_runs_on_and_is_collected_later() {
    on_fibers(1, || {
        let child = shell("sleep 0.1").spawn().unwrap();
        let pid = child.id().unwrap();
        drop(child);
        assert!(is_alive(pid));
        wait_for("the end of the child", || !is_alive(pid));
        // The next start or drop collects it.
        shell("exit 0").status().unwrap();
        wait_for("no zombie", || {
            drop(shell("exit 0").spawn().unwrap());
            state(pid).is_none()
        });
    });
}

#[test]
fn kill_on_drop_kills() {
    on_fibers(1, || {
        let child = shell("sleep 60").kill_on_drop(true).spawn().unwrap();
        let pid = child.id().unwrap();
        drop(child);
        let start = Instant::now();
        wait_for("the end of the child", || !is_alive(pid));
        assert!(start.elapsed() < PATIENCE);
    });
}

#[test]
fn a_fiber_that_is_cancelled_while_it_waits_leaves_the_child_alone() {
    on_fibers(1, || {
        let (tell, told) = fiber_runtime::sync::oneshot::channel();
        let waiter = spawn(move || {
            let mut child = shell("sleep 60").kill_on_drop(true).spawn().unwrap();
            tell.send(child.id().unwrap()).unwrap();
            child.wait().map(drop)
        });
        let pid = told.recv().unwrap();
        waiter.cancel();
        // Its end, by error or by unwinding, drops the child.
        let _ = waiter.join();
        wait_for("the end of the child", || !is_alive(pid));
    });
}
