//! The `redis` crate's blocking client on fibers, against a real redis-server.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moon_library_tests::descriptors;
use moon_library_tests::program::PATIENCE;
use moon_library_tests::redis_server::RedisServer;
use moon_library_tests::side_by_side::{Comparison, Fibers, run_on_threads};
use moon_library_tests::work::redis::{connect, pipeline, wait_in_vain};
use moon_tests::wait::wait_until;
use redis::Commands;

/// The tests of this file take turns: one of them measures.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_thousand_fibers_wait_a_second_each_on_one_worker_in_under_two() {
    const FIBERS: usize = 1000;
    /// A machine that does something else meanwhile gets another chance.
    const TRIES: usize = 5;
    let _turn = turn();
    let Some(server) = RedisServer::start() else { return };
    if !descriptors::allow(FIBERS as u64 + 200) {
        return;
    }
    let url = server.url();
    let work = move |number| wait_in_vain(&url, number, Duration::from_secs(1));
    let mut runs = (0..TRIES).map(|_| Fibers::on(1).run(FIBERS, work.clone()));
    let fibers = runs.find(|run| run.elapsed < Duration::from_secs(2));
    let fibers = fibers.expect("a thousand seconds on one worker in under two, in one run of five");
    assert!(fibers.elapsed >= Duration::from_secs(1), "nobody waited: {fibers:?}");
    assert!(fibers.threads < 20, "fibers became threads: {fibers:?}");
    let threads = run_on_threads(FIBERS, work);
    println!("{}", Comparison { title: format!("redis, BLPOP for 1 s, {FIBERS} at once"), fibers, threads });
    assert!(threads.threads > 20, "{threads:?}");
}

#[test]
fn pipelines_of_many_fibers_keep_their_answers_apart() {
    let _turn = turn();
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    Fibers::on(2).run(100, move |number| pipeline(&url, number));
}

#[test]
fn every_subscriber_on_a_fiber_hears_every_message_in_order() {
    const SUBSCRIBERS: usize = 100;
    const MESSAGES: usize = 50;
    let _turn = turn();
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = heard.clone();
    let subscribed = AtomicUsize::new(0);
    // The first publishes when all others listen; on one worker, so that everybody's wait has to let the others run.
    Fibers::on(1).run(SUBSCRIBERS + 1, move |number| {
        let mut connection = connect(&url)?;
        if number == 0 {
            wait_until("all subscribers", PATIENCE, || subscribed.load(Ordering::Relaxed) == SUBSCRIBERS);
            for message in 0..MESSAGES {
                let listeners: usize = connection.publish("news", message)?;
                assert_eq!(listeners, SUBSCRIBERS);
            }
            return Ok(());
        }
        let mut subscription = connection.as_pubsub();
        subscription.subscribe("news")?;
        subscribed.fetch_add(1, Ordering::Relaxed);
        let mut messages = Vec::new();
        for _ in 0..MESSAGES {
            messages.push(subscription.get_message()?.get_payload::<usize>()?);
        }
        all.lock().unwrap().push(messages);
        Ok(())
    });
    let expected: Vec<usize> = (0..MESSAGES).collect();
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), SUBSCRIBERS);
    assert!(heard.iter().all(|messages| *messages == expected), "{heard:?}");
}

#[test]
fn what_one_fiber_pushes_another_that_waits_for_it_gets() {
    let _turn = turn();
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    Fibers::on(1).run(2, move |number| {
        let mut connection = connect(&url)?;
        if number == 0 {
            let got: Option<(String, String)> = connection.blpop("list", 30.0)?;
            assert_eq!(got, Some(("list".into(), "element".into())));
        } else {
            let _: usize = connection.rpush("list", "element")?;
        }
        Ok(())
    });
}

#[test]
fn a_read_timeout_of_the_client_expires_on_a_fiber() {
    let _turn = turn();
    let Some(server) = RedisServer::start() else { return };
    let url = server.url();
    Fibers::on(1).run(1, move |_| {
        let mut connection = connect(&url)?;
        connection.set_read_timeout(Some(Duration::from_millis(50)))?;
        let failure = connection.blpop::<_, Option<(String, String)>>("empty", 30.0).unwrap_err();
        assert!(failure.is_timeout(), "{failure:?}");
        Ok(())
    });
}
