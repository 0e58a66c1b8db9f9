//! A thousand `BLPOP`s of one second at once with the `redis` crate's blocking client: on one worker, then on a thousand
//! threads. Needs redis-server.
//!
//!     cargo run --release -p moon-library-tests --example redis_blpop [COUNT]

use std::time::Duration;

use moon_library_tests::redis_server::RedisServer;
use moon_library_tests::side_by_side::{Comparison, Fibers};
use moon_library_tests::work::redis::wait_in_vain;
use moon_library_tests::{Failure, descriptors};

fn main() -> Result<(), Failure> {
    let count: usize = std::env::args().nth(1).map_or(Ok(1000), |count| count.parse())?;
    let Some(server) = RedisServer::start() else { return Ok(()) };
    if descriptors::allow(count as u64 + 100) {
        let url = server.url();
        let work = move |number| wait_in_vain(&url, number, Duration::from_secs(1));
        print!("{}", Comparison::run("redis, BLPOP for 1 s", Fibers::on(1), count, work));
    }
    Ok(())
}
