//! With `std::fs`: plain files, for which the kernel knows no waiting without blocking.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::Failure;

/// Writes a file in pieces, syncs it, reads it back, and removes it.
///
/// # Errors
/// The system's; or the file does not hold what was written.
pub fn write_and_read_back(folder: &Path, number: usize) -> Result<(), Failure> {
    const PIECES: usize = 16;
    let path = folder.join(format!("file-{number}"));
    let piece = format!("file {number}, and nobody else's; ").repeat(100);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    for _ in 0..PIECES {
        file.write_all(piece.as_bytes())?;
    }
    file.sync_data()?;
    file.seek(SeekFrom::Start(0))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    fs::remove_file(&path)?;
    if text == piece.repeat(PIECES) {
        Ok(())
    } else {
        Err(format!("{} holds something else", path.display()).into())
    }
}
