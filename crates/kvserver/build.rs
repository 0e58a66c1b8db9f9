//! Generates the messages, client and server of the key-value service.

fn main() -> Result<(), fiber_rpc_build::Error> {
    fiber_rpc_build::compile(&["proto/kv.proto"], &["proto"])
}
