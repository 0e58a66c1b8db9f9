//! Blocking libraries that nobody here wrote, unmodified, on fibers and on threads.
//!
//! A [`work`] is what a person would write with the library: a function of an address and a number, without a word about
//! fibers. The tests and the examples run it on fibers and on one thread for each call, and [`measure`] both.
//!
//! - [`redis_server`], [`postgres_server`], [`http_server`]: what the libraries talk to. The first two are Debian's
//!   programs, started on free ports in temporary folders; where a program is missing, its tests say so and end.
//! - [`program`]: finding and running those.
//! - [`side_by_side`]: the same work on fibers and on threads, and the table of what each needed.
//! - [`descriptors`]: enough of them.
#![forbid(unsafe_code)]

pub mod descriptors;
pub mod http_server;
pub mod measure;
pub mod postgres_server;
pub mod program;
pub mod redis_server;
pub mod side_by_side;
pub mod work;

/// Why a piece of work failed, whatever the library.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
