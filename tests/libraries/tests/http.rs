//! `ureq` on fibers, against `tiny_http` and against rustls.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::process::Command;
use std::time::Duration;

use moon_library_tests::descriptors;
use moon_library_tests::http_server::{Scheme, SlowServer};
use moon_library_tests::side_by_side::{Comparison, Fibers};
use moon_library_tests::work::http::{agent, get_slow_page, tls_agent};

const DELAY: Duration = Duration::from_secs(1);

fn start(scheme: Scheme, delay: Duration) -> SlowServer {
    SlowServer::start(&mut Command::new(env!("CARGO_BIN_EXE_slow-http")), scheme, delay)
}

#[test]
fn two_thousand_slow_requests_are_waited_for_at_once_on_two_workers() {
    const REQUESTS: usize = 2000;
    // Longer than unoptimised code takes to send them all, so that they do wait at once.
    let delay = 4 * DELAY;
    if !descriptors::allow(REQUESTS as u64 + 200) {
        return;
    }
    let server = start(Scheme::Http, delay);
    let (agent, url) = (agent(), server.url());
    let work = move |number| get_slow_page(&agent, &url, number);
    let comparison = Comparison::run("ureq, tiny_http answers after 4 s", Fibers::on(2), REQUESTS, work);
    println!("{comparison}  ({} threads of tiny_http's own are left)", server.threads());
    let Comparison { fibers, threads, .. } = comparison;
    assert!(fibers.elapsed >= delay, "nobody waited: {fibers:?}");
    // A worker that waited for one at a time would need more than an hour.
    assert!(fibers.elapsed < 10 * delay, "they waited for each other: {fibers:?}");
    assert!(fibers.threads < 20, "fibers became threads: {fibers:?}");
    assert!(threads.threads > 200, "{threads:?}");
}

#[test]
fn tls_on_fibers_of_both_sides_brings_the_right_pages() {
    const REQUESTS: usize = 100;
    let server = start(Scheme::Https, DELAY);
    let (agent, url) = (tls_agent(server.certificate().unwrap()), server.url());
    let fibers = Fibers::on(2).run(REQUESTS, move |number| get_slow_page(&agent, &url, number));
    assert!(fibers.elapsed >= DELAY, "nobody waited: {fibers:?}");
    assert!(fibers.elapsed < 20 * DELAY, "they waited for each other: {fibers:?}");
    assert!(server.threads() < 20, "the server's fibers became threads");
}

#[test]
fn a_certificate_nobody_vouches_for_is_refused_on_a_fiber_too() {
    let server = start(Scheme::Https, DELAY);
    let other = start(Scheme::Https, DELAY);
    let (agent, url) = (tls_agent(other.certificate().unwrap()), server.url());
    Fibers::on(1).run(1, move |number| {
        let failure = get_slow_page(&agent, &url, number).unwrap_err().to_string();
        assert!(failure.contains("certificate"), "{failure}");
        Ok(())
    });
}
