//! What each command answers, over a socket, in front of a map.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod support;

use std::sync::atomic::Ordering;

use support::{Client, Node, Value};

fn integer(value: i64) -> Value {
    Value::Integer(value)
}

fn ok() -> Value {
    Value::Simple("OK".into())
}

/// Runs `(command, expected reply)` pairs in turn.
fn script(client: &mut Client, steps: &[(&str, Value)]) {
    for (line, expected) in steps {
        assert_eq!(client.call(line), *expected, "{line}");
    }
}

#[test]
fn strings_behave_as_in_redis() {
    let node = Node::start();
    let not_an_integer = || Value::Error("ERR value is not an integer or out of range".into());
    script(
        &mut node.client(),
        &[
            ("GET a", Value::Null),
            ("SET a 1", ok()),
            ("get a", Value::bulk("1")),
            ("SETNX a 2", integer(0)),
            ("SETNX b 2", integer(1)),
            ("GETSET a 3", Value::bulk("1")),
            ("GETSET new x", Value::Null),
            ("GETDEL new", Value::bulk("x")),
            ("GETDEL new", Value::Null),
            ("APPEND a 45", integer(3)),
            ("STRLEN a", integer(3)),
            ("STRLEN none", integer(0)),
            ("GETRANGE a 1 -1", Value::bulk("45")),
            ("GETRANGE none 0 -1", Value::bulk("")),
            ("GETRANGE a x 1", not_an_integer()),
            ("INCR a", integer(346)),
            ("DECR a", integer(345)),
            ("INCRBY a -5", integer(340)),
            ("DECRBY a 40", integer(300)),
            ("INCRBY a 1.5", not_an_integer()),
            ("DECRBY a -9223372036854775808", Value::Error("ERR decrement would overflow".into())),
            (
                "INCRBY a 9223372036854775807",
                Value::Error("ERR increment or decrement would overflow".into()),
            ),
            ("SET text abc", ok()),
            ("INCR text", not_an_integer()),
            ("MSET x 1 y 2 z 3", ok()),
            ("MSET x 1 y", Value::Error("ERR wrong number of arguments for 'mset' command".into())),
            ("MSETNX x 9 w 9", integer(0)),
            ("MSETNX v 8 w 9", integer(1)),
            ("MGET x none w", Value::Array(vec![Value::bulk("1"), Value::Null, Value::bulk("9")])),
        ],
    );
}

#[test]
fn set_options_decide_and_tell() {
    let node = Node::start();
    let syntax = || Value::Error("ERR syntax error".into());
    script(
        &mut node.client(),
        &[
            ("SET a 1 XX", Value::Null),
            ("SET a 1 NX", ok()),
            ("SET a 2 nx", Value::Null),
            ("SET a 2 xx", ok()),
            ("SET a 3 GET", Value::bulk("2")),
            ("SET b 1 GET", Value::Null),
            ("SET a 4 NX GET", Value::bulk("3")),
            ("GET a", Value::bulk("3")),
            ("SET a 5 KEEPTTL", ok()),
            ("SET a 6 IFEQ 5", ok()),
            ("SET a 7 IFEQ 5", Value::Null),
            ("SET a 7 NX XX", syntax()),
            ("SET a 7 IFEQ 6 NX", syntax()),
            ("SET a 7 IFEQ", syntax()),
            ("SET a 7 NONSENSE", syntax()),
            (
                "SET a 7 EX 10",
                Value::Error("ERR keys do not expire: EX, PX, EXAT and PXAT are not supported".into()),
            ),
            ("GET a", Value::bulk("6")),
            ("CAS a 6 8", integer(1)),
            ("CAS a 6 9", integer(0)),
            ("CAS none 6 9", integer(0)),
            ("GET a", Value::bulk("8")),
        ],
    );
}

#[test]
fn keys_are_counted_removed_and_typed() {
    let node = Node::start();
    script(
        &mut node.client(),
        &[
            ("DBSIZE", integer(0)),
            ("MSET a 1 b 2 c 3", ok()),
            ("DBSIZE", integer(3)),
            ("EXISTS a a none", integer(2)),
            ("TYPE a", Value::Simple("string".into())),
            ("TYPE none", Value::Simple("none".into())),
            ("TTL a", integer(-1)),
            ("PTTL none", integer(-2)),
            ("DEL a none", integer(1)),
            ("UNLINK b c", integer(2)),
            ("EXISTS a b c", integer(0)),
        ],
    );
}

#[test]
fn scan_walks_over_every_key_once() {
    let node = Node::start();
    let mut client = node.client();
    for number in 0..95 {
        client.call(&format!("SET user:{number:03} x"));
        client.call(&format!("SET other:{number:03} x"));
    }
    let mut walk = |options: &str| {
        let mut cursor = "0".to_owned();
        let mut found = Vec::new();
        loop {
            let page = client.call(&format!("SCAN {cursor}{options}")).array();
            cursor = page[0].text();
            found.extend(page[1].clone().array().iter().map(Value::text));
            if cursor == "0" {
                return found;
            }
        }
    };
    let all = walk("");
    assert_eq!(all.len(), 190);
    assert!(all.is_sorted(), "keys come in order, each once");
    assert_eq!(walk(" MATCH user:* COUNT 7").len(), 95);
    assert_eq!(walk(" COUNT 1000").len(), 190);
    assert_eq!(walk(" MATCH *:00? COUNT 50 TYPE string").len(), 20);
    assert_eq!(walk(" TYPE list").len(), 0);
    assert_eq!(client.call("KEYS user:01?").array().len(), 10);
    assert_eq!(client.call("SCAN 12345").error(), "ERR invalid cursor");
    assert_eq!(client.call("SCAN x").error(), "ERR invalid cursor");
    assert_eq!(client.call("SCAN 0 COUNT 0").error(), "ERR syntax error");
}

#[test]
fn connection_commands_answer_in_place() {
    let node = Node::start();
    let mut client = node.client();
    let id = match client.call("CLIENT ID") {
        Value::Integer(id) => id,
        other => panic!("{other:?}"),
    };
    script(
        &mut client,
        &[
            ("PING", Value::Simple("PONG".into())),
            ("PING hello", Value::bulk("hello")),
            ("ECHO hello", Value::bulk("hello")),
            ("SELECT 0", ok()),
            ("SELECT 1", Value::Error("ERR DB index is out of range".into())),
            ("CLIENT GETNAME", Value::Null),
            ("CLIENT SETNAME me", ok()),
            ("CLIENT GETNAME", Value::bulk("me")),
            ("CLIENT SETINFO LIB-NAME test", ok()),
            ("CLIENT SETINFO LIB-VER 1.0", ok()),
            ("CLIENT NO-EVICT ON", ok()),
            ("CLIENT FROB", Value::Error("ERR unknown subcommand 'FROB'. Try CLIENT HELP.".into())),
            ("CLIENT ID 1", Value::Error("ERR wrong number of arguments for 'client|id' command".into())),
            ("READONLY", ok()),
            ("READWRITE", ok()),
            ("WAIT 1 0", integer(1)),
            ("CLUSTER MYID", Value::bulk(&format!("{:040}", 1))),
            ("CLUSTER KEYSLOT foo", integer(12_182)),
            ("GET", Value::Error("ERR wrong number of arguments for 'get' command".into())),
            (
                "FROB a b",
                Value::Error("ERR unknown command 'FROB', with args beginning with: 'a' 'b' ".into()),
            ),
        ],
    );
    assert!(client.call("AUTH secret").error().contains("without any password configured"));
    assert!(client.call("MULTI").error().contains("transactions are not supported"));
    let list = client.call("CLIENT LIST").text();
    assert!(
        list.contains(&format!("id={id} ")) && list.contains("name=me ") && list.contains("lib-name=test"),
        "{list}"
    );
    assert_eq!(client.call("CLIENT INFO").text().lines().count(), 1);
    assert_eq!(client.call("TIME").array().len(), 2);
    assert_eq!(client.call("RESET"), Value::Simple("RESET".into()));
    assert_eq!(client.call("CLIENT GETNAME"), Value::Null);
    assert_eq!(client.call("QUIT"), ok());
    assert!(client.is_at_end());
}

#[test]
fn hello_switches_the_dialect_and_keeps_the_shapes() {
    let node = Node::start();
    let mut client = node.client();
    let flat = client.call("HELLO").array();
    assert_eq!(flat.len(), 14, "a map of seven pairs is a flat array in RESP2");
    let position = flat.iter().position(|value| *value == Value::bulk("proto")).unwrap();
    assert_eq!(flat[position + 1], Value::Integer(2));

    let Value::Map(pairs) = client.call("HELLO 3 SETNAME me") else { panic!("RESP3 has maps") };
    let of = |name: &str| pairs.iter().find(|(key, _)| *key == Value::bulk(name)).unwrap().1.clone();
    assert_eq!(of("proto"), Value::Integer(3));
    assert_eq!(of("mode"), Value::bulk("standalone"));
    assert_eq!(of("role"), Value::bulk("master"));
    assert_eq!(of("modules"), Value::Array(vec![]));
    assert!(matches!(of("id"), Value::Integer(_)));
    assert_eq!(client.call("CLIENT GETNAME"), Value::bulk("me"));

    client.send_raw(b"GET none\r\n");
    let mut null = [0; 3];
    std::io::Read::read_exact(&mut client.stream, &mut null).unwrap();
    assert_eq!(&null, b"_\r\n");
    assert!(matches!(client.call("CONFIG GET save"), Value::Map(pairs) if pairs.len() == 1));
    assert!(matches!(client.call("INFO server"), Value::Verbatim(_)));

    assert_eq!(client.call("HELLO 4").error(), "NOPROTO unsupported protocol version");
    assert!(client.call("HELLO 3 AUTH a b").error().contains("without any password"));
    assert!(client.call("HELLO 3 NONSENSE").error().contains("Syntax error in HELLO"));
    assert!(matches!(client.call("HELLO 2"), Value::Array(_)));
    assert!(matches!(client.call("CONFIG GET save"), Value::Array(_)));
}

#[test]
fn tools_find_what_they_ask_for() {
    let node = Node::start();
    let mut client = node.client();
    // redis-benchmark
    assert_eq!(client.call("CONFIG GET save"), Value::Array(vec![Value::bulk("save"), Value::bulk("")]));
    assert_eq!(
        client.call("CONFIG GET appendonly"),
        Value::Array(vec![Value::bulk("appendonly"), Value::bulk("yes")])
    );
    assert_eq!(client.call("CONFIG GET nosuch"), Value::Array(vec![]));
    assert!(client.call("CONFIG GET max*").array().len() >= 6);
    assert!(client.call("CONFIG SET a b").error().starts_with("ERR"));
    // redis-cli
    let commands = client.call("COMMAND").array();
    assert_eq!(client.call("COMMAND COUNT"), Value::Integer(commands.len() as i64));
    assert_eq!(client.call("COMMAND LIST").array().len(), commands.len());
    for command in commands {
        let fields = command.array();
        assert_eq!(fields.len(), 10);
        assert!(matches!(fields[1], Value::Integer(arity) if arity != 0));
    }
    let info = client.call("COMMAND INFO get nosuch").array();
    assert_eq!(info[0].clone().array()[1], Value::Integer(2));
    assert_eq!(info[1], Value::Null);
    assert_eq!(client.call("COMMAND DOCS get").array().len(), 2);
    // cluster clients
    let slots = client.call("CLUSTER SLOTS").array();
    let shard = slots[0].clone().array();
    assert_eq!((&shard[0], &shard[1]), (&Value::Integer(0), &Value::Integer(16_383)));
    assert_eq!(shard[2].clone().array()[1], Value::Integer(7102), "the leader's port");
    let nodes = client.call("CLUSTER NODES").text();
    assert_eq!(nodes.lines().count(), 3);
    assert!(nodes.lines().all(|line| line.split(' ').count() >= 8), "{nodes}");
    assert!(client.call("CLUSTER INFO").text().contains("cluster_state:ok"));
    assert_eq!(client.call("CLUSTER SHARDS").array().len(), 1);
    // ioredis, dashboards
    let info = client.call("INFO").text();
    for line in ["redis_version:7.0.15", "loading:0", "role:master", "raft_term:3", "raft_leader_id:2"] {
        assert!(info.lines().any(|found| found == line), "{line} in {info}");
    }
    let section = client.call("INFO raft").text();
    assert!(section.starts_with("# Raft\r\n") && !section.contains("redis_version"), "{section}");
}

#[test]
fn a_node_without_leader_answers_with_codes_that_invite_a_retry() {
    let node = Node::start();
    let mut client = node.client();
    node.backend.leaderless.store(true, Ordering::Relaxed);
    assert_eq!(client.call("SET a 1").error(), "CLUSTERDOWN no leader");
    assert_eq!(client.call("GET a").error(), "CLUSTERDOWN no leader");
    assert_eq!(client.call("PING"), Value::Simple("PONG".into()));
    node.backend.leaderless.store(false, Ordering::Relaxed);
    assert_eq!(client.call("GET a"), Value::Null);
    assert_eq!(client.call("GET fate:unknown").error(), "UNKNOWN outcome unknown: the test wants it");
}
