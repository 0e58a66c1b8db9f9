//! Child processes: `std::process` for fibers.
//!
//! A child is waited for through its `pidfd`, so no worker blocks and no `SIGCHLD` handler is needed; its standard
//! streams are pipes that fibers read and write ([`crate::pipe`]). Starting one runs on the blocking pool, because the
//! caller of `fork` waits until the child has begun its program. Everything works in plain threads, too.
//!
//! # Children that nobody waits for
//! Dropping a [`Child`] leaves the process running (unless [`Command::kill_on_drop`] was asked for). When it has ended,
//! the kernel keeps its status, a "zombie", until it is collected: that happens when the next child is started or
//! dropped, so zombies do not pile up; the last of them may stay until this process ends.
//!
//! ```
//! use fiber_runtime::process::Command;
//!
//! # let runtime = fiber_runtime::Runtime::builder().workers(1).build()?;
//! # runtime.block_on(|| {
//! let output = Command::new("echo").arg("from a child").output()?;
//! assert!(output.status.success());
//! assert_eq!(output.stdout, b"from a child\n");
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

pub use std::process::{ExitStatus, Output, Stdio};

use libc::pollfd;

use crate::fd::{AsyncFd, Interest};
use crate::net::native;
use crate::pipe::{Receiver, Sender};
use crate::reactor::gathered;
use crate::signal::Signal;
use crate::sync::Spin;
use crate::{offload, sys, time};

/// A process to be started: `std::process::Command`, whose methods have their meaning here.
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    /// Whether the caller has said where standard output and error go.
    stdout_set: bool,
    stderr_set: bool,
    stdin_set: bool,
    kill_on_drop: bool,
}

impl Command {
    /// Program `program`, looked up in `PATH` if it has no slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self::from(std::process::Command::new(program))
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.inner.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env(key, value);
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env_remove(key);
        self
    }

    /// Removes all environment variables.
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self
    }

    /// The child's working directory.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.inner.current_dir(directory);
        self
    }

    /// Where the child's standard input comes from. Default: inherited; nothing for [`Command::output`].
    pub fn stdin(&mut self, from: impl Into<Stdio>) -> &mut Self {
        self.stdin_set = true;
        self.inner.stdin(from);
        self
    }

    /// Where the child's standard output goes. Default: inherited; collected by [`Command::output`].
    pub fn stdout(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.stdout_set = true;
        self.inner.stdout(to);
        self
    }

    /// Where the child's standard error goes. Default: inherited; collected by [`Command::output`].
    pub fn stderr(&mut self, to: impl Into<Stdio>) -> &mut Self {
        self.stderr_set = true;
        self.inner.stderr(to);
        self
    }

    /// Whether dropping the [`Child`] before it has been waited for kills the process. Default: no.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// The command of `std`, for settings that have no method here (user, group, `pre_exec`). Streams set there count as
    /// not set for [`Command::output`].
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.inner
    }

    /// Starts the process.
    ///
    /// # Errors
    /// The program is not found or cannot be started; the process has too many descriptors open.
    pub fn spawn(&mut self) -> io::Result<Child> {
        collect_orphans();
        let (command, kill_on_drop) = (&mut self.inner, self.kill_on_drop);
        // The child is made into ours there: a fiber that is cancelled meanwhile drops it as one.
        offload(move || Child::new(command.spawn()?, kill_on_drop))
    }

    /// Starts the process and waits for its end.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Starts the process, collects what it writes, and waits for its end.
    ///
    /// # Errors
    /// As [`Command::spawn`], and reading from the child failed.
    pub fn output(&mut self) -> io::Result<Output> {
        if !self.stdin_set {
            self.inner.stdin(Stdio::null());
        }
        if !self.stdout_set {
            self.inner.stdout(Stdio::piped());
        }
        if !self.stderr_set {
            self.inner.stderr(Stdio::piped());
        }
        self.spawn()?.wait_with_output()
    }
}

impl From<std::process::Command> for Command {
    fn from(inner: std::process::Command) -> Self {
        Self { inner, stdout_set: false, stderr_set: false, stdin_set: false, kill_on_drop: false }
    }
}

/// A child process. See the module's documentation for what dropping it does.
#[derive(Debug)]
pub struct Child {
    /// Its standard input, if [`Stdio::piped`] was asked for.
    pub stdin: Option<Sender>,
    /// Its standard output, if [`Stdio::piped`] was asked for.
    pub stdout: Option<Receiver>,
    /// Its standard error, if [`Stdio::piped`] was asked for.
    pub stderr: Option<Receiver>,
    /// Taken out when the status is collected, or by the drop.
    inner: Option<std::process::Child>,
    pid: u32,
    /// Readable when the process has ended. Without one (descriptors were short) the process is looked at now and then.
    pidfd: Option<AsyncFd<OwnedFd>>,
    status: Option<ExitStatus>,
    kill_on_drop: bool,
}

impl Child {
    fn new(mut inner: std::process::Child, kill_on_drop: bool) -> io::Result<Self> {
        let pid = inner.id();
        let streams = (inner.stdin.take(), inner.stdout.take(), inner.stderr.take());
        // The child has not been collected, so the number is its own.
        let pidfd = sys::pidfd(pid).and_then(AsyncFd::new).ok();
        let mut child = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            inner: Some(inner),
            pid,
            pidfd,
            status: None,
            kill_on_drop,
        };
        child.stdin = streams.0.map(Sender::from_fd).transpose()?;
        child.stdout = streams.1.map(Receiver::from_fd).transpose()?;
        child.stderr = streams.2.map(Receiver::from_fd).transpose()?;
        Ok(child)
    }

    /// The process's number; none once its end has been collected, for the kernel may use the number again.
    pub fn id(&self) -> Option<u32> {
        self.inner.is_some().then_some(self.pid)
    }

    /// Waits for the process's end. Closes its standard input first, as a child that reads it would wait for ever.
    ///
    /// # Errors
    /// Somebody else has collected its status.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.wait_until(None)
    }

    /// As [`Child::wait`], until `deadline`; `None` is for ever.
    ///
    /// # Errors
    /// As [`Child::wait`], and `ErrorKind::TimedOut` at the deadline. The child can be waited for again.
    pub fn wait_until(&mut self, deadline: Option<Instant>) -> io::Result<ExitStatus> {
        /// How often a child without a pidfd is looked at.
        const LOOK: Duration = Duration::from_millis(20);

        drop(self.stdin.take());
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if let Some(pidfd) = &self.pidfd {
                pidfd.ready(Interest::Read, deadline)?;
                continue;
            }
            let next = time::now() + LOOK;
            if deadline.is_some_and(|deadline| deadline <= time::now()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            time::sleep_until(deadline.map_or(next, |deadline| deadline.min(next)));
        }
    }

    /// The process's status, if it has ended.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if let Some(inner) = &mut self.inner {
            self.status = inner.try_wait()?;
            if self.status.is_some() {
                self.inner = None;
                self.pidfd = None;
            }
        }
        Ok(self.status)
    }

    /// Waits for the process's end and collects what it writes to those of its streams that are pipes.
    ///
    /// # Errors
    /// As [`Child::wait`], and reading failed.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut streams = (self.stdout.take(), self.stderr.take());
        while let (Some(out), Some(err)) = &streams {
            let entry =
                |stream: &Receiver| pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let mut entries = [entry(out), entry(err)];
            native(gathered::poll_until(&mut entries, None))?;
            if entries[0].revents != 0 && read_some(out, &mut stdout)? == 0 {
                streams.0 = None;
            } else if entries[1].revents != 0 && read_some(err, &mut stderr)? == 0 {
                streams.1 = None;
            }
        }
        if let Some(mut out) = streams.0 {
            out.read_to_end(&mut stdout)?;
        }
        if let Some(mut err) = streams.1 {
            err.read_to_end(&mut stderr)?;
        }
        Ok(Output { status: self.wait()?, stdout, stderr })
    }

    /// Kills the process (`SIGKILL`). Its end is still to be waited for. Nothing if it has been collected.
    ///
    /// # Errors
    /// The process runs as somebody else.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.inner.is_none() {
            return Ok(());
        }
        self.signal(Signal::KILL)
    }

    /// Sends the process a signal.
    ///
    /// # Errors
    /// `ErrorKind::InvalidInput` if its end has been collected; the process runs as somebody else.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.inner.is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the process has ended"));
        }
        // SAFETY: a child that has not been collected.
        unsafe { sys::signals::kill(self.pid, signal.as_raw()) }
    }
}

fn read_some(mut stream: &Receiver, to: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; 8 * 1024];
    let count = stream.read(&mut buffer)?;
    to.extend_from_slice(&buffer[..count]);
    Ok(count)
}

impl Drop for Child {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        if self.kill_on_drop {
            // SAFETY: a child that has not been collected. It may have ended, which is as well.
            let _ = unsafe { sys::signals::kill(self.pid, libc::SIGKILL) };
        }
        ORPHANS.lock(|orphans| orphans.push(inner));
        collect_orphans();
    }
}

/// Children that were dropped before their end was collected.
static ORPHANS: Spin<Vec<std::process::Child>> = Spin::new(Vec::new());

/// Collects those that have ended.
fn collect_orphans() {
    let mut orphans = ORPHANS.lock(std::mem::take);
    orphans.retain_mut(|orphan| matches!(orphan.try_wait(), Ok(None)));
    if !orphans.is_empty() {
        ORPHANS.lock(|later| later.append(&mut orphans));
    }
}
