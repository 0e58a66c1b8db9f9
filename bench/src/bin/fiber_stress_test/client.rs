//! One client: its loop, what it knows of its keys, and what it met.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use fiber_runtime::time;
use kvserver::clerk::{Clerk, ClerkError};
use moon_bench::latency::Latencies;
use moon_bench::random::Random;

use super::{Arguments, Mode, Progress};

/// What operations ended as.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) puts: Latencies,
    pub(crate) gets: Latencies,
    pub(crate) appends: Latencies,
    /// Certainly had no effect.
    pub(crate) not_sent: u64,
    /// May have had their effect.
    pub(crate) unknown: u64,
    /// The cluster refused.
    pub(crate) rejected: u64,
    /// Gets that returned a value that cannot be there.
    pub(crate) wrong: u64,
    /// Fibers that could not even put their keys.
    pub(crate) unprepared: u64,
    pub(crate) first_error: Option<String>,
}

impl Tally {
    pub(crate) fn merge(&mut self, other: &Tally) {
        self.puts.merge(&other.puts);
        self.gets.merge(&other.gets);
        self.appends.merge(&other.appends);
        self.not_sent += other.not_sent;
        self.unknown += other.unknown;
        self.rejected += other.rejected;
        self.wrong += other.wrong;
        self.unprepared += other.unprepared;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }

    pub(crate) fn note_preparation(&mut self, error: ClerkError) {
        self.unprepared += 1;
        self.first_error.get_or_insert(error.to_string());
    }

    fn note_error(&mut self, error: &ClerkError) {
        match error {
            ClerkError::NotAppended { .. } => self.not_sent += 1,
            ClerkError::OutcomeUnknown { .. } => self.unknown += 1,
            ClerkError::Rejected(_) | ClerkError::Invalid { .. } => self.rejected += 1,
        }
        self.first_error.get_or_insert(error.to_string());
    }
}

/// What the one writer of a key knows of it. A write is known by its number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Acknowledged writes: of puts the last one, of appends all in their order.
    acknowledged: Vec<u64>,
    /// Writes that may have happened, or may still.
    unknown: Vec<u64>,
}

impl Known {
    fn put(&mut self, number: u64) {
        self.acknowledged.clear();
        self.acknowledged.push(number);
    }

    fn append(&mut self, number: u64) {
        self.acknowledged.push(number);
    }

    /// How many acknowledged writes are missing from a value; a value that cannot be there is all of them.
    ///
    /// After puts the value is the last acknowledged one, or one whose outcome is unknown. After appends it holds every
    /// acknowledged piece once and in order, with unknown ones anywhere between, each at most once.
    pub(crate) fn missing(&self, found: &[u64]) -> u64 {
        let known = found.iter().filter(|number| self.acknowledged.contains(number));
        let strange = found.iter().enumerate().any(|(place, number)| {
            found[..place].contains(number)
                || !(self.acknowledged.contains(number) || self.unknown.contains(number))
        });
        if strange || !known.clone().is_sorted() {
            return self.acknowledged.len().max(1) as u64;
        }
        // A put of unknown outcome may have come last and replaced everything.
        let replaced = self.acknowledged.len() == 1 && found.len() == 1 && self.unknown.contains(&found[0]);
        if replaced { 0 } else { (self.acknowledged.len() - known.count()) as u64 }
    }
}

/// One fiber's client.
pub(crate) struct Client {
    number: u64,
    clerk: Clerk,
    arguments: Arc<Arguments>,
    random: Random,
    keys: Vec<Known>,
    /// Number of the last write.
    last: u64,
    pub(crate) tally: Tally,
}

impl Client {
    pub(crate) fn new(number: u64, clerk: Clerk, arguments: Arc<Arguments>) -> Client {
        let keys = (arguments.keys / arguments.fibers).max(1) as usize;
        Client {
            number,
            clerk,
            random: Random::new(number + 1),
            keys: vec![Known::default(); keys],
            last: 0,
            tally: Tally::default(),
            arguments,
        }
    }

    /// Puts every key once, so that its value is known.
    pub(crate) fn prepare(&mut self) -> Result<(), ClerkError> {
        for index in 0..self.keys.len() {
            self.last += 1;
            let number = self.last;
            self.clerk.put(self.key(index), self.value(number))?;
            self.keys[index].put(number);
        }
        Ok(())
    }

    /// The measured operations.
    pub(crate) fn run(&mut self, progress: &Progress) {
        for _ in 0..self.arguments.ops_per_fiber {
            let index = self.random.below(self.keys.len() as u64) as usize;
            let done = match self.arguments.mode {
                Mode::Put => self.put(index),
                Mode::Get => self.get(index),
                Mode::Append => self.append(index),
                Mode::Mixed if self.random.chance(self.arguments.put_ratio) => self.put(index),
                Mode::Mixed => self.get(index),
            };
            let counter = if done { &progress.done } else { &progress.failed };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn put(&mut self, index: usize) -> bool {
        self.last += 1;
        let (key, number) = (self.key(index), self.last);
        let value = self.value(number);
        let start = time::now();
        match self.clerk.put(key, value) {
            Ok(_) => {
                self.tally.puts.record(time::now() - start);
                self.keys[index].put(number);
                true
            }
            Err(error) => self.fail(index, number, &error),
        }
    }

    fn append(&mut self, index: usize) -> bool {
        self.last += 1;
        let (key, number) = (self.key(index), self.last);
        let value = self.value(number);
        let start = time::now();
        match self.clerk.append(key, value) {
            Ok(_) => {
                self.tally.appends.record(time::now() - start);
                self.keys[index].append(number);
                true
            }
            Err(error) => self.fail(index, number, &error),
        }
    }

    fn get(&mut self, index: usize) -> bool {
        let key = self.key(index);
        let start = time::now();
        match self.clerk.get(key) {
            Ok(value) => {
                let took = time::now() - start;
                let missing = self.keys[index].missing(&self.numbers(value.as_ref()));
                if missing > 0 {
                    self.tally.wrong += 1;
                    let key = String::from_utf8_lossy(&self.key(index)).into_owned();
                    self.tally.first_error.get_or_insert(format!("get {key}: not what was acknowledged"));
                    return false;
                }
                self.tally.gets.record(took);
                true
            }
            Err(error) => {
                self.tally.note_error(&error);
                false
            }
        }
    }

    fn fail(&mut self, index: usize, number: u64, error: &ClerkError) -> bool {
        if matches!(error, ClerkError::OutcomeUnknown { .. }) {
            self.keys[index].unknown.push(number);
        }
        self.tally.note_error(error);
        false
    }

    /// Reads back every key; gives how many acknowledged writes are missing.
    pub(crate) fn count_lost(&mut self) -> Result<u64, ClerkError> {
        let mut lost = 0;
        for index in 0..self.keys.len() {
            let value = self.clerk.get(self.key(index))?;
            lost += self.keys[index].missing(&self.numbers(value.as_ref()));
        }
        Ok(lost)
    }

    fn key(&self, index: usize) -> Bytes {
        Bytes::from(format!("stress:{}:{index}", self.number))
    }

    /// A value, or a piece of one: the number of its write, then filler.
    fn value(&self, number: u64) -> Bytes {
        let mut text = format!("{number:020}:");
        text.extend(std::iter::repeat_n('x', self.arguments.value_bytes as usize - text.len()));
        Bytes::from(text)
    }

    /// The numbers of the writes that a value is made of; 0, which no write has, for what cannot be read.
    fn numbers(&self, value: Option<&Bytes>) -> Vec<u64> {
        let Some(value) = value else { return Vec::new() };
        value
            .chunks(self.arguments.value_bytes as usize)
            .map(|piece| {
                let digits = piece.get(..20).and_then(|digits| std::str::from_utf8(digits).ok());
                digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(acknowledged: &[u64], unknown: &[u64]) -> Known {
        Known { acknowledged: acknowledged.to_vec(), unknown: unknown.to_vec() }
    }

    #[test]
    fn a_put_value_is_the_last_acknowledged_or_an_unknown_one() {
        assert_eq!(known(&[5], &[]).missing(&[5]), 0);
        assert_eq!(known(&[5], &[]).missing(&[4]), 1, "an older value is a lost write");
        assert_eq!(known(&[5], &[]).missing(&[]), 1);
        assert_eq!(known(&[5], &[3, 6]).missing(&[6]), 0);
        assert_eq!(known(&[5], &[3, 6]).missing(&[3]), 0);
    }

    #[test]
    fn appended_pieces_are_all_there_once_and_in_order() {
        let pieces = known(&[1, 2, 4], &[3]);
        assert_eq!(pieces.missing(&[1, 2, 4]), 0);
        assert_eq!(pieces.missing(&[1, 2, 3, 4]), 0);
        assert_eq!(pieces.missing(&[1, 2, 4, 3]), 0);
        assert_eq!(pieces.missing(&[1, 4]), 1);
        assert_eq!(pieces.missing(&[3]), 3);
        assert_eq!(pieces.missing(&[2, 1, 4]), 3, "out of order");
        assert_eq!(pieces.missing(&[1, 2, 2, 4]), 3, "applied twice");
        assert_eq!(pieces.missing(&[1, 2, 4, 9]), 3, "never written");
    }
}
