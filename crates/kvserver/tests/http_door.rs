//! The HTTP door over raw sockets.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kvserver::http::Config;
use support::{Node, PATIENCE};

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `bytes` and reads to the end.
fn talk(node: &Node, bytes: &[u8]) -> String {
    let mut stream = connect(node);
    stream.write_all(bytes).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn get(node: &Node, path: &str) -> (u16, String) {
    let text =
        talk(node, format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes());
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (status(head), body.to_owned())
}

fn status(text: &str) -> u16 {
    text.strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest[..3].parse().ok())
        .unwrap_or_else(|| panic!("{text:?}"))
}

#[test]
fn pages_are_served() {
    let node = Node::start();
    node.client().call("SET a 1");
    assert_eq!(get(&node, "/livez"), (200, "ok\n".into()));
    assert_eq!(get(&node, "/readyz?verbose"), (200, "ok\n".into()));
    let (code, json) = get(&node, "/status");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (code, &json["id"], &json["role"], &json["keys"]),
        (200, &1.into(), &"follower".into(), &1.into())
    );
    assert_eq!(json["members"].as_array().unwrap().len(), 3);
    let (code, json) = get(&node, "/version");
    assert!(code == 200 && json.contains("\"version\""), "{json}");
    let (code, metrics) = get(&node, "/metrics");
    assert_eq!(code, 200);
    for line in [
        "kv_requests_total{command=\"set\"} 1",
        "kv_request_duration_seconds_count 1",
        "kv_connections_accepted_total{door=\"resp\"} 1",
        "raft_term 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    for family in [
        "process_resident_memory_bytes ",
        "fiber_runtime_switches_total{worker=\"0\"} ",
        "kv_log_lines_dropped_total 0",
    ] {
        assert!(metrics.contains(family), "{family} in {metrics}");
    }
    let mut types: Vec<&str> = metrics.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let families = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), families, "each family stands there once");
}

#[test]
fn a_node_that_is_not_ready_is_still_alive() {
    let node = Node::start();
    node.backend.leaderless.store(true, Ordering::Relaxed);
    assert_eq!(get(&node, "/readyz"), (503, "not ready: no leader\n".into()));
    assert_eq!(get(&node, "/livez").0, 200);
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let node = Node::start();
    let mut stream = connect(&node);
    let one = "GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    stream.write_all(one.repeat(2).as_bytes()).unwrap();
    stream.write_all(b"HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /nosuch HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let statuses: Vec<u16> = text.split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].parse().unwrap()).collect();
    assert_eq!(statuses, [200, 200, 200, 404]);
    assert_eq!(text.matches("\r\n\r\nok\n").count(), 2, "HEAD has no body: {text}");
}

#[test]
fn mistakes_have_their_statuses_and_end_the_connection() {
    let node = Node::start();
    let many = "A: b\r\n".repeat(100);
    let long = "a".repeat(9000);
    for (request, expected) in [
        ("GET /nosuch HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(), 404),
        ("DELETE /status HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(), 405),
        ("\x16\x03\x01\x02garbage".to_owned(), 400),
        ("GET / HTTP/1.1\r\nbroken\r\n\r\n".to_owned(), 400),
        ("POST /status HTTP/1.1\r\nContent-Length: 70000\r\n\r\n".to_owned(), 413),
        ("POST /status HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 501),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), 431),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 431),
        ("GET / HTTP/2.7\r\n\r\n".to_owned(), 505),
    ] {
        let text = talk(&node, request.as_bytes());
        assert_eq!(status(&text), expected, "{request:?}");
        assert!(text.contains("Connection: close"), "{text}");
    }
    assert!(talk(&node, b"PUT /livez HTTP/1.0\r\n\r\n").contains("Allow: GET, HEAD"));
}

#[test]
fn a_slow_head_is_timed_out_and_a_silent_client_is_left() {
    let config = Config {
        request_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    let node = Node::with(Default::default(), config);
    assert_eq!(status(&talk(&node, b"GET /livez HT")), 408);
    assert_eq!(status(&talk(&node, b"POST /livez HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")), 408);
    assert_eq!(talk(&node, b""), "");
}

#[test]
fn the_connection_too_many_is_refused() {
    let node = Node::with(Default::default(), Config { max_connections: 1, ..Config::default() });
    let mut first = connect(&node);
    first.write_all(b"GET /livez HTTP/1.1\r\n\r\n").unwrap();
    assert!(first.read(&mut [0; 500]).unwrap() > 0);
    let mut text = String::new();
    connect(&node).read_to_string(&mut text).unwrap();
    assert_eq!(status(&text), 503);
}
