//! The accept loop: admits connections up to the limit and backs off when the system has no more to give.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fiber_runtime::net::TcpStream;
use fiber_runtime::{FiberBuilder, time, yield_now};

use super::{Shared, Stage, connection};
use crate::backoff::{Backoff, BackoffConfig, random_seed};
use crate::frame::{Batch, HeaderRef, Kind};
use crate::status::Code;

/// Delays after an error such as "too many open files", which ends only when somebody closes something.
const BACKOFF: BackoffConfig =
    BackoffConfig { initial: Duration::from_millis(10), max: Duration::from_secs(1) };

/// Accepts until the server stops.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut backoff = Backoff::new(BACKOFF, random_seed());
    while shared.state.read(|state| state.stage == Stage::Serving) {
        match shared.listener.accept() {
            Ok((stream, peer)) => {
                backoff.reset();
                match connection::admit(shared, &stream, peer) {
                    Ok(admitted) => {
                        let builder = FiberBuilder::new().name(format!("rpc connection of {peer}"));
                        drop(builder.spawn(move || admitted.run()));
                    }
                    Err(status) => refuse(stream, status),
                }
                // New connections start before the next one is accepted.
                yield_now();
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(_) if shared.state.read(|state| state.stage != Stage::Serving) => break,
            Err(error) => {
                let delay = backoff.next_delay();
                tracing::warn!(address = %shared.local_addr, %error, ?delay, "accepting a connection failed");
                shared
                    .state
                    .wait(Some(time::now() + delay), |state| (state.stage != Stage::Serving).then_some(()));
            }
        }
    }
}

/// The connection died before it was accepted; the next one is not to blame.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// Says why and hangs up. A fresh socket has room for one small frame, so this does not wait.
fn refuse(stream: TcpStream, message: &'static str) {
    let mut batch = Batch::default();
    let header = HeaderRef {
        status_code: Code::Overloaded.to_wire(),
        status_message: message.as_bytes(),
        ..HeaderRef::new(Kind::GoAway, 0)
    };
    batch.push(header, Bytes::new());
    // The peer learns it from the close if not from the frame.
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    let _ = batch.write_to(&mut &stream);
    let _ = stream.shutdown(std::net::Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_descriptor_table_is_backed_off_from_and_an_aborted_connection_is_not() {
        // EMFILE, ENFILE, ENOBUFS, ENOMEM on Linux.
        for errno in [24, 23, 105, 12] {
            assert!(!concerns_one_connection(&io::Error::from_raw_os_error(errno)), "errno {errno}");
        }
        // ECONNABORTED, EINTR.
        for errno in [103, 4] {
            assert!(concerns_one_connection(&io::Error::from_raw_os_error(errno)), "errno {errno}");
        }
    }
}
