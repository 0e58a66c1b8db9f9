//! The Redis door against clients that pipeline, send garbage, trickle, stall or come in crowds.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kvserver::resp::{Config, Limits};
use support::{Client, Node, PATIENCE, Value, request, wait_until};

fn with(config: Config) -> Node {
    Node::with(config, Default::default())
}

#[test]
fn a_pipeline_is_one_batch_answered_in_order() {
    let node = Node::start();
    let mut client = node.client();
    let mut bytes = Vec::new();
    for number in 0..100 {
        let number = number.to_string();
        bytes.extend(request(&[b"SET", b"k", number.as_bytes()]));
        bytes.extend(request(&[b"GET", b"k"]));
        bytes.extend(request(&[b"ECHO", number.as_bytes()]));
        bytes.extend(b"FROB\r\n");
    }
    client.send_raw(&bytes);
    for number in 0..100 {
        let number = Value::bulk(&number.to_string());
        assert_eq!(client.reply(), Value::Simple("OK".into()));
        assert_eq!(client.reply(), number, "a read sees the write before it");
        assert_eq!(client.reply(), number);
        assert!(client.reply().error().starts_with("ERR unknown command 'FROB'"));
    }
    let (batches, requests) =
        (node.backend.batches.load(Ordering::Relaxed), node.backend.requests.load(Ordering::Relaxed));
    assert_eq!(requests, 200, "local commands do not reach the node");
    assert!(batches < 50, "{batches} batches for one pipeline");
}

#[test]
fn a_dialect_switched_in_a_pipeline_holds_from_there_on() {
    let node = Node::start();
    let mut client = node.client();
    client.send_raw(b"GET none\r\nHELLO 3\r\nGET none\r\nHELLO 2\r\nGET none\r\nQUIT\r\nPING\r\n");
    let mut text = String::new();
    client.stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("$-1\r\n%7\r\n"), "{text:?}");
    assert!(text.contains("\r\n_\r\n*14\r\n"), "{text:?}");
    assert!(text.ends_with("$-1\r\n+OK\r\n"), "nothing is answered after QUIT: {text:?}");
}

#[test]
fn requests_split_at_every_byte_are_answered() {
    let node = Node::start();
    let mut client = node.client();
    client.stream.get_mut().set_nodelay(true).unwrap();
    let bytes = [&request(&[b"SET", b"key", b"value"])[..], b"get key\r\n", &request(&[b"PING"])].concat();
    for byte in bytes {
        client.send_raw(&[byte]);
    }
    assert_eq!(client.reply(), Value::Simple("OK".into()));
    assert_eq!(client.reply(), Value::bulk("value"));
    assert_eq!(client.reply(), Value::Simple("PONG".into()));
}

#[test]
fn garbage_is_told_off_and_disconnected_and_others_are_served() {
    let node = Node::start();
    let limits = Limits::default();
    let long = "x".repeat(limits.inline_bytes + 1);
    for (bytes, expected) in [
        (&b"*x\r\n"[..], "ERR Protocol error: invalid multibulk length"),
        (b"*9999999\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n!\r\n", "ERR Protocol error: expected '$', got '!'"),
        (b"*1\r\n$-5\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$999999999999\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$1\r\nabc", "ERR Protocol error: bulk string is not terminated by CRLF"),
        (b"set \"a\r\n", "ERR Protocol error: unbalanced quotes in request"),
        (long.as_bytes(), "ERR Protocol error: too big inline request"),
    ] {
        let mut client = node.client();
        client.send_raw(b"PING\r\n");
        client.send_raw(bytes);
        assert_eq!(client.reply(), Value::Simple("PONG".into()), "what came before is answered");
        assert_eq!(client.reply().error(), expected);
        assert!(client.is_at_end());
    }
    assert_eq!(node.client().call("PING"), Value::Simple("PONG".into()));
}

#[test]
fn a_browser_is_disconnected_without_executing_its_body() {
    let node = Node::start();
    let mut client = node.client();
    client.send_raw(b"POST / HTTP/1.1\r\nHost: a\r\n\r\nSET a 1\r\n");
    assert!(client.is_at_end());
    assert_eq!(node.client().call("GET a"), Value::Null);
}

#[test]
fn a_value_of_many_megabytes_arrives_whole() {
    let node = Node::start();
    let mut client = node.client();
    let value: Vec<u8> = (0..10 * 1024 * 1024_u32).map(|index| (index >> 10) as u8 ^ index as u8).collect();
    client.send(&[b"SET", b"big", &value]);
    assert_eq!(client.reply(), Value::Simple("OK".into()));
    client.send(&[b"GET", b"big"]);
    assert!(client.reply() == Value::Bulk(value));
}

#[test]
fn a_client_that_does_not_read_is_not_read_and_then_cut_off() {
    let node = with(Config {
        write_timeout: Duration::from_millis(300),
        min_bytes_per_second: 10 * 1024 * 1024,
        ..Config::default()
    });
    let mut writer = node.client();
    let value = vec![7; 1024 * 1024];
    writer.send(&[b"SET", b"big", &value]);
    assert_eq!(writer.reply(), Value::Simple("OK".into()));

    let mut deaf = TcpStream::connect(node.resp).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let asks = request(&[b"GET", b"big"]).repeat(1000);
    let before = node.backend.requests.load(Ordering::Relaxed);
    let start = Instant::now();
    // Goes on asking without reading until the server cuts it off.
    loop {
        match deaf.write(&asks) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
        assert!(start.elapsed() < PATIENCE, "not cut off");
    }
    let executed = node.backend.requests.load(Ordering::Relaxed) - before;
    assert!(executed <= 2 * 1024, "{executed} requests executed for a client that reads none");
    assert_eq!(node.client().call("PING"), Value::Simple("PONG".into()));
}

#[test]
fn a_request_that_does_not_go_on_is_cut_off_and_idle_clients_are_not() {
    let node = with(Config { partial_timeout: Duration::from_millis(200), ..Config::default() });
    let mut idle = node.client();
    let mut slow = node.client();
    slow.send_raw(b"*2\r\n$3\r\nGET\r\n$1");
    assert!(slow.is_at_end(), "cut off");
    assert_eq!(idle.call("PING"), Value::Simple("PONG".into()));
}

#[test]
fn idle_clients_are_disconnected_if_wanted() {
    let node = with(Config { idle_timeout: Some(Duration::from_millis(100)), ..Config::default() });
    let mut client = node.client();
    assert_eq!(client.call("PING"), Value::Simple("PONG".into()));
    assert!(client.is_at_end());
}

#[test]
fn the_client_too_many_is_told_so() {
    let node = with(Config { max_clients: 3, ..Config::default() });
    let mut clients: Vec<Client> = (0..3).map(|_| node.client()).collect();
    for client in &mut clients {
        assert_eq!(client.call("PING"), Value::Simple("PONG".into()));
    }
    let mut refused = node.client();
    assert_eq!(refused.reply().error(), "ERR max number of clients reached");
    assert!(refused.is_at_end());
    drop(clients.pop());
    // The place is free as soon as the server has noticed.
    wait_until("the place is free again", || {
        let mut client = node.client();
        client.stream.get_mut().write_all(b"PING\r\n").is_ok()
            && matches!(client.stream.read(&mut [0; 7]), Ok(7))
    });
}

#[test]
fn shutdown_ends_idle_clients_and_accepts_no_more() {
    let node = Node::start();
    let mut clients: Vec<Client> = (0..10).map(|_| node.client()).collect();
    for client in &mut clients {
        assert_eq!(client.call("PING"), Value::Simple("PONG".into()));
    }
    let handle = node.resp_handle.clone();
    let start = Instant::now();
    node.runtime.block_on(move || handle.shutdown(PATIENCE));
    assert!(start.elapsed() < PATIENCE / 2, "idle clients hold nothing up");
    for client in &mut clients {
        assert!(client.is_at_end());
    }
    wait_until("nobody is accepted", || match TcpStream::connect(node.resp) {
        Err(_) => true,
        Ok(mut stream) => {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            !matches!(stream.read(&mut [0]), Ok(1))
        }
    });
}

#[test]
fn many_clients_at_once_get_their_own_replies() {
    let node = Node::start();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let node = &node;
            scope.spawn(move || {
                let mut client = node.client();
                for round in 0..200 {
                    let (key, value) = (format!("k{thread}"), format!("v{thread}.{round}"));
                    client.send(&[b"SET", key.as_bytes(), value.as_bytes()]);
                    client.send(&[b"GET", key.as_bytes()]);
                    assert_eq!(client.reply(), Value::Simple("OK".into()));
                    assert_eq!(client.reply(), Value::bulk(&value));
                }
            });
        }
    });
}
