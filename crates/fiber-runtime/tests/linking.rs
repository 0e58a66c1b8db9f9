//! Whose calls arrive in the hooks: those of shared libraries that are loaded by a program with the runtime, in C and in
//! Rust; and what is said where they cannot arrive, because the runtime itself is in a shared library.
//!
//! That they arrive from the program's own code, in every kind of build, is what the other tests show, and `.ci/linking`.

#![cfg(feature = "hook")]
#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::ffi::{CString, OsStr, c_void};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::on_fibers;
use fiber_runtime::{FiberBuilder, spawn};

/// The functions of a library, which stays loaded for good.
#[derive(Clone, Copy)]
struct Library {
    exchange: extern "C" fn(i32, u32) -> u32,
    nap: extern "C" fn(u32) -> i32,
    /// Only the library in C has it.
    deep: Option<extern "C" fn(u32) -> u32>,
}

fn open(path: &Path) -> Library {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the library was made from the sources beside this file, and has no initialisers.
    let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!library.is_null(), "dlopen of {}", path.display());
    // SAFETY: the library is open, the names are C strings.
    let (exchange, nap) =
        unsafe { (libc::dlsym(library, c"exchange".as_ptr()), libc::dlsym(library, c"nap".as_ptr())) };
    assert!(!exchange.is_null() && !nap.is_null());
    // SAFETY: as above.
    let deep = unsafe { libc::dlsym(library, c"deep".as_ptr()) };
    // SAFETY: the sources define the functions with these signatures; null is `None`.
    unsafe {
        Library {
            exchange: std::mem::transmute::<*mut c_void, extern "C" fn(i32, u32) -> u32>(exchange),
            nap: std::mem::transmute::<*mut c_void, extern "C" fn(u32) -> i32>(nap),
            deep: std::mem::transmute::<*mut c_void, Option<extern "C" fn(u32) -> u32>>(deep),
        }
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linking").join(name)
}

/// Runs a compiler, which is there wherever Rust programs are linked.
fn compile(command: &mut Command, output: &Path) -> PathBuf {
    let result = command.arg("-o").arg(output).output().unwrap();
    assert!(result.status.success(), "{command:?}: {}", String::from_utf8_lossy(&result.stderr));
    output.to_owned()
}

fn c_library(directory: &Path) -> PathBuf {
    let mut cc = Command::new("cc");
    compile(
        cc.args(["-shared", "-fPIC", "-O1", "-fno-stack-clash-protection"]).arg(source("c_library.c")),
        &directory.join("c_library.so"),
    )
}

fn rust_library(directory: &Path) -> PathBuf {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--crate-type", "cdylib", "--edition", "2024", "-O"]).arg(source("rust_library.rs"));
    compile(&mut rustc, &directory.join("rust_library.so"))
}

/// Both ends of a conversation are fibers of one worker, so it goes on only if the library's calls park them.
fn converse(library: Library) {
    const ROUNDS: u32 = 40;
    const PAIRS: usize = 20;
    let rounds: Vec<u32> = on_fibers(1, move || {
        let fibers: Vec<_> = (0..PAIRS)
            .map(|_| {
                let (mine, mut its) = UnixStream::pair().unwrap();
                let answering = spawn(move || (library.exchange)(mine.as_raw_fd(), ROUNDS));
                spawn(move || {
                    let mut byte = [1];
                    for round in 0..ROUNDS {
                        its.write_all(&byte).unwrap();
                        its.read_exact(&mut byte).unwrap();
                        assert_eq!(u32::from(byte[0]), round + 2);
                    }
                    answering.join().unwrap()
                })
            })
            .collect();
        fibers.into_iter().map(|fiber| fiber.join().unwrap()).collect()
    });
    assert_eq!(rounds, vec![ROUNDS; PAIRS]);
}

fn nap_together(library: Library) {
    const NAP: Duration = Duration::from_millis(200);
    const NAPS: u32 = 30;
    let took = on_fibers(1, move || {
        let start = Instant::now();
        let fibers: Vec<_> =
            (0..NAPS).map(|_| spawn(move || (library.nap)(NAP.as_millis() as u32))).collect();
        assert!(fibers.into_iter().all(|fiber| fiber.join().unwrap() == 0));
        start.elapsed()
    });
    assert!(took >= NAP, "slept {took:?}");
    assert!(took < NAP * NAPS / 2, "one after the other they take {:?}, these took {took:?}", NAP * NAPS);
}

#[test]
fn a_c_library_opened_at_run_time_parks_the_fibers_that_call_it() {
    let directory = tempfile::tempdir().unwrap();
    let library = open(&c_library(directory.path()));
    converse(library);
    nap_together(library);
}

#[test]
fn a_rust_library_with_its_own_std_parks_the_fibers_that_call_it() {
    let directory = tempfile::tempdir().unwrap();
    let library = open(&rust_library(directory.path()));
    converse(library);
    nap_together(library);
}

#[test]
fn large_frames_of_c_code_end_in_the_guard_of_a_large_stack() {
    const CHILD: &str = "FIBER_RUNTIME_LINKING_CHILD";
    let name = "large_frames_of_c_code_end_in_the_guard_of_a_large_stack";

    let directory = tempfile::tempdir().unwrap();
    let library = open(&c_library(directory.path()));
    let deep = library.deep.unwrap();
    let run = move |depth| {
        on_fibers(1, move || {
            // Its neighbours' stacks are there, too, and must not be written to.
            let neighbours: Vec<_> = (0..8)
                .map(|_| FiberBuilder::new().stack_size(256 << 10).spawn(fiber_runtime::yield_now))
                .collect();
            let deep = FiberBuilder::new().name("deep").stack_size(256 << 10).spawn(move || deep(depth));
            let sum = deep.join().unwrap();
            neighbours.into_iter().for_each(|neighbour| neighbour.join().unwrap());
            sum
        })
    };
    if std::env::var_os(CHILD).is_some() {
        unreachable!("the overflow gave {}", run(20));
    }
    assert_eq!(run(3), 1 + 2 + 3, "what fits works");
    let program = std::env::current_exe().unwrap();
    let child =
        Command::new(program).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.signal(), Some(libc::SIGABRT), "{said}");
    assert!(said.contains("fiber 'deep' (#") && said.contains("overflowed its stack of 256 KiB"), "{said}");
}

/// The example of that name, beside the directory of this test's program.
fn runtime_in_library() -> Option<PathBuf> {
    let program = std::env::current_exe().unwrap();
    let library = program.parent()?.parent()?.join("examples/libruntime_in_library.so");
    if !library.exists() {
        println!(
            "skipped: {} was not built (cargo test builds it, cargo test --test does not)",
            library.display()
        );
        return None;
    }
    Some(library)
}

fn ask_host(preload: &OsStr) -> Option<String> {
    let library = runtime_in_library()?;
    let directory = tempfile::tempdir().unwrap();
    let mut cc = Command::new("cc");
    let host = compile(cc.arg(source("host.c")).arg("-ldl"), &directory.path().join("host"));
    let mut run = Command::new(host);
    if !preload.is_empty() {
        run.env("LD_PRELOAD", preload);
    }
    let result = run.arg(&library).output().unwrap();
    let said = String::from_utf8_lossy(&result.stdout).into_owned();
    assert!(result.status.success(), "{said}{}", String::from_utf8_lossy(&result.stderr));
    Some(said + &String::from_utf8_lossy(&result.stderr))
}

#[test]
fn a_runtime_in_a_library_that_comes_after_libc_says_that_its_hooks_are_not_in_place() {
    let Some(said) = ask_host(OsStr::new("")) else { return };
    assert!(said.contains("10 fibers slept; std's calls of `recv` do not arrive in fiber-runtime"), "{said}");
    assert!(said.contains("libc.so"), "it names who has the calls: {said}");
    let warnings = said.lines().filter(|line| line.starts_with("fiber-runtime: std's calls")).count();
    assert_eq!(warnings, 1, "the start of the runtime says so by itself: {said}");
}

#[test]
fn a_runtime_in_a_library_that_comes_before_libc_has_its_hooks_in_place() {
    let Some(library) = runtime_in_library() else { return };
    let Some(said) = ask_host(library.as_os_str()) else { return };
    assert_eq!(said, "10 fibers slept; hooks in place\n");
}
