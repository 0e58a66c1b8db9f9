//! Files: `std::fs` on the blocking pool.
//!
//! The kernel has no readiness for regular files: reading one that is not in memory blocks the thread. Each function
//! here is the one of `std::fs` with that name, made on a thread of the pool ([`crate::offload`]) while the fiber parks;
//! in a plain thread it runs inline. A call costs two thread switches, some ten microseconds: many small reads are better
//! done in one [`crate::offload`] of your own, or through a `BufReader`.
//!
//! ```
//! # let runtime = fiber_runtime::Runtime::builder().workers(1).build()?;
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("greeting");
//! # runtime.block_on(|| {
//! use fiber_runtime::fs;
//!
//! fs::write(&path, "hello")?;
//! let file = fs::File::open(&path)?;
//! let mut end = [0; 2];
//! file.read_exact_at(&mut end, 3)?;
//! assert_eq!(&end, b"lo");
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::ffi::OsString;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use std::fs::{FileType, Metadata, OpenOptions, Permissions};

use crate::offload;

/// Functions of one or two paths.
macro_rules! path_functions {
    ($($(#[$doc:meta])* $name:ident($($path:ident),+ $(; $extra:ident: $kind:ty)?) -> $result:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// Those of the function of `std::fs` with this name.
        pub fn $name($($path: impl AsRef<Path>),+ $(, $extra: $kind)?) -> io::Result<$result> {
            $(let $path = $path.as_ref();)+
            offload(move || fs::$name($($path),+ $(, $extra)?))
        }
    )*};
}

path_functions! {
    /// The contents of a file.
    read(path) -> Vec<u8>;
    /// The contents of a file, which must be UTF-8.
    read_to_string(path) -> String;
    /// What the file system knows of a file, following symbolic links.
    metadata(path) -> Metadata;
    /// What the file system knows of a file or symbolic link.
    symlink_metadata(path) -> Metadata;
    /// Changes a file's permissions.
    set_permissions(path; permissions: Permissions) -> ();
    /// Whether something is at the path.
    exists(path) -> bool;
    /// The absolute path without symbolic links.
    canonicalize(path) -> PathBuf;
    /// Copies a file's contents and permissions; returns how many bytes.
    copy(from, to) -> u64;
    /// Gives a file another name, replacing what has that name.
    rename(from, to) -> ();
    /// Gives a file a further name.
    hard_link(original, link) -> ();
    /// Where a symbolic link leads.
    read_link(path) -> PathBuf;
    /// Removes a file.
    remove_file(path) -> ();
    /// Makes a directory.
    create_dir(path) -> ();
    /// Makes a directory and those above it that are missing.
    create_dir_all(path) -> ();
    /// Removes an empty directory.
    remove_dir(path) -> ();
    /// Removes a directory with all it contains.
    remove_dir_all(path) -> ();
}

/// Replaces the contents of a file, or makes one. Durable only after [`File::sync_all`].
///
/// # Errors
/// Those of `std::fs::write`.
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let (path, contents) = (path.as_ref(), contents.as_ref());
    offload(move || fs::write(path, contents))
}

/// Makes a symbolic link at `link` that leads to `original`.
///
/// # Errors
/// Those of `std::os::unix::fs::symlink`.
pub fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    let (original, link) = (original.as_ref(), link.as_ref());
    offload(move || std::os::unix::fs::symlink(original, link))
}

/// An entry of a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// The directory's path, with the name.
    pub path: PathBuf,
    /// The name.
    pub name: OsString,
    /// What it is; of a symbolic link, that it is one.
    pub kind: FileType,
}

/// All entries of a directory, in no order. They are read at once: a directory of millions of entries takes memory for
/// each.
///
/// # Errors
/// Those of `std::fs::read_dir`.
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<Vec<DirEntry>> {
    let path = path.as_ref();
    offload(move || {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok(DirEntry { path: entry.path(), name: entry.file_name(), kind: entry.file_type()? })
        };
        fs::read_dir(path)?.map(entry).collect()
    })
}

/// An open file. Its position is shared by [`Read`], [`Write`] and [`Seek`]; [`File::read_at`] and [`File::write_at`]
/// have no position, so several fibers may use them at once.
#[derive(Debug)]
pub struct File {
    inner: fs::File,
}

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// Those of `std::fs::File::open`.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_with(OpenOptions::new().read(true), path)
    }

    /// Opens a file for writing, emptied or new.
    ///
    /// # Errors
    /// Those of `std::fs::File::create`.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_with(OpenOptions::new().write(true).create(true).truncate(true), path)
    }

    /// Makes a file, which must not exist, for reading and writing.
    ///
    /// # Errors
    /// Those of `std::fs::File::create_new`.
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_with(OpenOptions::new().read(true).write(true).create_new(true), path)
    }

    /// Opens a file as `options` say.
    ///
    /// # Errors
    /// Those of `std::fs::OpenOptions::open`.
    pub fn open_with(options: &OpenOptions, path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        offload(move || options.open(path)).map(Self::from_std)
    }

    /// Takes over a file of `std`.
    pub fn from_std(inner: fs::File) -> Self {
        Self { inner }
    }

    /// The file as one of `std`.
    pub fn into_std(self) -> fs::File {
        self.inner
    }

    /// Reads at `offset`, as much as is there and fits.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        offload(|| self.inner.read_at(buffer, offset))
    }

    /// Fills the buffer from `offset`.
    ///
    /// # Errors
    /// `ErrorKind::UnexpectedEof` if the file ends before; those of `pread(2)`.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        offload(|| self.inner.read_exact_at(buffer, offset))
    }

    /// Writes at `offset`, perhaps less than everything.
    ///
    /// # Errors
    /// Those of `pwrite(2)`.
    pub fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        offload(|| self.inner.write_at(buffer, offset))
    }

    /// Writes everything at `offset`.
    ///
    /// # Errors
    /// Those of `pwrite(2)`.
    pub fn write_all_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        offload(|| self.inner.write_all_at(buffer, offset))
    }

    /// Waits until contents and metadata are on the disk.
    ///
    /// # Errors
    /// The disk failed; what it holds is not known then.
    pub fn sync_all(&self) -> io::Result<()> {
        offload(|| self.inner.sync_all())
    }

    /// Waits until the contents are on the disk.
    ///
    /// # Errors
    /// As [`File::sync_all`].
    pub fn sync_data(&self) -> io::Result<()> {
        offload(|| self.inner.sync_data())
    }

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// Those of `ftruncate(2)`.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        offload(|| self.inner.set_len(length))
    }

    /// What the file system knows of the file.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub fn metadata(&self) -> io::Result<Metadata> {
        offload(|| self.inner.metadata())
    }

    /// Changes the file's permissions.
    ///
    /// # Errors
    /// Those of `fchmod(2)`.
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        offload(|| self.inner.set_permissions(permissions))
    }

    /// Another handle on the same open file, which shares its position.
    ///
    /// # Errors
    /// The process has too many descriptors open.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.inner.try_clone().map(Self::from_std)
    }
}

impl Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        offload(|| (&self.inner).read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        offload(|| (&self.inner).read_vectored(buffers))
    }

    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        offload(|| (&self.inner).read_to_end(buffer))
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }

    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buffer)
    }
}

impl Write for &File {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        offload(|| (&self.inner).write(buffer))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        offload(|| (&self.inner).write_vectored(buffers))
    }

    fn write_all(&mut self, buffer: &[u8]) -> io::Result<()> {
        offload(|| (&self.inner).write_all(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for File {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn write_all(&mut self, buffer: &[u8]) -> io::Result<()> {
        (&*self).write_all(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    // No disk is asked, so it runs here.
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        (&self.inner).seek(position)
    }
}

impl Seek for File {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        (&*self).seek(position)
    }
}

impl From<File> for OwnedFd {
    fn from(file: File) -> OwnedFd {
        file.inner.into()
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}
