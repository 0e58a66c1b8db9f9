//! Frames: the unit on the wire, between bytes on one side and calls on the other.
//!
//! ```text
//!  +------------------------+------------------------------+--------------------------+
//!  | header length          | header                       | payload                  |
//!  | varint, 1 to 5 bytes   | protobuf message [`Header`]  | `args_size` bytes, any   |
//!  +------------------------+------------------------------+--------------------------+
//! ```
//!
//! The original's frame, with its fields 1 to 3 unchanged. Its replies were a bare message, without length or number;
//! here a reply is a frame as well, and the call id lets many calls share a connection.
//!
//! A size is checked against [`FrameLimits`] before a byte of memory is taken for it, and memory grows with the
//! bytes that have arrived, never to what a header announces.

mod decode;
mod encode;
mod header;

pub use decode::{Decoded, Decoder};
pub(crate) use encode::Batch;
pub use encode::encode;
pub use header::{Header, HeaderRef, Kind};

use bytes::Bytes;

/// Largest frame that is accepted and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Bytes of an encoded header. Longer ones are refused and end the connection. Default 8 KiB.
    pub max_header: usize,
    /// Bytes of a payload. Longer ones are refused with an error and skipped. Default 64 MiB.
    pub max_payload: usize,
}

impl Default for FrameLimits {
    fn default() -> FrameLimits {
        FrameLimits { max_header: 8 << 10, max_payload: 64 << 20 }
    }
}

/// One decoded frame. The payload shares the read buffer: copy it before keeping a small part for long.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// What the frame is and where it belongs.
    pub header: Header,
    /// The bytes after the header.
    pub payload: Bytes,
}

/// Bytes that are not a frame. After any of these the frame boundary is lost, and with it the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The varint before the header does not end within five bytes.
    #[error("malformed frame: the header length is not a varint of at most five bytes")]
    BadHeaderLength,
    /// A header of zero bytes.
    #[error("malformed frame: the header is empty")]
    EmptyHeader,
    /// The header is longer than allowed.
    #[error("malformed frame: a header of {size} bytes exceeds the limit of {limit}")]
    HeaderTooLarge {
        /// Announced bytes.
        size: u64,
        /// [`FrameLimits::max_header`].
        limit: usize,
    },
    /// A payload so much larger than allowed that it is not worth skipping.
    #[error("malformed frame: a payload of {size} bytes exceeds the limit of {limit}")]
    PayloadTooLarge {
        /// Announced bytes.
        size: u64,
        /// [`FrameLimits::max_payload`].
        limit: usize,
    },
    /// The header is not the protobuf message it must be.
    #[error("malformed frame: the header cannot be decoded: {0}")]
    BadHeader(#[from] prost::DecodeError),
}

#[cfg(test)]
mod tests;
