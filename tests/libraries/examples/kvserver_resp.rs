//! kvserver's Redis door, driven by the `redis` crate: 500 clients on one worker, then on 500 threads.
//!
//!     cargo run --release -p moon-library-tests --example kvserver_resp [COUNT]

use moon_library_tests::side_by_side::{Comparison, Fibers};
use moon_library_tests::work::redis::set_count_and_get;
use moon_library_tests::{Failure, descriptors};
use moon_tests::cluster::{Cluster, Options};

fn main() -> Result<(), Failure> {
    let count: usize = std::env::args().nth(1).map_or(Ok(500), |count| count.parse())?;
    if descriptors::allow(count as u64 + 100) {
        let cluster = Cluster::start(&Options::nodes(1));
        let url = format!("redis://{}/", cluster.addresses(0).resp);
        let work = move |number| set_count_and_get(&url, number);
        print!("{}", Comparison::run("redis crate, a node of kvserver", Fibers::on(1), count, work));
    }
    Ok(())
}
