//! A shared library that has the runtime inside, for programs of other languages to load. The dynamic linker binds calls
//! to the first definition it finds, which is libc's then, so that the hooks are not in place: blocking calls of `std` block
//! the worker. The library says so, and fibers work as long as they use the runtime's own types. Loaded before libc
//! (`LD_PRELOAD`), its definitions come first, and the hooks are in place.

use std::ffi::{CString, c_char};

use fiber_runtime::{Runtime, hook, spawn, time};

/// Runs some fibers, and says in a line whether hooks are in place. The caller owns the string and may leak it.
#[unsafe(no_mangle)]
pub extern "C" fn hook_state() -> *mut c_char {
    let line = match Runtime::builder().workers(1).build() {
        Ok(runtime) => {
            let slept = runtime.block_on(|| {
                let fibers: Vec<_> =
                    (0..10).map(|_| spawn(|| time::sleep(std::time::Duration::from_millis(5)))).collect();
                fibers.into_iter().filter_map(|fiber| fiber.join().ok()).count()
            });
            let state =
                hook::self_test().map_or_else(|error| error.to_string(), |()| "hooks in place".to_owned());
            format!("{slept} fibers slept; {state}")
        }
        Err(error) => format!("starting a runtime: {error}"),
    };
    CString::new(line).unwrap_or_default().into_raw()
}
