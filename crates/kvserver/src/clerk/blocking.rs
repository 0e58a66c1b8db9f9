//! The clerk for plain threads: a runtime of its own with one worker.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use fiber_runtime::Runtime;

use super::{Clerk, ClerkConfig, ClerkError};
use crate::command::{NodeStatus, ScanPage};

/// A [`Clerk`] for plain threads. Operations of several threads run at the same time.
#[derive(Debug)]
pub struct BlockingClerk {
    clerk: Clerk,
    runtime: Runtime,
}

impl BlockingClerk {
    /// As [`Clerk::new`], with a runtime of its own.
    ///
    /// # Errors
    /// The runtime cannot be started, or there is no source of random numbers.
    pub fn new(endpoints: Vec<SocketAddr>, config: ClerkConfig) -> io::Result<BlockingClerk> {
        let runtime = Runtime::builder().workers(1).name("clerk").build()?;
        let clerk = runtime.block_on(move || Clerk::new(endpoints, config))?;
        Ok(BlockingClerk { clerk, runtime })
    }

    /// Runs an operation of the clerk.
    pub fn run<T: Send + 'static>(&self, operation: impl FnOnce(&Clerk) -> T + Send + 'static) -> T {
        let clerk = self.clerk.clone();
        self.runtime.block_on(move || operation(&clerk))
    }

    /// See [`Clerk::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, ClerkError> {
        let key = key.into();
        self.run(|clerk| clerk.get(key))
    }

    /// See [`Clerk::put`].
    ///
    /// # Errors
    /// As there.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<u64, ClerkError> {
        let (key, value) = (key.into(), value.into());
        self.run(|clerk| clerk.put(key, value))
    }

    /// See [`Clerk::append`].
    ///
    /// # Errors
    /// As there.
    pub fn append(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<u64, ClerkError> {
        let (key, value) = (key.into(), value.into());
        self.run(|clerk| clerk.append(key, value))
    }

    /// See [`Clerk::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, keys: Vec<Bytes>) -> Result<u64, ClerkError> {
        self.run(|clerk| clerk.delete(keys))
    }

    /// See [`Clerk::compare_and_swap`].
    ///
    /// # Errors
    /// As there.
    pub fn compare_and_swap(
        &self,
        key: impl Into<Bytes>,
        expected: Option<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<(bool, Option<Bytes>), ClerkError> {
        let (key, value) = (key.into(), value.into());
        self.run(|clerk| clerk.compare_and_swap(key, expected, value))
    }

    /// See [`Clerk::increment`].
    ///
    /// # Errors
    /// As there.
    pub fn increment(&self, key: impl Into<Bytes>, delta: i64) -> Result<i64, ClerkError> {
        let key = key.into();
        self.run(move |clerk| clerk.increment(key, delta))
    }

    /// See [`Clerk::scan`].
    ///
    /// # Errors
    /// As there.
    pub fn scan(
        &self,
        prefix: impl Into<Bytes>,
        after: Option<Bytes>,
        limit: u32,
        values: bool,
    ) -> Result<ScanPage, ClerkError> {
        let prefix = prefix.into();
        self.run(move |clerk| clerk.scan(prefix, after, limit, values))
    }

    /// See [`Clerk::status`].
    ///
    /// # Errors
    /// As there.
    pub fn status(&self, node: SocketAddr) -> Result<NodeStatus, ClerkError> {
        self.run(move |clerk| clerk.status(node))
    }
}
