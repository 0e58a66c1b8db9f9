//! Build-script support for fiber-rpc: typed clients and servers from `.proto` files, without protoc.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), fiber_rpc_build::Error> {
//!     fiber_rpc_build::compile(&["proto/echo.proto"], &["proto"])
//! }
//! ```
//!
//! and `pub mod echo { fiber_rpc::include_proto!("moon.echo"); }` in the crate, which needs `prost` and `fiber-rpc` as
//! dependencies. A `service Echo` of package `moon.echo` becomes
//!
//! - `EchoClient`: over a `fiber_rpc::Channel`, one blocking method per rpc, with a deadline;
//! - `Echo`: the trait that a server implements, one method per rpc;
//! - `EchoServer`: the adapter from the trait to `fiber_rpc::Service`, under the full name `moon.echo.Echo`.
//!
//! Fields of type `bytes` become `bytes::Bytes`, so that a payload is not copied out of its frame.
#![forbid(unsafe_code)]

mod generate;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

/// Why stubs could not be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A `.proto` file cannot be read or is not valid.
    #[error("compiling .proto files failed: {0}")]
    Proto(#[from] protox::Error),
    /// The Rust code cannot be written.
    #[error("writing generated code failed: {0}")]
    Write(#[from] std::io::Error),
    /// A service asks for something that has no counterpart here.
    #[error("{0}")]
    Unsupported(String),
}

/// Generates Rust from `.proto` files into `OUT_DIR`, one file per package, for `fiber_rpc::include_proto!`.
///
/// `includes` are the directories in which imports are looked up; each of `protos` lies in one of them.
///
/// # Errors
/// A file that cannot be found or parsed, a streaming method, or a method whose name the generated trait needs itself.
pub fn compile(protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    for path in protos {
        println!("cargo:rerun-if-changed={}", path.as_ref().display());
    }
    for path in includes {
        println!("cargo:rerun-if-changed={}", path.as_ref().display());
    }
    compile_with(protos, includes, &mut prost_build::Config::new())
}

/// As [`compile`], into `out_dir`: for tests and for build scripts that are not run by cargo.
pub fn compile_to(
    out_dir: impl AsRef<Path>,
    protos: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
) -> Result<(), Error> {
    compile_with(protos, includes, prost_build::Config::new().out_dir(out_dir.as_ref()))
}

fn compile_with(
    protos: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
    config: &mut prost_build::Config,
) -> Result<(), Error> {
    let descriptors = protox::compile(protos, includes)?;
    let refused = Rc::new(RefCell::new(Vec::new()));
    config
        .bytes(["."])
        // Messages are documented in their .proto file or not at all, and may sit in a private module.
        .type_attribute(".", "#[allow(missing_docs, unreachable_pub)]")
        .service_generator(Box::new(generate::Generator::new(Rc::clone(&refused))))
        .compile_fds(descriptors)?;
    let refused = refused.take();
    if refused.is_empty() { Ok(()) } else { Err(Error::Unsupported(refused.join("; "))) }
}
