//! The binary form of every type: a tag byte for the variant, then its fields in order of declaration.
//!
//! Tags are part of the log's format: a tag keeps its meaning for ever, new variants take new tags.

use bytes::Bytes;
use raft_core::core::NodeId;

use super::backend::{KvError, Refusal, Request, Response};
use super::codec::{DecodeError, Reader, put_bytes, put_optional, put_signed, put_varint};
use super::read::{MAX_SCAN_KEYS, Read, ReadOutcome, ScanPage};
use super::write::{
    Command, CommandError, Condition, MAX_KEY_BYTES, MAX_KEYS_PER_COMMAND, MAX_VALUE_BYTES, Outcome, Session,
    Write,
};

/// Longest message of an error, in bytes.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

fn take_key(reader: &mut Reader) -> Result<Bytes, DecodeError> {
    reader.bytes("key", MAX_KEY_BYTES)
}

fn take_value(reader: &mut Reader) -> Result<Bytes, DecodeError> {
    reader.bytes("value", MAX_VALUE_BYTES)
}

fn take_optional_value(reader: &mut Reader) -> Result<Option<Bytes>, DecodeError> {
    reader.optional("value", MAX_VALUE_BYTES)
}

fn put_keys(out: &mut Vec<u8>, keys: &[Bytes]) {
    put_varint(out, keys.len() as u64);
    for key in keys {
        put_bytes(out, key);
    }
}

fn take_keys(reader: &mut Reader) -> Result<Vec<Bytes>, DecodeError> {
    reader.list(MAX_KEYS_PER_COMMAND, take_key)
}

/// Cuts a message to what a decoder accepts, at a character boundary.
fn put_message(out: &mut Vec<u8>, message: &str) {
    put_bytes(out, &message.as_bytes()[..message.floor_char_boundary(MAX_MESSAGE_BYTES)]);
}

impl Command {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self.session {
            None => out.push(0),
            Some(Session { client_id, sequence }) => {
                out.push(1);
                out.extend_from_slice(&client_id.to_be_bytes());
                put_varint(out, sequence);
            }
        }
        self.write.put(out);
    }

    pub(crate) fn take(reader: &mut Reader) -> Result<Command, DecodeError> {
        let session = match reader.flag()? {
            false => None,
            true => Some(Session { client_id: reader.wide()?, sequence: reader.varint()? }),
        };
        Ok(Command { session, write: Write::take(reader)? })
    }
}

impl Write {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Write::Put { key, value } => {
                out.push(1);
                put_bytes(out, key);
                put_bytes(out, value);
            }
            Write::Append { key, value } => {
                out.push(2);
                put_bytes(out, key);
                put_bytes(out, value);
            }
            Write::Delete { keys } => {
                out.push(3);
                put_keys(out, keys);
            }
            Write::CompareAndSwap { key, expected, value } => {
                out.push(4);
                put_bytes(out, key);
                put_optional(out, expected.as_ref());
                put_bytes(out, value);
            }
            Write::PutIf { key, value, condition, return_old } => {
                out.push(5);
                put_bytes(out, key);
                put_bytes(out, value);
                out.push(condition.tag());
                out.push(u8::from(*return_old));
            }
            Write::Increment { key, delta } => {
                out.push(6);
                put_bytes(out, key);
                put_signed(out, *delta);
            }
            Write::PutMany { pairs, condition } => {
                out.push(7);
                put_varint(out, pairs.len() as u64);
                for (key, value) in pairs {
                    put_bytes(out, key);
                    put_bytes(out, value);
                }
                out.push(condition.tag());
            }
            Write::Take { key } => {
                out.push(8);
                put_bytes(out, key);
            }
            Write::OpenSession => out.push(9),
        }
    }

    fn take(reader: &mut Reader) -> Result<Write, DecodeError> {
        Ok(match reader.byte()? {
            1 => Write::Put { key: take_key(reader)?, value: take_value(reader)? },
            2 => Write::Append { key: take_key(reader)?, value: take_value(reader)? },
            3 => Write::Delete { keys: take_keys(reader)? },
            4 => Write::CompareAndSwap {
                key: take_key(reader)?,
                expected: take_optional_value(reader)?,
                value: take_value(reader)?,
            },
            5 => Write::PutIf {
                key: take_key(reader)?,
                value: take_value(reader)?,
                condition: Condition::take(reader)?,
                return_old: reader.flag()?,
            },
            6 => Write::Increment { key: take_key(reader)?, delta: reader.signed()? },
            7 => Write::PutMany {
                pairs: reader
                    .list(MAX_KEYS_PER_COMMAND, |reader| Ok((take_key(reader)?, take_value(reader)?)))?,
                condition: Condition::take(reader)?,
            },
            8 => Write::Take { key: take_key(reader)? },
            9 => Write::OpenSession,
            tag => return Err(DecodeError::Tag { what: "write", tag }),
        })
    }
}

impl Condition {
    fn tag(self) -> u8 {
        match self {
            Condition::Always => 0,
            Condition::IfAbsent => 1,
            Condition::IfPresent => 2,
        }
    }

    fn take(reader: &mut Reader) -> Result<Condition, DecodeError> {
        Ok(match reader.byte()? {
            0 => Condition::Always,
            1 => Condition::IfAbsent,
            2 => Condition::IfPresent,
            tag => return Err(DecodeError::Tag { what: "condition", tag }),
        })
    }
}

impl Outcome {
    /// Bytes of values it carries: what it weighs in the session table.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Outcome::Swapped { current: value, .. } | Outcome::Stored { previous: value, .. } => {
                value.as_ref().map_or(0, Bytes::len)
            }
            _ => 0,
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Outcome::Done { revision } => {
                out.push(1);
                put_varint(out, *revision);
            }
            Outcome::Length(length) => {
                out.push(2);
                put_varint(out, *length);
            }
            Outcome::Count(count) => {
                out.push(3);
                put_varint(out, *count);
            }
            Outcome::Integer(value) => {
                out.push(4);
                put_signed(out, *value);
            }
            Outcome::Swapped { swapped, current } => {
                out.push(5);
                out.push(u8::from(*swapped));
                put_optional(out, current.as_ref());
            }
            Outcome::Stored { stored, previous } => {
                out.push(6);
                out.push(u8::from(*stored));
                put_optional(out, previous.as_ref());
            }
            Outcome::Failed(error) => {
                out.push(7);
                out.push(error.tag());
            }
        }
    }

    pub(crate) fn take(reader: &mut Reader) -> Result<Outcome, DecodeError> {
        Ok(match reader.byte()? {
            1 => Outcome::Done { revision: reader.varint()? },
            2 => Outcome::Length(reader.varint()?),
            3 => Outcome::Count(reader.varint()?),
            4 => Outcome::Integer(reader.signed()?),
            5 => Outcome::Swapped { swapped: reader.flag()?, current: take_optional_value(reader)? },
            6 => Outcome::Stored { stored: reader.flag()?, previous: take_optional_value(reader)? },
            7 => Outcome::Failed(CommandError::take(reader)?),
            tag => return Err(DecodeError::Tag { what: "outcome", tag }),
        })
    }
}

impl CommandError {
    fn tag(self) -> u8 {
        match self {
            CommandError::NotAnInteger => 1,
            CommandError::Overflow => 2,
            CommandError::KeyTooLarge => 3,
            CommandError::ValueTooLarge => 4,
            CommandError::TooManyKeys => 5,
            CommandError::CommandTooLarge => 6,
            CommandError::UnknownSession => 7,
            CommandError::StaleSequence => 8,
            CommandError::Malformed => 9,
        }
    }

    fn take(reader: &mut Reader) -> Result<CommandError, DecodeError> {
        Ok(match reader.byte()? {
            1 => CommandError::NotAnInteger,
            2 => CommandError::Overflow,
            3 => CommandError::KeyTooLarge,
            4 => CommandError::ValueTooLarge,
            5 => CommandError::TooManyKeys,
            6 => CommandError::CommandTooLarge,
            7 => CommandError::UnknownSession,
            8 => CommandError::StaleSequence,
            9 => CommandError::Malformed,
            tag => return Err(DecodeError::Tag { what: "command error", tag }),
        })
    }
}

impl Read {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Read::Get { key } => {
                out.push(1);
                put_bytes(out, key);
            }
            Read::MultiGet { keys } => {
                out.push(2);
                put_keys(out, keys);
            }
            Read::Exists { keys } => {
                out.push(3);
                put_keys(out, keys);
            }
            Read::Length { key } => {
                out.push(4);
                put_bytes(out, key);
            }
            Read::Count => out.push(5),
            Read::Scan { after, prefix, limit, values } => {
                out.push(6);
                put_optional(out, after.as_ref());
                put_bytes(out, prefix);
                put_varint(out, u64::from(*limit));
                out.push(u8::from(*values));
            }
        }
    }

    fn take(reader: &mut Reader) -> Result<Read, DecodeError> {
        Ok(match reader.byte()? {
            1 => Read::Get { key: take_key(reader)? },
            2 => Read::MultiGet { keys: take_keys(reader)? },
            3 => Read::Exists { keys: take_keys(reader)? },
            4 => Read::Length { key: take_key(reader)? },
            5 => Read::Count,
            6 => Read::Scan {
                after: reader.optional("key", MAX_KEY_BYTES)?,
                prefix: take_key(reader)?,
                limit: {
                    let value = reader.varint()?;
                    u32::try_from(value).map_err(|_| DecodeError::TooLarge {
                        what: "scan limit",
                        value,
                        limit: u64::from(u32::MAX),
                    })?
                },
                values: reader.flag()?,
            },
            tag => return Err(DecodeError::Tag { what: "read", tag }),
        })
    }
}

impl ReadOutcome {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            ReadOutcome::Value(value) => {
                out.push(1);
                put_optional(out, value.as_ref());
            }
            ReadOutcome::Values(values) => {
                out.push(2);
                put_varint(out, values.len() as u64);
                for value in values {
                    put_optional(out, value.as_ref());
                }
            }
            ReadOutcome::Count(count) => {
                out.push(3);
                put_varint(out, *count);
            }
            ReadOutcome::Length(length) => {
                out.push(4);
                put_varint(out, *length);
            }
            ReadOutcome::Page(page) => {
                out.push(5);
                put_varint(out, page.entries.len() as u64);
                for (key, value) in &page.entries {
                    put_bytes(out, key);
                    put_optional(out, value.as_ref());
                }
                out.push(u8::from(page.more));
            }
        }
    }

    fn take(reader: &mut Reader) -> Result<ReadOutcome, DecodeError> {
        Ok(match reader.byte()? {
            1 => ReadOutcome::Value(take_optional_value(reader)?),
            2 => ReadOutcome::Values(reader.list(MAX_KEYS_PER_COMMAND, take_optional_value)?),
            3 => ReadOutcome::Count(reader.varint()?),
            4 => ReadOutcome::Length(reader.varint()?),
            5 => ReadOutcome::Page(ScanPage {
                entries: reader.list(MAX_SCAN_KEYS as usize, |reader| {
                    Ok((take_key(reader)?, take_optional_value(reader)?))
                })?,
                more: reader.flag()?,
            }),
            tag => return Err(DecodeError::Tag { what: "read outcome", tag }),
        })
    }
}

impl Request {
    /// Sum of the lengths of keys and values, for sizing buffers and queues.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Request::Write(command) => command.write.payload_bytes(),
            Request::Read(Read::Get { key } | Read::Length { key }) => key.len(),
            Request::Read(Read::MultiGet { keys } | Read::Exists { keys }) => {
                keys.iter().map(|key| key.len() + 3).sum()
            }
            Request::Read(Read::Count) => 0,
            Request::Read(Read::Scan { after, prefix, .. }) => {
                prefix.len() + after.as_ref().map_or(0, Bytes::len)
            }
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Request::Write(command) => {
                out.push(1);
                command.put(out);
            }
            Request::Read(read) => {
                out.push(2);
                read.put(out);
            }
        }
    }

    pub(super) fn take(reader: &mut Reader) -> Result<Request, DecodeError> {
        Ok(match reader.byte()? {
            1 => Request::Write(Command::take(reader)?),
            2 => Request::Read(Read::take(reader)?),
            tag => return Err(DecodeError::Tag { what: "request", tag }),
        })
    }
}

impl Refusal {
    fn tag(self) -> u8 {
        match self {
            Refusal::NoLeader => 1,
            Refusal::NotLeader => 2,
            Refusal::LeaderUnreachable => 3,
            Refusal::Overloaded => 4,
            Refusal::Transferring => 5,
            Refusal::Starting => 6,
            Refusal::Stopping => 7,
            Refusal::DeadlineExceeded => 8,
            Refusal::Skipped => 9,
        }
    }

    fn take(reader: &mut Reader) -> Result<Refusal, DecodeError> {
        Ok(match reader.byte()? {
            1 => Refusal::NoLeader,
            2 => Refusal::NotLeader,
            3 => Refusal::LeaderUnreachable,
            4 => Refusal::Overloaded,
            5 => Refusal::Transferring,
            6 => Refusal::Starting,
            7 => Refusal::Stopping,
            8 => Refusal::DeadlineExceeded,
            9 => Refusal::Skipped,
            tag => return Err(DecodeError::Tag { what: "refusal", tag }),
        })
    }
}

pub(super) fn put_answer(out: &mut Vec<u8>, answer: &Result<Response, KvError>) {
    match answer {
        Ok(Response::Written(outcome)) => {
            out.push(1);
            outcome.put(out);
        }
        Ok(Response::Read(outcome)) => {
            out.push(2);
            outcome.put(out);
        }
        Err(KvError::NotAppended { reason, leader }) => {
            out.push(3);
            out.push(reason.tag());
            match leader {
                None => out.push(0),
                Some(NodeId(id)) => {
                    out.push(1);
                    put_varint(out, *id);
                }
            }
        }
        Err(KvError::OutcomeUnknown { reason }) => {
            out.push(4);
            put_message(out, reason);
        }
        Err(KvError::Invalid { message }) => {
            out.push(5);
            put_message(out, message);
        }
    }
}

pub(super) fn take_answer(reader: &mut Reader) -> Result<Result<Response, KvError>, DecodeError> {
    Ok(match reader.byte()? {
        1 => Ok(Response::Written(Outcome::take(reader)?)),
        2 => Ok(Response::Read(ReadOutcome::take(reader)?)),
        3 => Err(KvError::NotAppended {
            reason: Refusal::take(reader)?,
            leader: if reader.flag()? { Some(NodeId(reader.varint()?)) } else { None },
        }),
        4 => Err(KvError::OutcomeUnknown { reason: reader.text("message", MAX_MESSAGE_BYTES)? }),
        5 => Err(KvError::Invalid { message: reader.text("message", MAX_MESSAGE_BYTES)? }),
        tag => return Err(DecodeError::Tag { what: "answer", tag }),
    })
}
