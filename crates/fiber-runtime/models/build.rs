//! Says to the files of `fiber-runtime` that they are compiled for a model.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=fiber_model");
}
