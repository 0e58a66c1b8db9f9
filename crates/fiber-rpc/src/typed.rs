//! The typed surface over raw calls: what generated clients and servers are made of.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;
use prost::Message;

use crate::channel::Channel;
use crate::error::{CallError, Unknown};
use crate::status::Status;

/// Calls a method with a message and decodes the reply.
///
/// # Errors
/// As [`Channel::call`]; a reply that is not an `R` is [`Unknown::BadReply`], since the call was executed.
pub fn call<R: Message + Default>(
    channel: &Channel,
    service: impl Into<Cow<'static, str>>,
    method: impl Into<Cow<'static, str>>,
    request: &impl Message,
    deadline: Instant,
) -> Result<R, CallError> {
    let reply = channel.call(service, method, request.encode_to_vec().into(), deadline)?;
    R::decode(reply).map_err(|error| CallError::OutcomeUnknown {
        peer: channel.peer(),
        reason: Unknown::BadReply { cause: error.to_string().into() },
    })
}

/// Decodes the arguments, runs the method and encodes its reply.
///
/// # Errors
/// The method's own, or [`Code::InvalidArgument`](crate::Code::InvalidArgument) for arguments that are not a `Q`.
pub fn serve<Q: Message + Default, R: Message>(
    payload: Bytes,
    method: impl FnOnce(Q) -> Result<R, Status>,
) -> Result<Bytes, Status> {
    let request = Q::decode(payload)
        .map_err(|error| Status::invalid_argument(format!("the arguments cannot be decoded: {error}")))?;
    Ok(method(request)?.encode_to_vec().into())
}
