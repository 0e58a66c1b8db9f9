//! Two hundred transactions with `rusqlite`, each waiting for a slow disk: on fibers that offload them to the pool, then on
//! two hundred threads. SQLite lets one write at a time, so neither way is faster; the point is what stays free meanwhile.
//!
//!     cargo run --release -p moon-library-tests --example sqlite_offload [COUNT]

use std::thread;
use std::time::Duration;

use fiber_runtime::offload;
use moon_library_tests::Failure;
use moon_library_tests::side_by_side::{Comparison, Fibers};
use moon_library_tests::work::sqlite::{prepare, totals, transfer};

const SLOW_DISK: Duration = Duration::from_millis(2);

fn main() -> Result<(), Failure> {
    let count: usize = std::env::args().nth(1).map_or(Ok(200), |count| count.parse())?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("accounts");
    prepare(&path, 10)?;
    let database = path.clone();
    // Outside a fiber `offload` runs the call where it is.
    let work = move |_| offload(|| transfer(&database, 0, 1, || thread::sleep(SLOW_DISK)));
    print!("{}", Comparison::run("rusqlite, offloaded", Fibers::on(1), count, work));
    let (sum, changed) = totals(&path)?;
    println!("  (the sum of the accounts is {sum}, and {changed} of them have changed)");
    Ok(())
}
