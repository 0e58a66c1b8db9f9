//! The `postgres` crate's blocking client on fibers, against a real PostgreSQL. Inside, each call drives a tokio runtime.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::time::Duration;

use moon_library_tests::descriptors;
use moon_library_tests::postgres_server::PostgresServer;
use moon_library_tests::side_by_side::{Comparison, Fibers};
use moon_library_tests::work::postgres::{connect, prepare, sleep_and_transfer, totals};

#[test]
fn two_hundred_fibers_of_one_worker_sleep_in_the_server_at_once_and_then_transfer() {
    const FIBERS: usize = 200;
    const ACCOUNTS: i32 = 50;
    let Some(server) = PostgresServer::start(FIBERS + 20) else { return };
    // A socket for each, and what a tokio runtime has: an epoll instance, a copy of it, an event descriptor, ...
    if !descriptors::allow(FIBERS as u64 * 8 + 200) {
        return;
    }
    let parameters = server.parameters();
    prepare(&parameters, ACCOUNTS).unwrap();
    let at = parameters.clone();
    let work = move |number: usize| sleep_and_transfer(&at, number as i32, ACCOUNTS);
    let comparison =
        Comparison::run("postgres, pg_sleep(0.5) and a transaction", Fibers::on(1), FIBERS, work);
    println!("{comparison}");
    let Comparison { fibers, threads, .. } = comparison;
    assert!(fibers.elapsed >= Duration::from_millis(500), "nobody slept: {fibers:?}");
    // One after the other they would sleep a hundred seconds; the server starts a process for each.
    assert!(fibers.elapsed < Duration::from_secs(30), "they waited for each other: {fibers:?}");
    assert!(fibers.threads < 20, "fibers became threads: {fibers:?}");
    assert!(threads.threads > 20, "{threads:?}");
    // Everybody's transfers went round in circles, so that all accounts have what they had.
    assert_eq!(totals(&parameters).unwrap(), (100 * i64::from(ACCOUNTS), 0));
}

#[test]
fn a_failed_transaction_of_one_fiber_is_rolled_back_and_harms_no_other() {
    const FIBERS: usize = 20;
    let Some(server) = PostgresServer::start(FIBERS + 20) else { return };
    let parameters = server.parameters();
    prepare(&parameters, FIBERS as i32).unwrap();
    let at = parameters.clone();
    Fibers::on(2).run(FIBERS, move |number| {
        let mut client = connect(&at)?;
        let id = number as i32;
        let mut transaction = client.transaction()?;
        transaction.execute("update accounts set balance = balance + 1 where id = $1", &[&id])?;
        if number % 2 == 0 {
            return Ok(transaction.commit()?);
        }
        // It is there already.
        let failure = transaction.execute("insert into accounts values ($1, 0)", &[&id]).unwrap_err();
        assert_eq!(failure.code().unwrap().code(), "23505", "{failure}");
        drop(transaction);
        let balance: i64 =
            client.query_one("select balance from accounts where id = $1", &[&id])?.try_get(0)?;
        assert_eq!(balance, 100);
        Ok(())
    });
    let half = FIBERS as i64 / 2;
    assert_eq!(totals(&parameters).unwrap(), (100 * FIBERS as i64 + half, half));
}
