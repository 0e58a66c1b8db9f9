//! A disk in memory that forgets what was not synced.
//!
//! It keeps two images: what programs see, and what is durable. A crash builds the image that a machine would find
//! after a power cut: each unsynced sector old or new by itself (lost, torn and reordered writes), each unsynced
//! length and name there or not. A write to a sector that holds durable bytes and fails half-way leaves the sector
//! old or new: sectors are atomic. What is left out: sectors that read back as an error.
//!
//! The lock inside is a plain one: a simulation has one thread, and no lock is held while virtual time passes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::wal::{Disk, DiskFile};

const SECTOR: usize = 512;

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`SimDisk`].
pub struct SimFile {
    disk: SimDisk,
    inode: u64,
    path: PathBuf,
}

/// Holds a lock of a [`SimDisk`].
pub struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

/// One thing that a crash decides: takes the number of possibilities, returns which one it is.
pub type CrashChoice<'a> = &'a mut dyn FnMut(usize) -> usize;

#[derive(Default)]
struct State {
    random: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    live_names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names that no `sync_dir` has made durable, in order.
    pending: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    sync_latency: Option<(Duration, Duration)>,
    /// Syncs that succeed before one fails.
    fail_sync_after: Option<u64>,
    /// Writes that succeed before one fails.
    fail_write_after: Option<u64>,
    capacity: Option<u64>,
    syncs: u64,
    /// Copies of the disk after each change, if asked for.
    history: Option<Vec<SimDisk>>,
}

#[derive(Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written since the last sync, each with all the contents it had since.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
    /// The live length was synced, or is what was synced.
    length_dirty: bool,
}

#[derive(Clone)]
enum NameChange {
    Link { path: PathBuf, inode: u64 },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
    Unlink { path: PathBuf },
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path.parent(),
            NameChange::Rename { to, .. } => to.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Link { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            NameChange::Unlink { path } => {
                names.remove(path);
            }
        }
    }
}

impl State {
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn used(&self) -> u64 {
        self.live_names.values().map(|inode| self.inodes[inode].live.len() as u64).sum()
    }

    /// Counts down to an injected fault.
    fn is_due(countdown: &mut Option<u64>) -> bool {
        match countdown {
            Some(0) => {
                *countdown = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

impl Inode {
    fn sector(bytes: &[u8], sector: usize) -> Vec<u8> {
        let start = (sector * SECTOR).min(bytes.len());
        let mut content = bytes[start..(start + SECTOR).min(bytes.len())].to_vec();
        content.resize(SECTOR, 0);
        content
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if end > self.live.len() {
            self.live.resize(end, 0);
            self.length_dirty = true;
        }
        self.live[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let content = Inode::sector(&self.live, sector);
            self.dirty.entry(sector).or_default().push(content);
        }
    }

    /// Writes the dirty sectors, and no others: what a failed sync has dropped stays lost.
    fn sync(&mut self) {
        if self.length_dirty {
            self.durable.resize(self.live.len(), 0);
        }
        for &sector in self.dirty.keys() {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.live.len());
            if self.durable.len() < end {
                self.durable.resize(end, 0);
            }
            self.durable[start..end].copy_from_slice(&self.live[start..end]);
        }
        self.dirty.clear();
        self.length_dirty = false;
    }

    /// What a failed sync does: the pages count as written, the disk has the old bytes.
    fn fail_sync(&mut self) {
        self.dirty.clear();
        self.length_dirty = false;
    }

    /// The inode after a crash.
    fn crash(&self, choose: CrashChoice<'_>) -> Inode {
        let mut bytes = self.durable.clone();
        if self.length_dirty && choose(2) == 1 {
            bytes.resize(self.live.len(), 0);
        }
        for (&sector, versions) in &self.dirty {
            let start = sector * SECTOR;
            if start >= bytes.len() {
                continue;
            }
            if let Some(version) = choose(versions.len() + 1).checked_sub(1) {
                let end = (start + SECTOR).min(bytes.len());
                bytes[start..end].copy_from_slice(&versions[version][..end - start]);
            }
        }
        Inode { live: bytes.clone(), durable: bytes, ..Inode::default() }
    }
}

impl SimDisk {
    /// An empty disk. The seed decides what crashes keep and how long syncs take.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(State { random: seed, ..State::default() })) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Cuts the power: returns the disk that the machine finds when it starts again. What is lost is drawn from the
    /// seed. Handles of this disk go on working on the image from before the crash, which nobody sees any more.
    pub fn crash(&self) -> SimDisk {
        let mut random = {
            let mut state = self.state();
            State { random: state.random(), ..State::default() }
        };
        // Sometimes everything is lost or nothing, sometimes it is a toss for each sector.
        let mood = random.random() % 4;
        self.crash_with(&mut |count| match mood {
            0 => 0,
            1 => count - 1,
            _ => (random.random() % count as u64) as usize,
        })
    }

    /// Like [`SimDisk::crash`], with each decision made by `choose`: for tests that try them all. Possibility 0 is
    /// always that nothing unsynced survives.
    pub fn crash_with(&self, choose: CrashChoice<'_>) -> SimDisk {
        let state = self.state();
        let mut names = state.durable_names.clone();
        for change in &state.pending {
            if choose(2) == 1 {
                change.apply(&mut names);
            }
        }
        let mut inodes = BTreeMap::new();
        for &inode in names.values() {
            inodes.entry(inode).or_insert_with(|| state.inodes[&inode].crash(choose));
        }
        let after = State {
            random: state.random ^ 0x5eed,
            inodes,
            next_inode: state.next_inode,
            live_names: names.clone(),
            durable_names: names,
            dirs: state.dirs.clone(),
            sync_latency: state.sync_latency,
            capacity: state.capacity,
            ..State::default()
        };
        SimDisk { state: Arc::new(Mutex::new(after)) }
    }

    /// An independent copy as it is now, unsynced state included, without locks and pending faults.
    pub fn fork(&self) -> SimDisk {
        SimDisk::copy(&self.state())
    }

    /// Keeps a copy of the disk after each change from now on: the points at which a crash can find it.
    pub fn record_history(&self) {
        self.state().history = Some(Vec::new());
    }

    /// The copies since [`SimDisk::record_history`] or the last call.
    pub fn take_history(&self) -> Vec<SimDisk> {
        self.state().history.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn changed(state: &mut State) {
        if let Some(mut history) = state.history.take() {
            history.push(SimDisk::copy(state));
            state.history = Some(history);
        }
    }

    fn copy(state: &State) -> SimDisk {
        let copy = State {
            random: state.random,
            inodes: state.inodes.clone(),
            next_inode: state.next_inode,
            live_names: state.live_names.clone(),
            durable_names: state.durable_names.clone(),
            pending: state.pending.clone(),
            dirs: state.dirs.clone(),
            sync_latency: state.sync_latency,
            capacity: state.capacity,
            ..State::default()
        };
        SimDisk { state: Arc::new(Mutex::new(copy)) }
    }

    /// Makes every sync in a simulation take a time drawn from this range. None by default.
    pub fn set_sync_latency(&self, shortest: Duration, longest: Duration) {
        self.state().sync_latency = Some((shortest, longest.max(shortest)));
    }

    /// After `successes` more syncs of files, one fails; its data is lost although later syncs succeed.
    pub fn fail_sync_after(&self, successes: u64) {
        self.state().fail_sync_after = Some(successes);
    }

    /// After `successes` more writes, one fails half-way.
    pub fn fail_write_after(&self, successes: u64) {
        self.state().fail_write_after = Some(successes);
    }

    /// Lets files take at most this many bytes together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// How many syncs of files succeeded.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// All files, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().live_names.keys().cloned().collect()
    }

    /// Content of a file, if it exists.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = state.live_names.get(path)?;
        Some(state.inodes[inode].live.clone())
    }

    /// Damages a file: changes the durable and the visible content alike.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = state.live_names[path];
        let inode = state.inodes.get_mut(&id).expect("a name has an inode");
        change(&mut inode.live);
        inode.durable.clone_from(&inode.live);
        inode.dirty.clear();
        inode.length_dirty = false;
    }

    /// Flips one bit of a file.
    pub fn flip_bit(&self, path: &Path, byte: usize, bit: u32) {
        self.damage(path, |content| content[byte] ^= 1 << bit);
    }

    fn file(&self, inode: u64, path: &Path) -> SimFile {
        SimFile { disk: self.clone(), inode, path: path.to_owned() }
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        // Directories are durable at once: nothing in this crate depends on the opposite.
        self.state().dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state();
        if !path.parent().is_some_and(|parent| state.dirs.contains(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.live_names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.live_names.insert(path.to_owned(), inode);
        state.pending.push(NameChange::Link { path: path.to_owned(), inode });
        SimDisk::changed(&mut state);
        drop(state);
        Ok(self.file(inode, path))
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let inode = self.state().live_names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(inode, path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let here = state.live_names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let inode = *state.live_names.get(from).ok_or(io::ErrorKind::NotFound)?;
        let change = NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode };
        change.apply(&mut state.live_names);
        state.pending.push(change);
        SimDisk::changed(&mut state);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.live_names.remove(path).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.pending.push(NameChange::Unlink { path: path.to_owned() });
        SimDisk::changed(&mut state);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        let (here, elsewhere) =
            std::mem::take(&mut state.pending).into_iter().partition(|change| change.dir() == Some(dir));
        state.pending = elsewhere;
        let here: Vec<NameChange> = here;
        for change in here {
            change.apply(&mut state.durable_names);
        }
        SimDisk::changed(state);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<SimLock>> {
        let is_new = self.state().locks.insert(path.to_owned());
        Ok(is_new.then(|| SimLock { disk: self.clone(), path: path.to_owned() }))
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut Inode) -> T) -> T {
        act(self.disk.state().inodes.get_mut(&self.inode).expect("an open file has an inode"))
    }

    fn injected(&self, what: &str) -> io::Error {
        io::Error::other(format!("injected {what} fault on {}", self.path.display()))
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.with(|inode| inode.live.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|inode| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(inode.live.len());
            let count = buffer.len().min(inode.live.len() - start);
            buffer[..count].copy_from_slice(&inode.live[start..start + count]);
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = offset as usize;
        let (is_failing, room) = {
            let mut state = self.disk.state();
            let is_failing = State::is_due(&mut state.fail_write_after);
            let room = state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
            (is_failing, room)
        };
        if is_failing {
            self.with(|inode| inode.write(&bytes[..bytes.len() / 2], offset));
            return Err(self.injected("write"));
        }
        let grows = self.with(|inode| (offset + bytes.len()).saturating_sub(inode.live.len()));
        if grows as u64 > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.with(|inode| inode.write(bytes, offset));
        SimDisk::changed(&mut self.disk.state());
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let latency = {
            let mut state = self.disk.state();
            state.sync_latency.map(|(shortest, longest)| {
                let spread = (longest - shortest).as_nanos() as u64 + 1;
                shortest + Duration::from_nanos(state.random() % spread)
            })
        };
        if let Some(latency) = latency {
            wait(latency);
        }
        let is_failing = State::is_due(&mut self.disk.state().fail_sync_after);
        if is_failing {
            self.with(Inode::fail_sync);
            return Err(self.injected("sync"));
        }
        self.with(Inode::sync);
        let mut state = self.disk.state();
        state.syncs += 1;
        SimDisk::changed(&mut state);
        Ok(())
    }
}

/// Lets virtual time pass. Outside a simulation a sync takes no time.
fn wait(latency: Duration) {
    if fiber_runtime::sim::is_simulated() {
        fiber_runtime::time::sleep(latency);
    }
}
