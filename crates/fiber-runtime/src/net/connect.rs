//! Connecting to one of several addresses, some of which may not answer ("happy eyeballs", RFC 8305).
//!
//! The attempts begin one after the other, each a quarter of a second after the one before, or at once when that has
//! failed; the first to succeed is taken, and the others are given up. Addresses of the two families take turns, so that a
//! network on which one of them leads nowhere costs a quarter of a second and not minutes. One fiber does it all: it waits
//! for several descriptors.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libc::pollfd;
use socket2::SockAddr;

use super::endpoint::{Endpoint, native};
use crate::reactor::gathered;
use crate::{sys, time};

/// How long an attempt may be alone (RFC 8305, section 5: the Connection Attempt Delay).
const STAGGER: Duration = Duration::from_millis(250);

/// Why none of several addresses could be connected to. Inside the [`io::Error`] of a connect, whose kind is that of the
/// last attempt.
#[derive(Debug)]
pub struct ConnectError {
    attempts: Vec<(SocketAddr, io::Error)>,
}

impl ConnectError {
    /// The addresses that were tried, in the order in which they failed, with their errors.
    pub fn attempts(&self) -> &[(SocketAddr, io::Error)] {
        &self.attempts
    }

    fn into_io_error(mut self) -> io::Error {
        match self.attempts.len() {
            0 => io::Error::new(io::ErrorKind::InvalidInput, "the name stands for no address"),
            // The kernel's own error says more.
            1 => self.attempts.swap_remove(0).1,
            count => io::Error::new(self.attempts[count - 1].1.kind(), self),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no address could be connected to")?;
        for (position, (address, error)) in self.attempts.iter().enumerate() {
            write!(f, "{} {address}: {error}", if position == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConnectError {}

/// Connects to the first of `addresses` that answers, until `deadline`.
pub(super) fn first_to_answer(addresses: Vec<SocketAddr>, deadline: Option<Instant>) -> io::Result<Endpoint> {
    if let [only] = addresses[..] {
        return Endpoint::connect(&SockAddr::from(only), deadline);
    }
    let mut waiting = take_turns(addresses).into_iter();
    let mut begun: Vec<(SocketAddr, Endpoint)> = Vec::new();
    let mut failed = ConnectError { attempts: Vec::new() };
    let mut next_start = time::now();
    loop {
        let now = time::now();
        if (begun.is_empty() || next_start <= now)
            && let Some(address) = waiting.next()
        {
            match begin(&address) {
                Ok((endpoint, true)) => return finish(endpoint),
                Ok((endpoint, false)) => {
                    begun.push((address, endpoint));
                    next_start = now + STAGGER;
                }
                Err(error) => failed.attempts.push((address, error)),
            }
            continue;
        }
        if begun.is_empty() {
            return Err(failed.into_io_error());
        }
        let until = match deadline {
            _ if waiting.len() == 0 => deadline,
            None => Some(next_start),
            Some(deadline) => Some(deadline.min(next_start)),
        };
        let entry = |(_, endpoint): &(SocketAddr, Endpoint)| pollfd {
            fd: endpoint.fd(),
            events: libc::POLLOUT,
            revents: 0,
        };
        let mut entries: Vec<pollfd> = begun.iter().map(entry).collect();
        let ready = native(gathered::poll_until(&mut entries, until))?;
        // From the end, so that taking one out leaves the places of those before it.
        for position in (0..entries.len()).rev().filter(|&position| entries[position].revents != 0) {
            let (address, endpoint) = begun.remove(position);
            match sys::socket_option(endpoint.fd(), libc::SO_ERROR)? {
                0 => return finish(endpoint),
                errno => {
                    failed.attempts.push((address, io::Error::from_raw_os_error(errno)));
                    // The next one need not wait for its time.
                    next_start = time::now();
                }
            }
        }
        if ready == 0 && deadline.is_some_and(|deadline| deadline <= time::now()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Begins an attempt; true if it has succeeded at once.
fn begin(address: &SocketAddr) -> io::Result<(Endpoint, bool)> {
    let address = SockAddr::from(*address);
    let endpoint = Endpoint::stream(&address)?;
    match endpoint.socket().connect(&address) {
        Ok(()) => Ok((endpoint, true)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
            Ok((endpoint, false))
        }
        Err(error) => Err(error),
    }
}

fn finish(endpoint: Endpoint) -> io::Result<Endpoint> {
    endpoint.set_nonblocking(false)?;
    Ok(endpoint)
}

/// Alternates between the families, beginning with that of the first address; within each the order stays.
fn take_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().copied() else { return addresses };
    let (ours, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    let (mut ours, mut others) = (ours.into_iter(), others.into_iter());
    let mut all = Vec::with_capacity(ours.len() + others.len());
    while ours.len() + others.len() > 0 {
        all.extend(ours.next());
        all.extend(others.next());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns() {
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let turns = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(take_turns(given), turns);
        assert_eq!(take_turns(Vec::new()), Vec::new());
    }
}
