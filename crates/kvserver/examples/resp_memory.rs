//! The Redis door in front of a map in memory: how a backend is plugged in, and what the door costs without a cluster.
//!
//! ```text
//! cargo run --release -p kvserver --example resp_memory -- 127.0.0.1:7379 2
//! redis-benchmark -p 7379 -t ping,set,get -q
//! ```

use std::sync::Arc;

use fiber_runtime::Runtime;
use kvserver::metrics::Registry;
use kvserver::resp::{Config, Server};

#[path = "../tests/support/memory.rs"]
mod memory;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7379".into());
    if address == "--help" {
        println!("resp_memory [ADDRESS] [WORKERS]   (127.0.0.1:7379 and 2)");
        return Ok(());
    }
    let workers = arguments.next().map_or(Ok(2), |workers| workers.parse())?;
    let runtime = Runtime::builder().workers(workers).name("resp").build()?;
    let address = address.parse()?;
    runtime.block_on(move || {
        let backend = Arc::new(memory::Memory::default());
        let server = Server::bind(address, Config::default(), backend, &Registry::new())?;
        println!("listening on {}, {workers} workers", server.local_addr()?);
        server.serve();
        std::io::Result::Ok(())
    })?;
    Ok(())
}
