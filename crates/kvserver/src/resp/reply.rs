//! Answers of the node to replies of the protocol.

use bytes::Bytes;

use super::cursor::Cursors;
use super::encode::{Output, Version};
use super::glob;
use crate::command::{KvError, Outcome, ReadOutcome, Refusal, Response, ScanPage};

/// What a command makes of the node's answer.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// `OK`, whatever was done.
    Ok,
    /// `OK`, or null if the condition did not hold.
    OkIfStored,
    /// 1 or 0: whether it took place.
    Flag,
    /// The value before.
    Previous,
    /// A length or a number.
    Number,
    /// A value.
    Value,
    /// Several values.
    Values,
    /// A part of a value, offsets from the end when negative.
    Range { start: i64, end: i64 },
    /// `string` or `none`.
    Type,
    /// Time to live: -1 for a key that is there, -2 for one that is not.
    Forever,
    /// A cursor and keys; none of them if other types than strings were asked for.
    Scan { pattern: Option<Bytes>, strings: bool },
    /// All keys, or an error if they do not fit on one page.
    Keys { pattern: Bytes },
}

/// Appends the reply to one request.
pub(super) fn encode(
    out: &mut Output,
    version: Version,
    shape: &Shape,
    answer: &Result<Response, KvError>,
    cursors: &Cursors,
) {
    let response = match answer {
        Ok(response) => response,
        Err(error) => return out.error(&error_text(error)),
    };
    match response {
        Response::Written(outcome) => encode_outcome(out, version, shape, outcome),
        Response::Read(outcome) => encode_read(out, version, shape, outcome, cursors),
    }
}

fn encode_outcome(out: &mut Output, version: Version, shape: &Shape, outcome: &Outcome) {
    match (outcome, shape) {
        (Outcome::Failed(error), _) => out.error(&format!("ERR {error}")),
        (Outcome::Done { .. }, _) | (Outcome::Stored { .. }, Shape::Ok) => out.ok(),
        (Outcome::Length(number) | Outcome::Count(number), _) => out.count(*number),
        (Outcome::Integer(number), _) => out.integer(*number),
        (Outcome::Stored { previous, .. }, Shape::Previous) => value(out, version, previous.as_ref()),
        (Outcome::Stored { stored, .. }, Shape::OkIfStored)
        | (Outcome::Swapped { swapped: stored, .. }, Shape::OkIfStored) => {
            if *stored {
                out.ok();
            } else {
                out.null(version);
            }
        }
        (Outcome::Stored { stored, .. } | Outcome::Swapped { swapped: stored, .. }, _) => {
            out.integer(i64::from(*stored));
        }
    }
}

fn encode_read(out: &mut Output, version: Version, shape: &Shape, outcome: &ReadOutcome, cursors: &Cursors) {
    match (outcome, shape) {
        (ReadOutcome::Value(found), Shape::Range { start, end }) => {
            let found = found.clone().unwrap_or_default();
            out.value(&found.slice(range(found.len(), *start, *end)));
        }
        (ReadOutcome::Value(found), _) => value(out, version, found.as_ref()),
        (ReadOutcome::Values(found), _) => {
            out.array(found.len());
            found.iter().for_each(|found| value(out, version, found.as_ref()));
        }
        (ReadOutcome::Count(number), Shape::Type) => out.simple(if *number > 0 { "string" } else { "none" }),
        (ReadOutcome::Count(number), Shape::Forever) => out.integer(if *number > 0 { -1 } else { -2 }),
        (ReadOutcome::Count(number) | ReadOutcome::Length(number), _) => out.count(*number),
        (ReadOutcome::Page(page), Shape::Keys { pattern }) => {
            if page.more {
                return out.error("ERR KEYS would look at too many keys, use SCAN");
            }
            keys(out, page, Some(pattern));
        }
        (ReadOutcome::Page(page), shape) => {
            let (pattern, strings) = match shape {
                Shape::Scan { pattern, strings } => (pattern.as_ref(), *strings),
                _ => (None, true),
            };
            let cursor = match page.entries.last() {
                Some((last, _)) if page.more => cursors.keep(last.clone()),
                _ => 0,
            };
            out.array(2);
            out.bulk(cursor.to_string().as_bytes());
            if strings {
                keys(out, page, pattern);
            } else {
                out.array(0);
            }
        }
    }
}

fn value(out: &mut Output, version: Version, value: Option<&Bytes>) {
    match value {
        Some(value) => out.value(value),
        None => out.null(version),
    }
}

fn keys(out: &mut Output, page: &ScanPage, pattern: Option<&Bytes>) {
    let chosen: Vec<&Bytes> = page
        .entries
        .iter()
        .map(|(key, _)| key)
        .filter(|key| pattern.is_none_or(|pattern| glob::matches(pattern, key)))
        .collect();
    out.array(chosen.len());
    chosen.into_iter().for_each(|key| out.value(key));
}

/// `GETRANGE`'s offsets as Redis reads them: both ends count, negative ones from the end, beyond is cut.
fn range(length: usize, start: i64, end: i64) -> std::ops::Range<usize> {
    let length = length as i64;
    let absolute = |offset: i64| if offset < 0 { (length.saturating_add(offset)).max(0) } else { offset };
    let (first, last) = (absolute(start), absolute(end).min(length - 1));
    if first > last || (start < 0 && end < 0 && start > end) {
        return 0..0;
    }
    first as usize..last as usize + 1
}

/// The error line of a request without an answer.
///
/// The code decides what clients do next. They repeat a command that was answered with `CLUSTERDOWN`,
/// `TRYAGAIN` or `LOADING`, so these stand for commands that were not appended and for nothing else. A command whose fate
/// is unknown gets a code that no client acts upon.
pub(super) fn error_text(error: &KvError) -> String {
    match error {
        KvError::NotAppended { reason, .. } => {
            let code = match reason {
                Refusal::Starting => "LOADING",
                Refusal::NoLeader | Refusal::NotLeader | Refusal::LeaderUnreachable | Refusal::Stopping => {
                    "CLUSTERDOWN"
                }
                Refusal::Overloaded
                | Refusal::Transferring
                | Refusal::DeadlineExceeded
                | Refusal::Skipped => "TRYAGAIN",
            };
            format!("{code} {reason}")
        }
        KvError::OutcomeUnknown { reason } => format!("UNKNOWN outcome unknown: {reason}"),
        KvError::Invalid { message } => format!("ERR {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_cut_as_in_redis() {
        let text = b"This is a string";
        for (start, end, expected) in [
            (0, 3, "This"),
            (-3, -1, "ing"),
            (0, -1, "This is a string"),
            (10, 100, "string"),
            (5, 3, ""),
            (100, 200, ""),
            (-100, 3, "This"),
            (-1, -3, ""),
            (i64::MIN, i64::MAX, "This is a string"),
        ] {
            assert_eq!(&text[range(text.len(), start, end)], expected.as_bytes(), "{start} {end}");
        }
        assert_eq!(range(0, 0, -1), 0..0);
    }

    #[test]
    fn only_commands_that_were_not_appended_get_a_code_that_clients_retry() {
        let retried = ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY"];
        let unknown = KvError::OutcomeUnknown { reason: "leader changed".into() };
        assert_eq!(error_text(&unknown), "UNKNOWN outcome unknown: leader changed");
        let invalid = KvError::Invalid { message: "no".into() };
        for error in [unknown, invalid] {
            assert!(!retried.iter().any(|code| error_text(&error).starts_with(code)), "{error:?}");
        }
        assert_eq!(error_text(&KvError::refused(Refusal::NoLeader)), "CLUSTERDOWN no leader");
        assert_eq!(error_text(&KvError::refused(Refusal::Overloaded)), "TRYAGAIN overloaded");
        assert_eq!(error_text(&KvError::refused(Refusal::Starting)), "LOADING node is starting");
    }
}
