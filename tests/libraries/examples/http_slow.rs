//! Two thousand slow pages at once with `ureq`: on two workers, then on two thousand threads. The server, `tiny_http` for
//! HTTP and rustls on fibers for HTTPS, is this program once more.
//!
//!     cargo run --release -p moon-library-tests --example http_slow [http|https] [COUNT]

use std::process::Command;
use std::time::Duration;

use moon_library_tests::http_server::{self, Scheme, SlowServer};
use moon_library_tests::side_by_side::{Comparison, Fibers};
use moon_library_tests::work::http::{agent, get_slow_page, tls_agent};
use moon_library_tests::{Failure, descriptors};

const DELAY: Duration = Duration::from_secs(2);

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        return http_server::serve(&arguments[1..]);
    }
    let scheme =
        if arguments.first().is_some_and(|first| first == "https") { Scheme::Https } else { Scheme::Http };
    let count: usize = arguments.get(1).map_or(Ok(2000), |count| count.parse())?;
    if !descriptors::allow(count as u64 + 100) {
        return Ok(());
    }
    let server = SlowServer::start(Command::new(std::env::current_exe()?).arg("serve"), scheme, DELAY);
    let agent = server.certificate().map_or_else(agent, tls_agent);
    let url = server.url();
    let work = move |number| get_slow_page(&agent, &url, number);
    print!("{}", Comparison::run(&format!("ureq, {scheme:?}, after {DELAY:?}"), Fibers::on(2), count, work));
    println!("  (the server has {} threads of its own left)", server.threads());
    Ok(())
}
