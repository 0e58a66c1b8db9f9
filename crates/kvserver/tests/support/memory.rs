//! A backend that is one map in memory: what the doors need of a node, without a node.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use fiber_runtime::sync::Mutex;
use kvserver::command::{
    Backend, CommandError, Condition, KvError, Member, NodeStatus, Outcome, Read, ReadOutcome, Refusal,
    Request, Response, Role, ScanPage, Write,
};
use kvserver::metrics::{Registry, Text};

/// One map. Executes batches in order, one at a time.
#[derive(Default)]
pub(crate) struct Memory {
    map: Mutex<BTreeMap<Bytes, Bytes>>,
    /// Batches executed so far.
    pub(crate) batches: AtomicUsize,
    /// Requests executed so far.
    pub(crate) requests: AtomicUsize,
    /// What the doors count.
    pub(crate) registry: Registry,
    /// Answers every request as a node without a leader would.
    pub(crate) leaderless: AtomicBool,
}

impl Backend for Memory {
    fn execute(&self, batch: Vec<Request>, _: Instant) -> Vec<Result<Response, KvError>> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(batch.len(), Ordering::Relaxed);
        if self.leaderless.load(Ordering::Relaxed) {
            return batch.iter().map(|_| Err(KvError::refused(Refusal::NoLeader))).collect();
        }
        let mut map = self.map.lock();
        batch
            .into_iter()
            .map(|request| {
                Ok(match request {
                    Request::Write(command) => Response::Written(write(&mut map, command.write)),
                    Request::Read(Read::Get { key }) if &key[..] == b"fate:unknown" => {
                        return Err(KvError::OutcomeUnknown { reason: "the test wants it".into() });
                    }
                    Request::Read(read) => Response::Read(self::read(&map, read)),
                })
            })
            .collect()
    }

    fn status(&self) -> NodeStatus {
        let member = |id: u64| Member {
            id,
            rpc: format!("127.0.0.1:{}", 7000 + id),
            resp: format!("127.0.0.1:{}", 7100 + id),
            http: format!("127.0.0.1:{}", 7200 + id),
        };
        NodeStatus {
            id: 1,
            version: "test".into(),
            role: Role::Follower,
            term: 3,
            leader_id: Some(2),
            keys: self.map.lock().len() as u64,
            members: (0..3).map(member).collect(),
            ..NodeStatus::default()
        }
    }

    fn metrics(&self, out: &mut String) {
        self.registry.encode(out);
        Text::new(out).gauge("raft_term", "Current term.", 3);
    }

    fn ready(&self) -> Result<(), String> {
        if self.leaderless.load(Ordering::Relaxed) { Err("no leader".into()) } else { Ok(()) }
    }
}

fn holds(map: &BTreeMap<Bytes, Bytes>, key: &Bytes, condition: Condition) -> bool {
    match condition {
        Condition::Always => true,
        Condition::IfAbsent => !map.contains_key(key),
        Condition::IfPresent => map.contains_key(key),
    }
}

/// A copy: what arrives shares the memory of a whole read, which must not stay alive for one value.
fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn write(map: &mut BTreeMap<Bytes, Bytes>, write: Write) -> Outcome {
    match write {
        Write::Put { key, value } => {
            map.insert(copied(&key), copied(&value));
            Outcome::Done { revision: 0 }
        }
        Write::Append { key, value } => {
            let whole = [map.get(&key).map_or(&b""[..], |old| old), &value].concat();
            let length = whole.len() as u64;
            map.insert(copied(&key), whole.into());
            Outcome::Length(length)
        }
        Write::Delete { keys } => {
            Outcome::Count(keys.iter().filter(|key| map.remove(*key).is_some()).count() as u64)
        }
        Write::CompareAndSwap { key, expected, value } => {
            let current = map.get(&key).cloned();
            let swapped = current == expected;
            if swapped {
                map.insert(copied(&key), copied(&value));
            }
            Outcome::Swapped { swapped, current: if swapped { None } else { current } }
        }
        Write::PutIf { key, value, condition, return_old } => {
            let previous = map.get(&key).cloned().filter(|_| return_old);
            let stored = holds(map, &key, condition);
            if stored {
                map.insert(copied(&key), copied(&value));
            }
            Outcome::Stored { stored, previous }
        }
        Write::Increment { key, delta } => {
            let text = map.get(&key).map_or("0".into(), |old| String::from_utf8_lossy(old));
            let Ok(old) = text.parse::<i64>() else { return Outcome::Failed(CommandError::NotAnInteger) };
            let Some(sum) = old.checked_add(delta) else { return Outcome::Failed(CommandError::Overflow) };
            map.insert(copied(&key), sum.to_string().into());
            Outcome::Integer(sum)
        }
        Write::PutMany { pairs, condition } => {
            let stored = pairs.iter().all(|(key, _)| holds(map, key, condition));
            if stored {
                map.extend(pairs.iter().map(|(key, value)| (copied(key), copied(value))));
            }
            Outcome::Stored { stored, previous: None }
        }
        Write::Take { key } => {
            let previous = map.remove(&key);
            Outcome::Stored { stored: previous.is_some(), previous }
        }
        Write::OpenSession => Outcome::Done { revision: 0 },
    }
}

fn read(map: &BTreeMap<Bytes, Bytes>, read: Read) -> ReadOutcome {
    match read {
        Read::Get { key } => ReadOutcome::Value(map.get(&key).cloned()),
        Read::MultiGet { keys } => {
            ReadOutcome::Values(keys.iter().map(|key| map.get(key).cloned()).collect())
        }
        Read::Exists { keys } => {
            ReadOutcome::Count(keys.iter().filter(|key| map.contains_key(*key)).count() as u64)
        }
        Read::Length { key } => ReadOutcome::Length(map.get(&key).map_or(0, |value| value.len() as u64)),
        Read::Count => ReadOutcome::Count(map.len() as u64),
        Read::Scan { after, prefix, limit, values } => {
            let mut found = map.iter().filter(|(key, _)| {
                after.as_ref().is_none_or(|after| *key > after) && key.starts_with(&prefix)
            });
            let entries: Vec<_> = found
                .by_ref()
                .take(limit as usize)
                .map(|(key, value)| (key.clone(), values.then(|| value.clone())))
                .collect();
            ReadOutcome::Page(ScanPage { entries, more: found.next().is_some() })
        }
    }
}
