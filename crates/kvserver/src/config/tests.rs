//! Conf files, their errors, and what overrides what.

use std::path::Path;
use std::time::Duration;

use super::settings::KEYS;
use super::*;

const NODES: &str = "node0ip=127.0.0.1\nnode0port=1000\n";

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("t.conf"), text, [], []).map(|(config, _)| config)
}

#[track_caller]
fn assert_error(text: &str, expected: &str) {
    assert_eq!(parse(text).expect_err("must be refused").to_string(), expected);
}

fn conf_file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf").join(name)
}

#[test]
fn the_seeds_conf_file_has_three_nodes_with_four_keys_each() {
    let (config, _) = Config::load(&conf_file("test.conf"), [], []).unwrap();
    assert_eq!(config.nodes.len(), 3);
    for (id, node) in &config.nodes {
        assert_eq!(node.rpc, format!("127.0.1.1:{}", 21920 + id).parse().unwrap());
        assert_eq!(node.resp, Some(format!("127.0.0.1:{}", 21930 + id).parse().unwrap()));
        assert_eq!(node.http, Some(format!("127.0.0.1:{}", 21940 + id).parse().unwrap()));
    }
    assert_eq!(config.settings, Settings::default());
}

#[test]
fn the_reference_lists_exactly_the_known_keys_with_their_defaults() {
    let path = conf_file("reference.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, reference(), "run: kvserver reference > conf/reference.conf");
    let mut given = file::parse(&path, &text).unwrap();
    given.retain(|key, _| !nodes::is_key(key));
    let given: Vec<(&str, &str)> =
        given.iter().map(|(key, (value, _))| (key.as_str(), value.as_str())).collect();
    let mut known: Vec<(&str, &str)> = KEYS.iter().map(|key| (key.name, key.default)).collect();
    known.sort_unstable();
    assert_eq!(given, known);
    assert_eq!(parse(&text).unwrap().settings, Settings::default());
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let text = format!("{NODES}tick_ms=20\nheartbeat_ms=60\nelection_ms=400\n");
    let environment =
        pairs(&[("KVSERVER_HEARTBEAT_MS", "70"), ("KVSERVER_ELECTION_MS", "500"), ("PATH", "/bin")]);
    let flags = pairs(&[("election_ms", "600")]);
    let (config, ignored) = Config::parse(Path::new("t.conf"), &text, environment, flags).unwrap();
    let millis = |duration: Duration| duration.as_millis();
    assert_eq!(millis(config.settings.tick_ms), 20);
    assert_eq!(millis(config.settings.heartbeat_ms), 70);
    assert_eq!(millis(config.settings.election_ms), 600);
    assert_eq!(config.settings.request_timeout_ms, Settings::default().request_timeout_ms);
    assert_eq!(ignored, Vec::<String>::new());
}

#[test]
fn foreign_environment_variables_are_reported_and_ignored() {
    let environment = pairs(&[("KVSERVER_SERVICE_HOST", "10.0.0.1"), ("KVSERVER_NODE0RESP", "2000")]);
    let (config, ignored) = Config::parse(Path::new("t.conf"), NODES, environment, []).unwrap();
    assert_eq!(ignored, ["KVSERVER_SERVICE_HOST"]);
    assert_eq!(config.nodes[&0].resp, Some("127.0.0.1:2000".parse().unwrap()));
}

#[test]
fn errors_in_flags_and_environment_say_so() {
    let load = |environment, flags| {
        Config::parse(Path::new("t.conf"), NODES, environment, flags).unwrap_err().to_string()
    };
    let message = load(pairs(&[("KVSERVER_TICK_MS", "x")]), vec![]);
    assert_eq!(message, "environment variable KVSERVER_TICK_MS: tick_ms: \"x\" is not a whole number");
    let message = load(vec![], pairs(&[("tick", "1")]));
    assert_eq!(message, "--set tick=1: unknown key tick; did you mean tick_ms?");
    let message = load(vec![], pairs(&[("tick_ms", "1"), ("tick_ms", "2")]));
    assert_eq!(message, "--set tick_ms=2: tick_ms was already given at --set tick_ms=1");
}

#[test]
fn mistakes_are_named_with_file_line_and_key() {
    assert_error("# a\n\nnode0ip", "t.conf:3: expected key=value, found \"node0ip\"");
    assert_error("=5", "t.conf:1: expected key=value, found \"=5\"");
    assert_error(
        "node0ip=127.0.0.1\nheartbeat=5\n",
        "t.conf:2: unknown key heartbeat; did you mean heartbeat_ms?",
    );
    assert_error("nothing_like_it=1", "t.conf:1: unknown key nothing_like_it");
    assert_error("node00ip=127.0.0.1", "t.conf:1: unknown key node00ip");
    assert_error("sync=full\nsync=full", "t.conf:2: sync was already given at t.conf:1");
    assert_error("sync=half", "t.conf:1: sync: \"half\" is not one of: full, none");
    assert_error("tick_ms=0", "t.conf:1: tick_ms: 0 is not between 1 and 1000");
    assert_error("tick_ms=-1", "t.conf:1: tick_ms: \"-1\" is not a whole number");
    assert_error(
        "max_value_bytes=8MB",
        "t.conf:1: max_value_bytes: \"8MB\" is not a size such as 4096, 64KiB or 8MiB",
    );
    assert_error(
        "max_value_bytes=1GiB",
        "t.conf:1: max_value_bytes: 1073741824 bytes is not between 1 and 50331648",
    );
    assert_error("forward=yes", "t.conf:1: forward: \"yes\" is not one of: on, off");
}

#[test]
fn mistakes_about_nodes_are_named() {
    assert_error("", "t.conf: node0ip: no node is given: at least node0ip and node0port");
    assert_error(
        "node0ip=localhost\nnode0port=1",
        "t.conf:1: node0ip: \"localhost\" is not an IP address such as 127.0.0.1",
    );
    assert_error("node0ip=::1", "t.conf:1: node0port: is missing: node 0 needs ip and port");
    assert_error("node0port=5", "t.conf:1: node0ip: is missing: node 0 needs ip and port");
    assert_error("node0ip=::1\nnode0port=0", "t.conf:2: node0port: \"0\" is not a port between 1 and 65535");
    assert_error("node1ip=::1\nnode1port=5", "t.conf:1: node1ip: node 0 is missing: ids are 0, 1, 2, ...");
    assert_error("node64ip=::1", "t.conf:1: node64ip: node ids are at most 63");
    assert_error(
        &format!("{NODES}node0resp=80:80"),
        "t.conf:3: node0resp: \"80:80\" is neither a port nor ip:port",
    );
    assert_error(
        &format!("{NODES}node0http=1000"),
        "t.conf:3: node0http: 127.0.0.1:1000 is already taken by node0port",
    );
}

#[test]
fn relations_between_keys_are_checked_where_the_key_was_given() {
    let with = |lines: &str| format!("{NODES}{lines}");
    assert_error(
        &with("sync=none"),
        "t.conf:3: sync: none loses acknowledged writes in a power failure; set unsafe_no_sync=on if that is meant",
    );
    assert!(parse(&with("sync=none\nunsafe_no_sync=on")).is_ok());
    assert_error(
        &with("heartbeat_ms=200\nelection_ms=500"),
        "t.conf:4: election_ms: must be at least three times heartbeat_ms (200)",
    );
    // The key to blame has its default: the file as a whole is named.
    assert_error(
        &with("heartbeat_ms=200"),
        "t.conf: election_ms: must be at least three times heartbeat_ms (200)",
    );
    assert_error(&with("heartbeat_ms=5"), "t.conf:3: heartbeat_ms: must not be shorter than tick_ms (10)");
}

#[test]
fn values_may_be_written_in_several_ways() {
    let config = parse(
        " node0ip = ::1 \n  # comment\nnode0port=7\nnode0resp=10.0.0.1:8\nmax_value_bytes=64 KiB\nmax_key_bytes=100\n",
    )
    .unwrap();
    assert_eq!(config.nodes[&0].rpc, "[::1]:7".parse().unwrap());
    assert_eq!(config.nodes[&0].resp, Some("10.0.0.1:8".parse().unwrap()));
    assert_eq!(config.nodes[&0].http, None);
    assert_eq!((config.settings.max_value_bytes, config.settings.max_key_bytes), (64 << 10, 100));
}

#[test]
fn ticks_are_rounded_up() {
    let settings = parse(&format!("{NODES}tick_ms=20\nheartbeat_ms=50\nelection_ms=300")).unwrap().settings;
    assert_eq!((settings.heartbeat_ticks(), settings.election_ticks()), (3, 15));
}
