//! What the generator writes and what it refuses, from `.proto` text to Rust text.
// The helper unwraps as tests do.
#![allow(clippy::unwrap_used)]

use std::fs;

use fiber_rpc_build::{Error, compile_to};

fn generate(proto: &str) -> Result<String, Error> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.proto"), proto).unwrap();
    compile_to(dir.path(), &[dir.path().join("a.proto")], &[dir.path()])?;
    Ok(fs::read_to_string(dir.path().join("p.rs")).unwrap())
}

fn with_service(body: &str) -> String {
    format!("syntax = \"proto3\"; package p; message M {{ bytes data = 1; }} service S {{ {body} }}")
}

#[test]
fn service_becomes_client_trait_and_adapter_under_its_full_name() {
    let code = generate(&with_service("rpc GetIt(M) returns (M);")).unwrap();
    for expected in [
        "pub struct SClient",
        "pub trait S:",
        "pub struct SServer<T>",
        "\"p.S\"",
        "fn get_it(",
        "\"GetIt\" =>",
        "::prost::bytes::Bytes",
    ] {
        assert!(code.contains(expected), "no {expected} in:\n{code}");
    }
}

#[test]
fn comments_of_the_proto_file_become_documentation() {
    let code = generate(&with_service("\n// Fetches it.\nrpc GetIt(M) returns (M);")).unwrap();
    assert_eq!(code.matches("/// Fetches it.").count(), 2, "client and trait:\n{code}");
}

#[test]
fn streaming_method_is_refused_by_name() {
    let error = generate(&with_service("rpc Watch(M) returns (stream M);")).unwrap_err();
    assert_eq!(error.to_string(), "rpc p.S.Watch: streaming is not supported");
}

#[test]
fn method_that_collides_with_the_generated_trait_is_refused_by_name() {
    let error = generate(&with_service("rpc Dispatch(M) returns (M);")).unwrap_err();
    assert!(error.to_string().starts_with("rpc p.S.Dispatch: "), "{error}");
}

#[test]
fn broken_proto_file_is_an_error_with_its_name() {
    let error = generate("syntax = \"proto3\"; package p; message {").unwrap_err();
    assert!(matches!(error, Error::Proto(_)));
    assert!(error.to_string().contains("compiling .proto files failed"), "{error}");
}
