//! Two hundred half seconds in the server, each followed by a transaction, with the `postgres` crate's blocking client: on one
//! worker, then on two hundred threads. Needs PostgreSQL.
//!
//!     cargo run --release -p moon-library-tests --example postgres_sleep [COUNT]

use moon_library_tests::postgres_server::PostgresServer;
use moon_library_tests::side_by_side::{Comparison, Fibers};
use moon_library_tests::work::postgres::{prepare, sleep_and_transfer, totals};
use moon_library_tests::{Failure, descriptors};

const ACCOUNTS: i32 = 50;

fn main() -> Result<(), Failure> {
    let count: usize = std::env::args().nth(1).map_or(Ok(200), |count| count.parse())?;
    if !descriptors::allow(count as u64 * 8 + 100) {
        return Ok(());
    }
    let Some(server) = PostgresServer::start(count + 20) else { return Ok(()) };
    let parameters = server.parameters();
    prepare(&parameters, ACCOUNTS)?;
    let at = parameters.clone();
    let work = move |number: usize| sleep_and_transfer(&at, number as i32, ACCOUNTS);
    let title = "postgres, pg_sleep(0.5) and a transaction";
    print!("{}", Comparison::run(title, Fibers::on(1), count, work));
    println!("  (the sum of the accounts is {})", totals(&parameters)?.0);
    Ok(())
}
