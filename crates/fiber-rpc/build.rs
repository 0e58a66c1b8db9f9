//! Generates the stubs that the examples and tests use; the library itself needs none.

fn main() -> Result<(), fiber_rpc_build::Error> {
    fiber_rpc_build::compile(&["proto/echo.proto", "proto/friend.proto"], &["proto"])
}
