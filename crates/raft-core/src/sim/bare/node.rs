//! One node around a bare core: its storage, the requests it has taken, and how far its state machine is.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::core::{
    Config, ConfigError, Core, Entry, EntryId, Index, NodeId, Restored, Role, SnapshotMeta, Tag, Term,
};

use super::super::oracle::Floor;
use super::super::rng::Rng;
use super::disk::Storage;

/// A request of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// Unique in the run.
    pub(super) name: u64,
    pub(super) floor: Floor,
}

/// See the module's documentation.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) life: u64,
    pub(super) storage: Storage,
    core: Option<Core>,
    next_tag: Tag,
    asked: BTreeMap<Tag, Request>,
    /// Requests whose command stands in the log at this index, with its term.
    waiting: BTreeMap<Index, (Term, Request)>,
    /// Reads that may be answered once this index is applied.
    reads: Vec<(Index, Request)>,
    handed_out: VecDeque<Entry>,
    applied: EntryId,
    snapshot_begun: Index,
    machine_busy_until: Duration,
}

impl Node {
    pub(super) fn new(id: NodeId) -> Node {
        Node {
            id,
            life: 0,
            storage: Storage::default(),
            core: None,
            next_tag: 0,
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            reads: Vec::new(),
            handed_out: VecDeque::new(),
            applied: EntryId::default(),
            snapshot_begun: 0,
            machine_busy_until: Duration::ZERO,
        }
    }

    pub(super) fn begin_life(&mut self, snapshot: Index) -> u64 {
        self.life += 1;
        self.snapshot_begun = snapshot;
        self.life
    }

    pub(super) fn boot(&mut self, config: Config, restored: Restored) -> Result<(), ConfigError> {
        self.applied = restored.snapshot.as_ref().map_or_else(EntryId::default, |meta| meta.last);
        self.core = Some(Core::new(config, restored)?);
        Ok(())
    }

    /// Forgets everything that is not stored. Gives the requests that get no answer.
    pub(super) fn crash(&mut self, rng: &mut Rng) -> Vec<Request> {
        self.core = None;
        self.storage.crash(rng);
        self.handed_out.clear();
        self.machine_busy_until = Duration::ZERO;
        let asked = std::mem::take(&mut self.asked).into_values();
        let waiting = std::mem::take(&mut self.waiting).into_values().map(|(_, request)| request);
        let reads = std::mem::take(&mut self.reads).into_iter().map(|(_, request)| request);
        asked.chain(waiting).chain(reads).collect()
    }

    pub(super) fn runs(&self) -> bool {
        self.core.is_some()
    }

    pub(super) fn core(&mut self) -> Option<&mut Core> {
        self.core.as_mut()
    }

    pub(super) fn leads(&self) -> bool {
        self.core.as_ref().is_some_and(|core| core.role() == Role::Leader)
    }

    pub(super) fn term(&self) -> Term {
        self.core.as_ref().map_or(0, Core::term)
    }

    pub(super) fn applied(&self) -> Index {
        self.applied.index
    }

    pub(super) fn describe(&self) -> String {
        match &self.core {
            None => format!("node {} is down", self.id),
            Some(core) => {
                let status = core.status();
                format!(
                    "node {} {:?} term {} compacted {} last {:?} persisted {} commit {} applied {} peers {:?}",
                    self.id,
                    status.role,
                    status.term,
                    status.compacted.index,
                    status.last,
                    status.persisted_index,
                    status.commit_index,
                    self.applied.index,
                    status.peers
                )
            }
        }
    }

    /// Takes a request in and gives it a tag.
    pub(super) fn ask(&mut self, request: Request) -> Tag {
        self.next_tag += 1;
        self.asked.insert(self.next_tag, request);
        self.next_tag
    }

    pub(super) fn appended(&mut self, tag: Tag, first: EntryId) {
        if let Some(request) = self.asked.remove(&tag) {
            // An older request at this index was cut from the log; the client of that one never hears of it.
            self.waiting.insert(first.index, (first.term, request));
        }
    }

    pub(super) fn rejected(&mut self, tag: Tag) -> bool {
        self.asked.remove(&tag).is_some()
    }

    pub(super) fn read_ready(&mut self, tag: Tag, index: Index) {
        if let Some(request) = self.asked.remove(&tag) {
            self.reads.push((index, request));
        }
    }

    pub(super) fn reads_up_to(&mut self, applied: Index) -> Vec<Request> {
        let ready = self.reads.iter().filter(|(index, _)| *index <= applied).map(|(_, request)| *request);
        let ready = ready.collect();
        self.reads.retain(|(index, _)| *index > applied);
        ready
    }

    pub(super) fn hand_out(&mut self, entries: Vec<Entry>) {
        self.handed_out.extend(entries);
    }

    /// The state machine has applied everything up to `index`. Gives the requests that stood there, and whether the
    /// entry that was applied was theirs.
    pub(super) fn apply_to(&mut self, index: Index) -> Vec<(Request, EntryId, bool)> {
        let mut done = Vec::new();
        while self.handed_out.front().is_some_and(|entry| entry.id.index <= index) {
            let entry = self.handed_out.pop_front().expect("a front was just seen");
            if let Some((term, request)) = self.waiting.remove(&entry.id.index) {
                done.push((request, entry.id, term == entry.id.term));
            }
            // A snapshot may have been installed meanwhile.
            if entry.id.index > self.applied.index {
                self.applied = entry.id;
            }
        }
        done
    }

    /// The state machine jumps to `index`. Gives how many requests get no answer by that.
    pub(super) fn restore(&mut self, index: Index) -> usize {
        self.handed_out.clear();
        let later = self.waiting.split_off(&(index + 1));
        let lost = std::mem::replace(&mut self.waiting, later);
        self.applied.index = self.applied.index.max(index);
        self.snapshot_begun = self.snapshot_begun.max(index);
        lost.len()
    }

    /// The position of a snapshot to take now.
    pub(super) fn snapshot_due(&mut self, every: Index) -> Option<SnapshotMeta> {
        let core = self.core.as_ref()?;
        if self.applied.index < self.snapshot_begun + every {
            return None;
        }
        let term = core.term_at(self.applied.index)?;
        self.snapshot_begun = self.applied.index;
        let last = EntryId { term, index: self.applied.index };
        Some(SnapshotMeta { last, conf: core.conf_state() })
    }

    /// The state machine does one thing after the other. Gives when it is done with this one.
    pub(super) fn occupy_machine(&mut self, now: Duration, takes: Duration) -> Duration {
        self.machine_busy_until = self.machine_busy_until.max(now) + takes;
        self.machine_busy_until
    }
}
