//! The directory of snapshots: writing, verifying, reading, forgetting.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::core::{EntryId, Index, SnapshotMeta};
use crate::wal::{Disk, DiskFile};

use super::error::SnapshotError;
use super::format;

/// Bytes gathered before they go to the file, and read at once when a file is verified.
const BUFFER_BYTES: usize = 256 << 10;

/// Limits of a store.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotStoreConfig {
    /// Snapshots kept, the newest included. At least 1.
    pub keep: usize,
    /// The largest file that is written, read or received.
    pub max_bytes: u64,
}

impl Default for SnapshotStoreConfig {
    fn default() -> SnapshotStoreConfig {
        SnapshotStoreConfig { keep: 2, max_bytes: 64 << 30 }
    }
}

/// A directory of snapshots.
pub struct SnapshotStore<D: Disk> {
    pub(super) disk: Arc<D>,
    pub(super) dir: PathBuf,
    pub(super) config: SnapshotStoreConfig,
}

impl<D: Disk> SnapshotStore<D> {
    /// Opens the store in `dir`, or makes one, and removes what was left unfinished.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(
        disk: Arc<D>,
        dir: impl Into<PathBuf>,
        config: SnapshotStoreConfig,
    ) -> Result<SnapshotStore<D>, SnapshotError> {
        let dir = dir.into();
        disk.create_dir(&dir).map_err(SnapshotError::io("create", &dir))?;
        for name in disk.list(&dir).map_err(SnapshotError::io("list", &dir))? {
            if name.ends_with(".tmp") || name.ends_with(".part") {
                let path = dir.join(name);
                disk.remove(&path).map_err(SnapshotError::io("remove", &path))?;
            }
        }
        Ok(SnapshotStore { disk, dir, config })
    }

    /// The snapshots that are there, newest first. They are whole unless a disk damaged them.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn list(&self) -> Result<Vec<EntryId>, SnapshotError> {
        let names = self.disk.list(&self.dir).map_err(SnapshotError::io("list", &self.dir))?;
        let mut ids: Vec<EntryId> = names.iter().filter_map(|name| parse_name(name)).collect();
        ids.sort_unstable_by_key(|id| std::cmp::Reverse((id.index, id.term)));
        Ok(ids)
    }

    /// Starts writing a snapshot. It exists once [`SnapshotWriter::finish`] has returned.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(&self, meta: &SnapshotMeta) -> Result<SnapshotWriter<'_, D>, SnapshotError> {
        let temp = self.dir.join(format!("{}.tmp", stem(meta.last)));
        match self.disk.remove(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SnapshotError::io("remove", &temp)(error));
            }
            _ => {}
        }
        let file = self.disk.create(&temp).map_err(SnapshotError::io("create", &temp))?;
        let buffer = format::encode_header(meta);
        let header = buffer.len() as u64;
        Ok(SnapshotWriter { store: self, meta: meta.clone(), file, temp, buffer, header, written: 0, crc: 0 })
    }

    /// Opens the snapshot of `id` for sending, without verifying it: the receiver does.
    ///
    /// # Errors
    /// [`SnapshotError::Missing`], or whatever the file system says.
    pub fn file(&self, id: EntryId) -> Result<SnapshotFile<D>, SnapshotError> {
        let path = self.path(id);
        let file = self.disk.open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SnapshotError::Missing { id, dir: self.dir.clone() },
            _ => SnapshotError::io("open", &path)(error),
        })?;
        SnapshotFile::new(file, path, self.config.max_bytes)
    }

    /// Verifies the snapshot of `id` from its first byte to its last, then opens its state for reading.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`], [`SnapshotError::Missing`], or whatever the file system says.
    pub fn reader(&self, id: EntryId) -> Result<SnapshotReader<D>, SnapshotError> {
        let file = self.file(id)?;
        let state = file.verify()?;
        if file.meta.last != id {
            let found = format!("snapshot of {:?}", file.meta.last);
            return Err(SnapshotError::corrupt(&file.path, format!("the snapshot of {id:?}"), found));
        }
        Ok(SnapshotReader { file, next: state.start, end: state.end })
    }

    /// The newest snapshot that is whole, if any. Damaged ones are passed over.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn newest_valid(&self) -> Result<Option<SnapshotReader<D>>, SnapshotError> {
        for id in self.list()? {
            match self.reader(id) {
                Ok(reader) => return Ok(Some(reader)),
                Err(error @ (SnapshotError::Corrupt { .. } | SnapshotError::Version { .. })) => {
                    tracing::warn!(%error, "passing over a snapshot");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Removes what is older than the newest [`SnapshotStoreConfig::keep`] snapshots up to `named`, the one that the
    /// log names. Newer ones stay: the log may come to name them. So do those after `applied`: the state machine may be
    /// about to read them.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn prune(&self, named: EntryId, applied: Index) -> Result<(), SnapshotError> {
        let known = self.list()?.into_iter().filter(|id| id.index <= named.index);
        self.remove_all(known.skip(self.config.keep.max(1)).filter(|id| id.index <= applied))
    }

    /// Removes snapshots that are newer than `named`, the one that the log names: at start, nobody will ever ask for
    /// them.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove_newer(&self, named: Option<EntryId>) -> Result<(), SnapshotError> {
        let index = named.map_or(0, |id| id.index);
        self.remove_all(self.list()?.into_iter().filter(|id| id.index > index))
    }

    fn remove_all(&self, ids: impl Iterator<Item = EntryId>) -> Result<(), SnapshotError> {
        let mut is_changed = false;
        for id in ids {
            let path = self.path(id);
            self.disk.remove(&path).map_err(SnapshotError::io("remove", &path))?;
            is_changed = true;
        }
        if is_changed {
            self.disk.sync_dir(&self.dir).map_err(SnapshotError::io("sync", &self.dir))?;
        }
        Ok(())
    }

    pub(super) fn path(&self, id: EntryId) -> PathBuf {
        self.dir.join(format!("{}.snap", stem(id)))
    }
}

fn stem(id: EntryId) -> String {
    format!("{:016x}-{:016x}", id.index, id.term)
}

fn parse_name(name: &str) -> Option<EntryId> {
    let (index, term) = name.strip_suffix(".snap")?.split_once('-')?;
    let number = |digits: &str| (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    Some(EntryId { term: number(term)?, index: number(index)? })
}

/// A snapshot that is being written. Dropping it without [`SnapshotWriter::finish`] leaves a file that the next start
/// removes.
pub struct SnapshotWriter<'a, D: Disk> {
    store: &'a SnapshotStore<D>,
    meta: SnapshotMeta,
    file: D::File,
    temp: PathBuf,
    buffer: Vec<u8>,
    header: u64,
    /// Bytes that are in the file already.
    written: u64,
    crc: u32,
}

impl<D: Disk> SnapshotWriter<'_, D> {
    /// Makes the snapshot durable under its name. Returns the size of its file.
    ///
    /// # Errors
    /// Whatever the file system says; the snapshot does not exist then.
    pub fn finish(mut self) -> Result<u64, SnapshotError> {
        let result = self.write_rest();
        if result.is_err() {
            // The next start would remove it as well; a full disk is better off without it now.
            let _ = self.store.disk.remove(&self.temp);
        }
        result
    }

    fn write_rest(&mut self) -> Result<u64, SnapshotError> {
        let io = |action| SnapshotError::io(action, &self.temp);
        let state = self.written + self.buffer.len() as u64 - self.header;
        let crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.buffer.extend_from_slice(&format::encode_trailer(state, crc));
        self.file.write_at(&self.buffer, self.written).map_err(io("write"))?;
        self.file.sync_data().map_err(io("sync"))?;
        let store = self.store;
        store.disk.rename(&self.temp, &store.path(self.meta.last)).map_err(io("rename"))?;
        store.disk.sync_dir(&store.dir).map_err(SnapshotError::io("sync", &store.dir))?;
        Ok(self.written + self.buffer.len() as u64)
    }
}

impl<D: Disk> Write for SnapshotWriter<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let limit = self.store.config.max_bytes;
        let size = self.written + (self.buffer.len() + bytes.len() + format::TRAILER_BYTES) as u64;
        if size > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                SnapshotError::TooLarge { bytes: size, limit },
            ));
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// An open snapshot file as it goes over the wire.
pub struct SnapshotFile<D: Disk> {
    file: D::File,
    path: PathBuf,
    meta: SnapshotMeta,
    header: u64,
    bytes: u64,
}

impl<D: Disk> SnapshotFile<D> {
    pub(super) fn new(file: D::File, path: PathBuf, limit: u64) -> Result<SnapshotFile<D>, SnapshotError> {
        let bytes = file.size().map_err(SnapshotError::io("read the size of", &path))?;
        if bytes > limit {
            return Err(SnapshotError::TooLarge { bytes, limit });
        }
        let mut start = vec![0; format::MAX_HEADER_BYTES.min(bytes as usize)];
        file.read_exact_at(&mut start, 0).map_err(SnapshotError::io("read", &path))?;
        let (meta, header) = format::decode_header(&path, &start)?;
        let header = header as u64;
        if header + (format::TRAILER_BYTES as u64) > bytes {
            return Err(SnapshotError::corrupt(&path, "a header and a trailer", format!("{bytes} bytes")));
        }
        Ok(SnapshotFile { file, path, meta, header, bytes })
    }

    /// What it stands for.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Up to `limit` bytes of the file from `offset` on.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn chunk(&self, offset: u64, limit: usize) -> Result<Bytes, SnapshotError> {
        let length = self.bytes.saturating_sub(offset).min(limit as u64) as usize;
        let mut data = vec![0; length];
        self.file.read_exact_at(&mut data, offset).map_err(SnapshotError::io("read", &self.path))?;
        Ok(data.into())
    }

    /// Reads all of it and checks the checksum. Returns where the state is.
    pub(super) fn verify(&self) -> Result<std::ops::Range<u64>, SnapshotError> {
        let end = self.bytes - format::TRAILER_BYTES as u64;
        let mut buffer = vec![0; BUFFER_BYTES.min(end as usize)];
        let (mut at, mut crc) = (0, 0);
        while at < end {
            let step = buffer.len().min((end - at) as usize);
            let part = &mut buffer[..step];
            self.file.read_exact_at(part, at).map_err(SnapshotError::io("read", &self.path))?;
            crc = crc32c::crc32c_append(crc, part);
            at += step as u64;
        }
        let mut trailer = [0; format::TRAILER_BYTES];
        self.file.read_exact_at(&mut trailer, end).map_err(SnapshotError::io("read", &self.path))?;
        format::check_trailer(&self.path, &trailer, end - self.header, crc)?;
        Ok(self.header..end)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The state in a verified snapshot.
pub struct SnapshotReader<D: Disk> {
    file: SnapshotFile<D>,
    next: u64,
    end: u64,
}

impl<D: Disk> SnapshotReader<D> {
    /// What it stands for.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.file.meta
    }

    /// Bytes of the state.
    pub fn state_bytes(&self) -> u64 {
        self.end - self.file.header
    }
}

impl<D: Disk> Read for SnapshotReader<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min((self.end - self.next) as usize);
        let read = self.file.file.read_at(&mut buffer[..length], self.next)?;
        if read == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.next += read as u64;
        Ok(read)
    }
}
