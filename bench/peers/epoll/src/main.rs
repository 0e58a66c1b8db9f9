//! The bar for network runtimes.
fn main() {}
