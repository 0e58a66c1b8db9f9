//! Commands on keys: from words to [`Read`]s and [`Write`]s.
//!
//! Each function gives the request for the node and the shape of the reply, or an error in Redis' words. Arity has been
//! checked before.

use bytes::Bytes;

use super::decode::Arguments;
use super::glob;
use super::local::Context;
use super::reply::Shape;
use super::table::Planned;
use crate::command::read::MAX_SCAN_KEYS;
use crate::command::{Condition, Read, Write};

const SYNTAX: &str = "ERR syntax error";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

type Reading = Planned<Read>;
type Writing = Planned<Write>;

pub(super) fn get(_: &Context<'_>, words: Arguments<'_>) -> Reading {
    Ok((Read::Get { key: words.bytes(1) }, Shape::Value))
}

pub(super) fn strlen(_: &Context<'_>, words: Arguments<'_>) -> Reading {
    Ok((Read::Length { key: words.bytes(1) }, Shape::Number))
}

pub(super) fn getrange(_: &Context<'_>, words: Arguments<'_>) -> Reading {
    let (start, end) = (integer(words.get(2))?, integer(words.get(3))?);
    Ok((Read::Get { key: words.bytes(1) }, Shape::Range { start, end }))
}

pub(super) fn mget(_: &Context<'_>, words: Arguments<'_>) -> Reading {
    Ok((Read::MultiGet { keys: all_keys(words) }, Shape::Values))
}

pub(super) fn exists(_: &Context<'_>, words: Arguments<'_>) -> Reading {
    Ok((Read::Exists { keys: all_keys(words) }, Shape::Number))
}

pub(super) fn kind(_: &Context<'_>, words: Arguments<'_>) -> Reading {
    Ok((Read::Exists { keys: all_keys(words) }, Shape::Type))
}

pub(super) fn ttl(_: &Context<'_>, words: Arguments<'_>) -> Reading {
    Ok((Read::Exists { keys: all_keys(words) }, Shape::Forever))
}

pub(super) fn dbsize(_: &Context<'_>, _: Arguments<'_>) -> Reading {
    Ok((Read::Count, Shape::Number))
}

pub(super) fn keys(_: &Context<'_>, words: Arguments<'_>) -> Reading {
    let pattern = words.bytes(1);
    let prefix = Bytes::from(glob::literal_prefix(&pattern));
    let read = Read::Scan { after: None, prefix, limit: MAX_SCAN_KEYS, values: false };
    Ok((read, Shape::Keys { pattern }))
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
pub(super) fn scan(context: &Context<'_>, words: Arguments<'_>) -> Reading {
    let cursor = text(words.get(1)).and_then(|text| text.parse::<u64>().ok()).ok_or("ERR invalid cursor")?;
    let mut pattern = None;
    let mut limit = 10;
    let mut strings = true;
    let mut options = Options::new(words, 2);
    while let Some(option) = options.next() {
        if option.is("match") {
            pattern = Some(words.bytes(options.value()?));
        } else if option.is("count") {
            let count = integer(words.get(options.value()?))?;
            limit = u32::try_from(count).ok().filter(|&count| count > 0).ok_or(SYNTAX)?;
        } else if option.is("type") {
            strings = words.get(options.value()?).eq_ignore_ascii_case(b"string");
        } else {
            return Err(SYNTAX.into());
        }
    }
    let after = match cursor {
        0 => None,
        cursor => Some(context.door.cursors.find(cursor).ok_or("ERR invalid cursor")?),
    };
    let prefix =
        pattern.as_ref().map(|pattern| Bytes::from(glob::literal_prefix(pattern))).unwrap_or_default();
    let read = Read::Scan { after, prefix, limit: limit.min(MAX_SCAN_KEYS), values: false };
    Ok((read, Shape::Scan { pattern, strings }))
}

/// `SET key value [NX | XX | IFEQ expected] [GET] [KEEPTTL]`; IFEQ is Valkey's.
pub(super) fn set(words: Arguments<'_>) -> Writing {
    let (key, value) = (words.bytes(1), words.bytes(2));
    if words.len() == 3 {
        return Ok((Write::Put { key, value }, Shape::Ok));
    }
    let mut condition = Condition::Always;
    let mut expected = None;
    let mut return_old = false;
    let mut options = Options::new(words, 3);
    while let Some(option) = options.next() {
        let free = condition == Condition::Always && expected.is_none();
        if option.is("nx") && (free || condition == Condition::IfAbsent) {
            condition = Condition::IfAbsent;
        } else if option.is("xx") && (free || condition == Condition::IfPresent) {
            condition = Condition::IfPresent;
        } else if option.is("ifeq") && free {
            expected = Some(words.bytes(options.value()?));
        } else if option.is("get") {
            return_old = true;
        } else if option.is("keepttl") {
            // Without expiry there is nothing to keep.
        } else if ["ex", "px", "exat", "pxat"].iter().any(|name| option.is(name)) {
            return Err("ERR keys do not expire: EX, PX, EXAT and PXAT are not supported".into());
        } else {
            return Err(SYNTAX.into());
        }
    }
    match (expected, return_old) {
        (Some(_), true) => Err("ERR IFEQ cannot be combined with GET".into()),
        (expected @ Some(_), false) => {
            Ok((Write::CompareAndSwap { key, expected, value }, Shape::OkIfStored))
        }
        (None, true) => Ok((Write::PutIf { key, value, condition, return_old }, Shape::Previous)),
        (None, false) => Ok((Write::PutIf { key, value, condition, return_old }, Shape::OkIfStored)),
    }
}

pub(super) fn setnx(words: Arguments<'_>) -> Writing {
    let (key, value) = (words.bytes(1), words.bytes(2));
    Ok((Write::PutIf { key, value, condition: Condition::IfAbsent, return_old: false }, Shape::Flag))
}

pub(super) fn getset(words: Arguments<'_>) -> Writing {
    let (key, value) = (words.bytes(1), words.bytes(2));
    Ok((Write::PutIf { key, value, condition: Condition::Always, return_old: true }, Shape::Previous))
}

pub(super) fn getdel(words: Arguments<'_>) -> Writing {
    Ok((Write::Take { key: words.bytes(1) }, Shape::Previous))
}

pub(super) fn append(words: Arguments<'_>) -> Writing {
    Ok((Write::Append { key: words.bytes(1), value: words.bytes(2) }, Shape::Number))
}

pub(super) fn mset(words: Arguments<'_>) -> Writing {
    Ok((Write::PutMany { pairs: pairs("mset", words)?, condition: Condition::Always }, Shape::Ok))
}

pub(super) fn msetnx(words: Arguments<'_>) -> Writing {
    Ok((Write::PutMany { pairs: pairs("msetnx", words)?, condition: Condition::IfAbsent }, Shape::Flag))
}

pub(super) fn incr(words: Arguments<'_>) -> Writing {
    Ok((Write::Increment { key: words.bytes(1), delta: 1 }, Shape::Number))
}

pub(super) fn decr(words: Arguments<'_>) -> Writing {
    Ok((Write::Increment { key: words.bytes(1), delta: -1 }, Shape::Number))
}

pub(super) fn incrby(words: Arguments<'_>) -> Writing {
    Ok((Write::Increment { key: words.bytes(1), delta: integer(words.get(2))? }, Shape::Number))
}

pub(super) fn decrby(words: Arguments<'_>) -> Writing {
    let delta = integer(words.get(2))?.checked_neg().ok_or("ERR decrement would overflow")?;
    Ok((Write::Increment { key: words.bytes(1), delta }, Shape::Number))
}

pub(super) fn cas(words: Arguments<'_>) -> Writing {
    let (key, expected, value) = (words.bytes(1), Some(words.bytes(2)), words.bytes(3));
    Ok((Write::CompareAndSwap { key, expected, value }, Shape::Flag))
}

pub(super) fn del(words: Arguments<'_>) -> Writing {
    Ok((Write::Delete { keys: all_keys(words) }, Shape::Number))
}

fn all_keys(words: Arguments<'_>) -> Vec<Bytes> {
    (1..words.len()).map(|index| words.bytes(index)).collect()
}

fn pairs(name: &str, words: Arguments<'_>) -> Result<Vec<(Bytes, Bytes)>, String> {
    if words.len().is_multiple_of(2) {
        return Err(format!("ERR wrong number of arguments for '{name}' command"));
    }
    Ok((1..words.len()).step_by(2).map(|index| (words.bytes(index), words.bytes(index + 1))).collect())
}

/// An integer as Redis reads it: no blanks, no `+`, no leading zeros.
pub(super) fn integer(word: &[u8]) -> Result<i64, String> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let canonical = match digits {
        [b'0'] => word.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return Err(NOT_AN_INTEGER.into());
    }
    text(word).and_then(|text| text.parse().ok()).ok_or_else(|| NOT_AN_INTEGER.into())
}

fn text(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok()
}

/// Walks over the options behind a command's fixed words.
struct Options<'a> {
    words: Arguments<'a>,
    next: usize,
}

struct Word<'a>(&'a [u8]);

impl Word<'_> {
    fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name.as_bytes())
    }
}

impl<'a> Options<'a> {
    fn new(words: Arguments<'a>, first: usize) -> Self {
        Options { words, next: first }
    }

    fn next(&mut self) -> Option<Word<'a>> {
        (self.next < self.words.len()).then(|| {
            self.next += 1;
            Word(self.words.get(self.next - 1))
        })
    }

    /// The place of the word that belongs to the option just read.
    fn value(&mut self) -> Result<usize, String> {
        if self.next >= self.words.len() {
            return Err(SYNTAX.into());
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        for (word, value) in [("0", 0), ("7", 7), ("-7", -7), ("-9223372036854775808", i64::MIN)] {
            assert_eq!(integer(word.as_bytes()), Ok(value));
        }
        for word in ["", "-", "+1", " 1", "1 ", "01", "-0", "1.0", "9223372036854775808", "a"] {
            assert!(integer(word.as_bytes()).is_err(), "{word:?}");
        }
    }
}
