//! What the properties look at: the nodes as an outsider sees them, and what happens next.

use std::collections::BTreeMap;
use std::fmt;

use crate::core::{Effect, Entry, EntryId, Index, NodeId, Role, Term};

use super::{Property, properties};

/// One thing that happened on one node.
#[derive(Clone, Copy, Debug)]
pub enum Observation<'a> {
    /// The node started with what it found on its disk.
    Started {
        /// Its term.
        term: Term,
        /// Last entry of its snapshot; zero without one.
        snapshot: EntryId,
        /// All entries after the snapshot.
        entries: &'a [Entry],
    },
    /// The node crashed: what it had in memory is gone.
    Crashed,
    /// Its role or term changed.
    RoleChanged {
        /// The new role.
        role: Role,
        /// The current term.
        term: Term,
    },
    /// It put these entries behind the one before the first, and forgot whatever followed that.
    Appended {
        /// Consecutive entries, at least one.
        entries: &'a [Entry],
    },
    /// It took a snapshot from its leader in place of its log up to there, and of what follows, too, unless the log
    /// held the snapshot's last entry.
    Installed {
        /// Last entry of the snapshot.
        last: EntryId,
    },
    /// It learnt that this entry is committed, and gives it to the state machine.
    Committed {
        /// The entry.
        entry: &'a Entry,
    },
}

/// The terms of a log, as far as it was observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowLog {
    base: EntryId,
    terms: Vec<Term>,
}

impl ShadowLog {
    /// A log that begins after `base`.
    pub fn new(base: EntryId) -> ShadowLog {
        ShadowLog { base, terms: Vec::new() }
    }

    /// The entry before the first one: the last of the snapshot.
    pub fn base(&self) -> EntryId {
        self.base
    }

    /// The last index.
    pub fn last_index(&self) -> Index {
        self.base.index + self.terms.len() as Index
    }

    /// The term of the entry at `index`; `None` where there is none, or where it went into a snapshot.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let place = index.checked_sub(self.base.index + 1)?;
        self.terms.get(usize::try_from(place).ok()?).copied()
    }

    /// Puts `entries` behind the one before the first of them.
    ///
    /// # Errors
    /// When that leaves a gap.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        for entry in entries {
            let Some(place) = entry.id.index.checked_sub(self.base.index + 1) else {
                continue; // In the snapshot already.
            };
            let place = place as usize;
            if place > self.terms.len() {
                return Err(format!("{:?} appended behind last index {}", entry.id, self.last_index()));
            }
            self.terms.truncate(place);
            self.terms.push(entry.id.term);
        }
        Ok(())
    }

    /// Replaces everything up to `last`, and what follows, too, unless `last` itself is there.
    pub fn install(&mut self, last: EntryId) {
        let kept = if self.term_at(last.index) == Some(last.term) {
            self.terms.split_off((last.index - self.base.index) as usize)
        } else {
            Vec::new()
        };
        *self = ShadowLog { base: last, terms: kept };
    }
}

/// A node as an outsider sees it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Whether it runs.
    pub running: bool,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Its log, durable or not.
    pub log: ShadowLog,
    /// The last index it is known to have committed since it started.
    pub committed: Index,
}

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub property: String,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold: {}", self.property, self.found)
    }
}

/// The views of all nodes, the log that was committed, and the first violation.
pub struct World {
    nodes: BTreeMap<NodeId, NodeView>,
    committed: Vec<Term>,
    violation: Option<Violation>,
    properties: Vec<Box<dyn Property>>,
    observations: u64,
    installed: u64,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("nodes", &self.nodes)
            .field("committed", &self.committed.len())
            .field("violation", &self.violation)
            .finish_non_exhaustive()
    }
}

impl Default for World {
    fn default() -> Self {
        World {
            nodes: BTreeMap::new(),
            committed: Vec::new(),
            violation: None,
            properties: properties(),
            observations: 0,
            installed: 0,
        }
    }
}

impl World {
    /// A world without nodes: each appears when it starts.
    pub fn new() -> World {
        World::default()
    }

    /// The nodes that have ever started.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeView)> {
        self.nodes.iter().map(|(id, view)| (*id, view))
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> Option<&NodeView> {
        self.nodes.get(&id)
    }

    /// Term of the committed entry at `index`, if any node has learnt that one is.
    pub fn committed_term(&self, index: Index) -> Option<Term> {
        let place = usize::try_from(index.checked_sub(1)?).ok()?;
        self.committed.get(place).copied()
    }

    /// The last index that any node has learnt is committed.
    pub fn last_committed(&self) -> Index {
        self.committed.len() as Index
    }

    /// The first violation, if there is one.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// How many times a node took a snapshot from its leader.
    pub fn snapshots_installed(&self) -> u64 {
        self.installed
    }

    /// How many observations were checked.
    pub fn observations(&self) -> u64 {
        self.observations
    }

    /// Notes a violation that was found elsewhere. Only the first of a run is kept: the others follow from it.
    pub fn report(&mut self, property: &str, found: String) {
        self.violation.get_or_insert(Violation { property: property.to_owned(), found });
    }

    /// Checks all properties against what happened on `node`, then takes it into the views.
    pub fn observe(&mut self, node: NodeId, seen: &Observation<'_>) {
        if self.violation.is_some() {
            return;
        }
        self.observations += 1;
        let mut properties = std::mem::take(&mut self.properties);
        for property in &mut properties {
            let context = Seen { node, observation: seen };
            if let Err(found) = property.observe(self, &context) {
                self.report(property.name(), format!("node {node}: {found}"));
                break;
            }
        }
        self.properties = properties;
        if let Err(found) = self.take_in(node, seen) {
            self.report("contiguous log", format!("node {node}: {found}"));
        }
    }

    /// Observes all effects of one [`Core::take_effects`](crate::core::Core::take_effects) of `node`.
    pub fn observe_effects(&mut self, node: NodeId, effects: &[Effect]) {
        // The role comes first: the entries of this batch were issued after it changed.
        for effect in effects {
            if let Effect::RoleChanged { role, term, .. } = effect {
                self.observe(node, &Observation::RoleChanged { role: *role, term: *term });
            }
        }
        for effect in effects {
            match effect {
                Effect::Persist { entries, snapshot, .. } => {
                    if let Some(meta) = snapshot {
                        self.observe(node, &Observation::Installed { last: meta.last });
                    }
                    if !entries.is_empty() {
                        self.observe(node, &Observation::Appended { entries });
                    }
                }
                Effect::Apply { entries } => {
                    for entry in entries {
                        self.observe(node, &Observation::Committed { entry });
                    }
                }
                Effect::Fatal(invariant) => {
                    self.report("core invariant", format!("node {node}: {}", invariant.message));
                }
                _ => {}
            }
        }
    }

    fn take_in(&mut self, node: NodeId, seen: &Observation<'_>) -> Result<(), String> {
        if let Observation::Started { term, snapshot, entries } = seen {
            let mut log = ShadowLog::new(*snapshot);
            log.append(entries)?;
            let view =
                NodeView { running: true, role: Role::Follower, term: *term, log, committed: snapshot.index };
            self.nodes.insert(node, view);
            return Ok(());
        }
        let Some(view) = self.nodes.get_mut(&node) else {
            return Err(format!("{seen:?} before it started"));
        };
        match seen {
            Observation::Started { .. } => {}
            Observation::Crashed => view.running = false,
            Observation::RoleChanged { role, term } => (view.role, view.term) = (*role, *term),
            Observation::Appended { entries } => view.log.append(entries)?,
            Observation::Installed { last } => {
                view.log.install(*last);
                self.installed += 1;
                view.committed = view.committed.max(last.index);
            }
            Observation::Committed { entry } => {
                view.committed = entry.id.index;
                if entry.id.index == self.committed.len() as Index + 1 {
                    self.committed.push(entry.id.term);
                }
            }
        }
        Ok(())
    }
}

/// An observation together with the node it was made on.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The node.
    pub node: NodeId,
    /// What happened there.
    pub observation: &'a Observation<'a>,
}
