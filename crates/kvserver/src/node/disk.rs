//! The file system under the log and the snapshots, with the sync that `sync=none` leaves out.

use std::fs::File;
use std::io;
use std::path::Path;

use raft_core::wal::{Disk, DiskFile, RealDisk};

use crate::config::SyncMode;

/// [`RealDisk`], synced or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeDisk {
    sync: SyncMode,
}

impl NodeDisk {
    pub(super) fn new(sync: SyncMode) -> NodeDisk {
        NodeDisk { sync }
    }
}

/// An open file of a [`NodeDisk`].
#[derive(Debug)]
pub(super) struct NodeFile {
    file: File,
    sync: SyncMode,
}

impl Disk for NodeDisk {
    type File = NodeFile;
    type Lock = <RealDisk as Disk>::Lock;

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<NodeFile> {
        Ok(NodeFile { file: RealDisk.create(path)?, sync: self.sync })
    }

    fn open(&self, path: &Path) -> io::Result<NodeFile> {
        Ok(NodeFile { file: RealDisk.open(path)?, sync: self.sync })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.sync {
            SyncMode::Full => RealDisk.sync_dir(dir),
            SyncMode::None => Ok(()),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Self::Lock>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for NodeFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(&self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        DiskFile::write_at(&self.file, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.sync {
            SyncMode::Full => DiskFile::sync_data(&self.file),
            SyncMode::None => Ok(()),
        }
    }
}
