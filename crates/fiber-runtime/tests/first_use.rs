//! The first fibers of a process, while its workers use for the first time what they rest on.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::process::Command;

use common::on_fibers;
use fiber_runtime::spawn;

#[test]
fn the_first_fibers_of_a_process_run_once_each() {
    const CHILD: &str = "FIBER_RUNTIME_FIRST_USE_CHILD";
    // One process in a hundred failed while a fiber could wait inside of its worker's deque.
    const PROCESSES: usize = 300;

    if std::env::var_os(CHILD).is_some() {
        on_fibers(2, || {
            for _ in 0..3 {
                let fibers: Vec<_> = (0..100).map(|number| spawn(move || number)).collect();
                fibers.into_iter().enumerate().for_each(|(at, fiber)| assert_eq!(fiber.join().unwrap(), at));
            }
        });
        return;
    }
    let program = std::env::current_exe().unwrap();
    for process in 0..PROCESSES {
        let mut child = Command::new(&program);
        let child = child.args(["--exact", "the_first_fibers_of_a_process_run_once_each"]).env(CHILD, "1");
        let output = child.output().unwrap();
        assert!(output.status.success(), "process {process}: {}", String::from_utf8_lossy(&output.stdout));
    }
}
