//! The benchmarks run, print JSON that says what was asked, and end with an error when something failed.

use std::process::{Command, Output};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn json(program: &str, arguments: &[&str]) -> serde_json::Value {
    let output = run(program, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the program prints JSON")
}

#[test]
fn simple_stress_test_does_what_it_is_told() {
    for extra in [&["--json"][..], &["--json", "--fibers"]] {
        let arguments = [&["2", "20"], extra].concat();
        let report = json(env!("CARGO_BIN_EXE_simple_stress_test"), &arguments);
        assert_eq!(report["operations"], 40, "{report}");
        assert!(report["latency"]["p50_us"].as_f64() >= Some(10.0), "each operation sleeps 10 us: {report}");
    }
}

#[test]
fn fiber_bench_measures_what_it_is_asked() {
    let asked = ["spawn", "ping-pong", "skynet", "--only", "moon", "--quick", "--json"];
    let report = json(env!("CARGO_BIN_EXE_fiber_bench"), &asked);
    let rows = report["tables"][0]["rows"].as_array().expect("there are rows");
    assert_eq!(rows.len(), 6, "{report}");
    for row in rows {
        assert!(row["cells"][0]["runs"][0].as_f64() > Some(0.0), "{row}");
    }
}

#[test]
fn fiber_bench_drives_echo_servers_on_both_kinds_of_sockets() {
    let asked = ["echo", "idle", "--only", "moon,moon-std", "--quick", "--json"];
    let report = json(env!("CARGO_BIN_EXE_fiber_bench"), &asked);
    let row = &report["tables"][0]["rows"][0];
    for (at, contestant) in ["moon", "moon-std"].into_iter().enumerate() {
        assert_eq!(row["cells"][at]["contestant"], contestant, "{row}");
        assert!(row["cells"][at]["runs"][0].as_f64() > Some(0.0), "{row}");
    }
    let held = &report["tables"][1]["rows"][0];
    assert_eq!(held["cells"][0]["runs"][0], 2000.0, "{held}");
}

#[test]
fn rpc_bench_runs_in_one_process_and_in_two() {
    for extra in [&["--json"][..], &["--json", "--one-process"]] {
        let arguments = [&["4x2", "--seconds", "0.2"], extra].concat();
        let report = json(env!("CARGO_BIN_EXE_rpc_bench"), &arguments);
        let row = &report["rows"][0];
        assert_eq!((&row["calls"], &row["connections"], &row["errors"]), (&4.into(), &2.into(), &0.into()));
        assert!(row["calls_per_second"].as_f64() > Some(0.0), "{report}");
    }
}

#[test]
fn a_server_that_is_not_there_is_a_failure() {
    let output = run(
        env!("CARGO_BIN_EXE_kv_bench"),
        &["--address", "127.0.0.1:1", "--seconds", "0.1", "--warmup", "0"],
    );
    assert!(!output.status.success());
}

#[test]
fn a_cluster_that_is_not_there_is_reported_as_not_sent_and_never_as_success() {
    let conf = std::env::temp_dir().join(format!("moon-bench-{}.conf", std::process::id()));
    std::fs::write(&conf, "node0ip=127.0.0.1\nnode0port=1\nnode0http=2\n")
        .expect("the directory is writable");
    let path = conf.to_str().expect("the path is text");
    let output = run(
        env!("CARGO_BIN_EXE_fiber_stress_test"),
        &[path, "1", "3", "5", "put", "--timeout", "0.2", "--json"],
    );
    std::fs::remove_file(&conf).expect("the file is there");
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the program prints JSON");
    assert_eq!((&report["done"], &report["errors"]["unprepared"]), (&0.into(), &3.into()), "{report}");
}

#[test]
fn wrong_arguments_are_explained() {
    let output = run(env!("CARGO_BIN_EXE_fiber_stress_test"), &["nosuch.conf", "0", "1", "1"]);
    assert_eq!(output.status.code(), Some(2));
    let output = run(env!("CARGO_BIN_EXE_fiber_stress_test"), &["nosuch.conf", "1", "1", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nosuch.conf"));
}
