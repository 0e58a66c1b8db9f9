//! A slow HTTP server for the tests: `slow-http http|https MILLISECONDS`.

use moon_library_tests::{Failure, http_server};

fn main() -> Result<(), Failure> {
    http_server::serve(&std::env::args().skip(1).collect::<Vec<_>>())
}
