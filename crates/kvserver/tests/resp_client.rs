//! The `redis` crate with its defaults, against the Redis door.

mod support;

use redis::Commands;
use support::Node;

#[test]
fn the_redis_crate_works_unchanged() {
    let node = Node::start();
    let client = redis::Client::open(format!("redis://{}/", node.resp)).unwrap();
    let mut connection = client.get_connection().unwrap();
    let () = connection.set("a", 1).unwrap();
    assert_eq!(connection.get::<_, i64>("a").unwrap(), 1);
    assert_eq!(connection.incr::<_, _, i64>("a", 41).unwrap(), 42);
    assert_eq!(connection.get::<_, Option<String>>("none").unwrap(), None);
    assert_eq!(connection.append::<_, _, u64>("text", "abc").unwrap(), 3);
    assert_eq!(connection.del::<_, u64>(&["a", "none"]).unwrap(), 1);
    assert!(connection.exists::<_, bool>("text").unwrap());
    let () = connection.mset(&[("x", "1"), ("y", "2")]).unwrap();
    assert_eq!(connection.mget::<_, Vec<Option<i64>>>(&["x", "y", "z"]).unwrap(), [Some(1), Some(2), None]);
    let pipeline: (String, i64, Option<String>) = redis::pipe()
        .set("p", "q")
        .ignore()
        .get("p")
        .incr("n", 7)
        .get("none")
        .query(&mut connection)
        .unwrap();
    assert_eq!(pipeline, ("q".into(), 7, None));
    let mut keys: Vec<String> = connection.scan::<String>().unwrap().map(Result::unwrap).collect();
    keys.sort();
    assert_eq!(keys, ["n", "p", "text", "x", "y"]);
}

#[test]
fn the_redis_crate_works_in_resp3() {
    let node = Node::start();
    let client = redis::Client::open(format!("redis://{}/?protocol=resp3", node.resp)).unwrap();
    let mut connection = client.get_connection().unwrap();
    let () = connection.set("a", "b").unwrap();
    assert_eq!(connection.get::<_, String>("a").unwrap(), "b");
    assert_eq!(connection.get::<_, Option<String>>("none").unwrap(), None);
    let config: std::collections::HashMap<String, String> =
        redis::cmd("CONFIG").arg("GET").arg("appendonly").query(&mut connection).unwrap();
    assert_eq!(config["appendonly"], "yes");
}

#[test]
fn errors_keep_their_codes_through_the_redis_crate() {
    let node = Node::start();
    let client = redis::Client::open(format!("redis://{}/", node.resp)).unwrap();
    let mut connection = client.get_connection().unwrap();
    let unknown = connection.get::<_, String>("fate:unknown").unwrap_err();
    assert_eq!(unknown.code(), Some("UNKNOWN"));
    node.backend.leaderless.store(true, std::sync::atomic::Ordering::Relaxed);
    let refused = connection.get::<_, String>("a").unwrap_err();
    assert_eq!(refused.code(), Some("CLUSTERDOWN"));
}
