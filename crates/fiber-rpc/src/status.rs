//! What a server answers when it does not answer with a result.

use std::borrow::Cow;
use std::fmt;

use crate::frame::Header;

/// Longest status message that goes on the wire, in bytes; the rest is cut off.
pub const MAX_STATUS_MESSAGE_BYTES: usize = 1024;

/// Why a call failed on the server, as a number on the wire.
///
/// The numbers are part of the protocol: they may be added to, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The call succeeded.
    Ok,
    /// The server has no service of that name.
    UnknownService,
    /// The service has no method of that name.
    UnknownMethod,
    /// The arguments cannot be decoded, are too large, or make no sense.
    InvalidArgument,
    /// The call's deadline had passed before the server started it.
    DeadlineExceeded,
    /// A limit of the server was reached; the call was not started.
    Overloaded,
    /// The server is stopping, or the service cannot work now.
    Unavailable,
    /// The service failed in a way its author did not foresee, for example by a panic.
    Internal,
    /// The service's own error; the message is for its client.
    Application,
}

impl Code {
    /// The code's number in the frame header.
    pub const fn to_wire(self) -> u32 {
        match self {
            Code::Ok => 0,
            Code::UnknownService => 1,
            Code::UnknownMethod => 2,
            Code::InvalidArgument => 3,
            Code::DeadlineExceeded => 4,
            Code::Overloaded => 5,
            Code::Unavailable => 6,
            Code::Internal => 7,
            Code::Application => 8,
        }
    }

    /// The code of a number; a number from a newer peer is [`Code::Internal`].
    pub const fn from_wire(number: u32) -> Code {
        match number {
            0 => Code::Ok,
            1 => Code::UnknownService,
            2 => Code::UnknownMethod,
            3 => Code::InvalidArgument,
            4 => Code::DeadlineExceeded,
            5 => Code::Overloaded,
            6 => Code::Unavailable,
            8 => Code::Application,
            _ => Code::Internal,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Code::Ok => "ok",
            Code::UnknownService => "unknown service",
            Code::UnknownMethod => "unknown method",
            Code::InvalidArgument => "invalid argument",
            Code::DeadlineExceeded => "deadline exceeded",
            Code::Overloaded => "overloaded",
            Code::Unavailable => "unavailable",
            Code::Internal => "internal error",
            Code::Application => "application error",
        })
    }
}

/// A failed call as the server reports it: a [`Code`] and a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
    not_started: bool,
}

impl Status {
    /// A status of any code but [`Code::Ok`].
    ///
    /// # Panics
    /// If `code` is [`Code::Ok`]: a success is an `Ok(..)`, not a status.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        assert_ne!(code, Code::Ok, "a Status describes a failure; success is Ok(..)");
        Status { code, message: message.into(), not_started: false }
    }

    /// The server's refusal of a call that its service never saw.
    pub(crate) fn refusal(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status { not_started: true, ..Status::new(code, message) }
    }

    /// The service's own error.
    pub fn application(message: impl Into<Cow<'static, str>>) -> Status {
        Status::new(Code::Application, message)
    }

    /// Arguments that the service refuses.
    pub fn invalid_argument(message: impl Into<Cow<'static, str>>) -> Status {
        Status::new(Code::InvalidArgument, message)
    }

    /// A method the service does not have; what [`Service::call`](crate::Service::call) returns for it.
    pub fn unknown_method(service: &str, method: &str) -> Status {
        Status::new(Code::UnknownMethod, format!("service {service} has no method {method}"))
    }

    /// A service the server does not have.
    pub(crate) fn unknown_service(service: &str) -> Status {
        Status::refusal(Code::UnknownService, format!("no service {service} here"))
    }

    /// Why the call failed.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence that came with it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the server refused the call before its service saw it: at a limit, while stopping, after the deadline, for
    /// want of the service. Such a call was certainly not executed.
    pub fn is_not_started(&self) -> bool {
        self.not_started
    }

    /// The message as it goes on the wire: cut at a character boundary if it is too long.
    pub(crate) fn wire_message(&self) -> &[u8] {
        let end = self.message.floor_char_boundary(MAX_STATUS_MESSAGE_BYTES);
        &self.message.as_bytes()[..end]
    }

    /// The status a frame header carries, `None` for success.
    pub(crate) fn from_wire(header: &Header) -> Option<Status> {
        match Code::from_wire(header.status_code) {
            Code::Ok => None,
            code => {
                let message = String::from_utf8_lossy(&header.status_message).into_owned().into();
                Some(Status { code, message, not_started: header.not_started })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for number in 0..9 {
            assert_eq!(Code::from_wire(number).to_wire(), number);
        }
        assert_eq!(Code::from_wire(4_000_000_000), Code::Internal);
    }

    #[test]
    fn long_message_is_cut_at_a_character_boundary() {
        let status = Status::application("é".repeat(MAX_STATUS_MESSAGE_BYTES));
        let wire = status.wire_message();
        assert!(wire.len() <= MAX_STATUS_MESSAGE_BYTES, "{} bytes", wire.len());
        assert!(std::str::from_utf8(wire).is_ok());
    }

    #[test]
    fn success_is_not_a_status() {
        let header = Header { status_message: "ignored".into(), ..Header::default() };
        assert_eq!(Status::from_wire(&header), None);
        assert!(std::panic::catch_unwind(|| Status::new(Code::Ok, "fine")).is_err());
    }
}
