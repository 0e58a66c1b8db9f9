//! kvserver's Redis door, driven by the `redis` crate from fibers: both sides are fibers, and neither knows of the other's.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use moon_library_tests::descriptors;
use moon_library_tests::side_by_side::{Comparison, Fibers};
use moon_library_tests::work::redis::{connect, pipeline, set_count_and_get};
use moon_tests::cluster::{Cluster, Options};
use redis::Commands;

#[test]
fn the_redis_crate_on_fibers_works_against_our_own_server() {
    const CLIENTS: usize = 300;
    if !descriptors::allow(CLIENTS as u64 + 200) {
        return;
    }
    let cluster = Cluster::start(&Options::nodes(1));
    let url = format!("redis://{}/", cluster.addresses(0).resp);
    let at = url.clone();
    let work = move |number| set_count_and_get(&at, number);
    let comparison = Comparison::run("redis crate, kvserver", Fibers::on(1), CLIENTS, work);
    println!("{comparison}");
    assert!(comparison.fibers.threads < 20, "fibers became threads: {comparison:?}");
    let all: usize = connect(&url).unwrap().get("all").unwrap();
    assert_eq!(all, 2 * CLIENTS, "fibers and threads counted every client once");
}

#[test]
fn pipelines_of_fibers_keep_their_answers_apart_at_our_own_server() {
    let cluster = Cluster::start(&Options::nodes(1));
    let url = format!("redis://{}/", cluster.addresses(0).resp);
    Fibers::on(1).run(20, move |number| pipeline(&url, number));
}
