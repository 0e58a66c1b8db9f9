//! What both ends of a connection share: the loop that writes, and reads with deadlines.
//!
//! Each end has two fibers on one socket. They are fibers of one worker, so the reader handles everything that is
//! ready in its buffer before the writer runs, and one send takes all of it.

use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use fiber_runtime::net::TcpStream;
use fiber_runtime::time;

use crate::error::Disconnect;
use crate::frame::{Batch, Decoded, Decoder, FrameLimits};
use crate::outbox::Outbox;

/// Bytes the writer takes from the outbox at once. More would only delay a ping that comes meanwhile.
const MAX_BATCH: usize = 1 << 20;

/// Runs until the outbox is finished or closed, or the socket fails. `encode` turns an item into frames; it may
/// also find that an item is no longer wanted.
pub(crate) fn write_loop<T>(
    stream: &TcpStream,
    outbox: &Outbox<T>,
    mut encode: impl FnMut(T, &mut Batch),
) -> Result<(), Disconnect> {
    let mut items = Vec::new();
    let mut batch = Batch::default();
    while outbox.take(&mut items, MAX_BATCH) {
        for item in items.drain(..) {
            encode(item, &mut batch);
        }
        if !batch.is_empty() {
            batch.write_to(&mut &*stream).map_err(Disconnect::Write)?;
        }
    }
    // The peer may have closed already, and then there is nobody to tell.
    let _ = stream.shutdown(Shutdown::Write);
    Ok(())
}

/// How long the parts of a frame may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadPace {
    /// A frame must be complete this long after its first byte ...
    pub(crate) frame_timeout: Duration,
    /// ... plus its size at this many bytes per second.
    pub(crate) min_bytes_per_second: u64,
}

/// Decodes the frames of a stream and holds the peer to a pace.
pub(crate) struct FrameReader {
    decoder: Decoder,
    pace: ReadPace,
    /// When the frame in progress must be complete.
    frame_deadline: Option<Instant>,
    /// Whether the size of the frame in progress is part of its deadline already.
    size_known: bool,
}

impl FrameReader {
    pub(crate) fn new(limits: FrameLimits, pace: ReadPace) -> FrameReader {
        FrameReader { decoder: Decoder::new(limits), pace, frame_deadline: None, size_known: false }
    }

    /// One read. Between frames it waits until `idle_deadline` (and then fails with `idle`), inside a frame as long as
    /// the frame may take.
    pub(crate) fn read(
        &mut self,
        stream: &TcpStream,
        idle_deadline: Option<Instant>,
        idle: Duration,
    ) -> Result<(), Disconnect> {
        let deadline = self.frame_deadline.or(idle_deadline);
        stream.set_read_deadline(deadline);
        match self.decoder.read_from(&mut &*stream) {
            Ok(0) if self.decoder.is_partial() => Err(Disconnect::EofInFrame),
            Ok(0) => Err(Disconnect::Eof),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut && self.frame_deadline.is_some() => {
                Err(Disconnect::SlowFrame(self.pace.frame_timeout))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Disconnect::Idle(idle)),
            Err(error) => Err(Disconnect::Read(error)),
        }
    }

    /// The next frame of what was read. Call it until it says `None` before the next [`read`](Self::read).
    pub(crate) fn next_frame(&mut self) -> Result<Option<Decoded>, Disconnect> {
        let decoded = self.decoder.next_frame()?;
        match &decoded {
            // The next frame has a clock of its own. The skipped payload of an oversize frame counts as one.
            Some(_) => {
                self.frame_deadline = None;
                self.size_known = false;
            }
            None if self.decoder.is_partial() => self.run_clock(),
            None => {
                self.frame_deadline = None;
                self.size_known = false;
            }
        }
        Ok(decoded)
    }

    /// A frame is incomplete: starts its clock, and extends it once when the size becomes known.
    fn run_clock(&mut self) {
        let deadline = match self.frame_deadline {
            Some(deadline) => deadline,
            None => time::now() + self.pace.frame_timeout,
        };
        let missing = self.decoder.missing();
        let extension = if self.size_known || missing == 0 {
            Duration::ZERO
        } else {
            self.size_known = true;
            Duration::from_secs(missing / self.pace.min_bytes_per_second.max(1))
        };
        self.frame_deadline = Some(deadline.checked_add(extension).unwrap_or(deadline));
    }
}
