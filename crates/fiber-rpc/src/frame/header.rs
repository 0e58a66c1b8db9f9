//! The frame header as protobuf.
//!
//! ```proto
//! message RpcHeader {
//!   bytes  service_name   = 1;   // as in the original
//!   bytes  method_name    = 2;   // as in the original
//!   uint64 args_size      = 3;   // as in the original (uint32 there: the same bytes on the wire)
//!   reserved 4, 5, 6;            // compressed, original_size, compression_type of the seed's fork
//!   uint64 call_id        = 7;   // chosen by the caller, repeated in the reply
//!   uint32 kind           = 8;   // Kind; absent is a request, so the original's frames are requests
//!   uint64 deadline_us    = 9;   // time the caller still waits when it sends, in microseconds; 0 is for ever
//!   uint32 status_code    = 10;  // Code; absent is success
//!   string status_message = 11;
//!   bytes  trace_context  = 12;  // reserved for tracing; handed to the service as it is
//!   bool   not_started    = 13;  // with a status: the server refused the call before its service saw it
//! }
//! ```
//!
//! A deadline travels as time left and not as a point in time, because the clocks of two machines differ.

use bytes::{BufMut, Bytes};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A call that is answered by a [`Kind::Response`] of the same call id.
    Request,
    /// The answer: a payload, or a status.
    Response,
    /// A call that is not answered.
    OneWay,
    /// Is anybody there? Answered by a [`Kind::Pong`] of the same call id.
    Ping,
    /// The answer to a ping.
    Pong,
    /// The sender takes no new calls on this connection; the status says why.
    GoAway,
    /// The caller no longer wants the call. Reserved: receivers ignore it for now.
    Cancel,
}

impl Kind {
    /// The kind's number in the header.
    pub const fn to_wire(self) -> u32 {
        match self {
            Kind::Request => 0,
            Kind::Response => 1,
            Kind::OneWay => 2,
            Kind::Ping => 3,
            Kind::Pong => 4,
            Kind::GoAway => 5,
            Kind::Cancel => 6,
        }
    }

    /// The kind of a number. Frames of a kind this version does not know are skipped by their receivers.
    pub const fn from_wire(number: u32) -> Option<Kind> {
        Some(match number {
            0 => Kind::Request,
            1 => Kind::Response,
            2 => Kind::OneWay,
            3 => Kind::Ping,
            4 => Kind::Pong,
            5 => Kind::GoAway,
            6 => Kind::Cancel,
            _ => return None,
        })
    }
}

/// A header as it was received; its bytes share the read buffer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Header {
    /// Full name of the service.
    #[prost(bytes = "bytes", tag = "1")]
    pub service_name: Bytes,
    /// Name of the method.
    #[prost(bytes = "bytes", tag = "2")]
    pub method_name: Bytes,
    /// Length of the payload in bytes.
    #[prost(uint64, tag = "3")]
    pub args_size: u64,
    /// Number of the call on its connection.
    #[prost(uint64, tag = "7")]
    pub call_id: u64,
    /// See [`Kind`]; [`Header::kind`] decodes it.
    #[prost(uint32, tag = "8")]
    pub kind_number: u32,
    /// Remaining time in microseconds; 0 is none.
    #[prost(uint64, tag = "9")]
    pub deadline_us: u64,
    /// See [`Code`](crate::Code).
    #[prost(uint32, tag = "10")]
    pub status_code: u32,
    /// Text of the status; bytes here, so that a bad character does not cost the connection.
    #[prost(bytes = "bytes", tag = "11")]
    pub status_message: Bytes,
    /// Reserved for tracing.
    #[prost(bytes = "bytes", tag = "12")]
    pub trace_context: Bytes,
    /// With a status: the call was refused before its service saw it.
    #[prost(bool, tag = "13")]
    pub not_started: bool,
}

impl Header {
    /// What the frame is for, `None` if a newer peer knows more kinds than this version.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_wire(self.kind_number)
    }
}

/// A header to be sent: like [`Header`], but borrowed, so that encoding allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct HeaderRef<'a> {
    /// Full name of the service.
    pub service_name: &'a [u8],
    /// Name of the method.
    pub method_name: &'a [u8],
    /// Length of the payload in bytes.
    pub args_size: u64,
    /// Number of the call on its connection.
    pub call_id: u64,
    /// What the frame is for.
    pub kind: Kind,
    /// Remaining time in microseconds; 0 is none.
    pub deadline_us: u64,
    /// See [`Code`](crate::Code).
    pub status_code: u32,
    /// Text of the status.
    pub status_message: &'a [u8],
    /// Reserved for tracing.
    pub trace_context: &'a [u8],
    /// With a status: the call was refused before its service saw it.
    pub not_started: bool,
}

impl HeaderRef<'_> {
    /// A header of this kind and call, every other field empty.
    pub const fn new(kind: Kind, call_id: u64) -> HeaderRef<'static> {
        HeaderRef {
            service_name: &[],
            method_name: &[],
            args_size: 0,
            call_id,
            kind,
            deadline_us: 0,
            status_code: 0,
            status_message: &[],
            trace_context: &[],
            not_started: false,
        }
    }

    fn numbers(&self) -> [(u32, u64); 6] {
        [
            (3, self.args_size),
            (7, self.call_id),
            (8, u64::from(self.kind.to_wire())),
            (9, self.deadline_us),
            (10, u64::from(self.status_code)),
            (13, u64::from(self.not_started)),
        ]
    }

    fn strings(&self) -> [(u32, &[u8]); 4] {
        [(1, self.service_name), (2, self.method_name), (11, self.status_message), (12, self.trace_context)]
    }

    /// Bytes of the encoded header.
    pub fn encoded_len(&self) -> usize {
        let numbers = self.numbers().into_iter().filter(|&(_, value)| value != 0);
        let strings = self.strings().into_iter().filter(|(_, value)| !value.is_empty());
        numbers.map(|(tag, value)| key_len(tag) + encoded_len_varint(value)).sum::<usize>()
            + strings
                .map(|(tag, value)| key_len(tag) + encoded_len_varint(value.len() as u64) + value.len())
                .sum::<usize>()
    }

    /// Appends the header in the order of the tags, which is what prost writes for [`Header`].
    pub fn encode(&self, out: &mut impl BufMut) {
        let [service, method, message, trace] = self.strings();
        put_string(service, out);
        put_string(method, out);
        let [numbers @ .., not_started] = self.numbers();
        for number in numbers {
            put_number(number, out);
        }
        put_string(message, out);
        put_string(trace, out);
        put_number(not_started, out);
    }
}

fn put_number((tag, value): (u32, u64), out: &mut impl BufMut) {
    if value != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(value, out);
    }
}

fn put_string((tag, value): (u32, &[u8]), out: &mut impl BufMut) {
    if !value.is_empty() {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(value.len() as u64, out);
        out.put_slice(value);
    }
}
