//! Where thread-locals are: the TLS symbols of the executable or shared object that this crate is part of.
//!
//! Only what is needed is read: the section table, the symbols, and the names of those of type TLS.

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::{ptr, slice};

use super::{CRATES, FLAGS, KNOWN, Map, Range};
use crate::hook::{PrivateThreadLocals, ThreadLocalsError};

/// The path of the thread-local that marks the block.
const ANCHOR: &str = "fiber_runtime::hook::thread_locals::ANCHOR";

/// An object that has been loaded, as far as its thread-locals are concerned.
pub(super) struct Module {
    path: PathBuf,
    /// The calling thread's block.
    block: usize,
    /// What a new thread finds in its block; the rest of it is zero.
    template: &'static [u8],
    /// Bytes of a block.
    size: usize,
}

/// The object in whose block of the calling thread the thread-local at `anchor` is.
pub(super) fn module_of(anchor: usize) -> Result<Module, ThreadLocalsError> {
    struct Search {
        anchor: usize,
        found: Option<Module>,
    }

    /// # Safety
    /// For `dl_iterate_phdr`, with a `Search`.
    unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
        // SAFETY: libc calls this with an object's description and our own pointer, both valid during the call.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: libc's promise about the object's headers.
        let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let Some(tls) = headers.iter().find(|header| header.p_type == libc::PT_TLS) else { return 0 };
        // Null if this thread has no block for the object yet.
        let block = info.dlpi_tls_data.addr();
        if block == 0 || !(block..block + tls.p_memsz as usize).contains(&search.anchor) {
            return 0;
        }
        let template = (info.dlpi_addr as usize).wrapping_add(tls.p_vaddr as usize);
        let name = match info.dlpi_name.is_null() {
            true => c"",
            // SAFETY: a string of libc's.
            false => unsafe { CStr::from_ptr(info.dlpi_name) },
        };
        search.found = Some(Module {
            // The executable has no name.
            path: match name.is_empty() {
                true => "/proc/self/exe".into(),
                false => OsStr::from_bytes(name.to_bytes()).into(),
            },
            block,
            // SAFETY: the segment is mapped as long as the object is loaded, which it is as long as this code can run, and
            // nobody writes to it after the relocations.
            template: unsafe {
                slice::from_raw_parts(ptr::with_exposed_provenance(template), tls.p_filesz as usize)
            },
            size: tls.p_memsz as usize,
        });
        1
    }

    let mut search = Search { anchor, found: None };
    // SAFETY: the function fits, and the search outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found.ok_or(ThreadLocalsError::NotBuilt)
}

impl Module {
    /// Where the thread-locals on the list are.
    pub(super) fn map(&self, anchor: usize) -> Result<Map, ThreadLocalsError> {
        let symbols = tls_symbols(&self.path).map_err(|error| ThreadLocalsError::Unreadable {
            reason: format!("{}: {error}", self.path.display()),
        })?;
        if symbols.is_empty() {
            return Err(ThreadLocalsError::Stripped);
        }
        let anchor = anchor - self.block;
        let fits =
            |symbol: &Symbol| symbol.offset.checked_add(symbol.size).is_some_and(|end| end <= self.size);
        let is_anchor = |symbol: &Symbol| symbol.offset == anchor && is_named(&symbol.name, ANCHOR);
        if !symbols.iter().all(fits) || !symbols.iter().any(is_anchor) {
            return Err(ThreadLocalsError::OtherProgram);
        }
        let mut names = PrivateThreadLocals::default();
        let mut ranges: Vec<Range> = Vec::new();
        let mut flags = Vec::new();
        for symbol in symbols {
            if symbol.size == 1 && FLAGS.iter().any(|flag| is_named(&symbol.name, flag)) {
                flags.push(symbol.offset);
            } else if KNOWN.iter().any(|known| is_named(&symbol.name, known)) {
                names.private.push(symbol.name);
                ranges.push(Range { offset: symbol.offset, length: symbol.size });
            } else if CRATES.contains(&crate_of(&symbol.name)) {
                names.shared.push(symbol.name);
            }
        }
        // Two versions of a library have two of each; two names of one are one range.
        ranges.sort_unstable_by_key(|range| (range.offset, range.length));
        ranges.dedup();
        let is_apart = |pair: &[Range]| pair[0].offset + pair[0].length <= pair[1].offset;
        if !ranges.windows(2).all(is_apart) {
            return Err(ThreadLocalsError::OtherProgram);
        }
        let byte = |offset: usize| self.template.get(offset).copied().unwrap_or(0);
        let fresh =
            ranges.iter().flat_map(|range| range.offset..range.offset + range.length).map(byte).collect();
        Ok(Map { names, anchor, ranges, fresh, flags })
    }
}

/// Whether a symbol is that of the static `path`: std's macro puts the value a few levels below.
fn is_named(symbol: &str, path: &str) -> bool {
    symbol.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The first part of a path, that of a method's type included.
fn crate_of(symbol: &str) -> &str {
    symbol.trim_start_matches(['<', '&']).split("::").next().unwrap_or_default()
}

/// A thread-local: its path without hashes, its offset in the block, and its size.
#[derive(Debug)]
struct Symbol {
    name: String,
    offset: usize,
    size: usize,
}

const SECTION_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
const SYMBOL_TABLE: u32 = 2;
const TLS_TYPE: u8 = 6;
/// Of a symbol table that is read at a time.
const PIECE_BYTES: usize = SYMBOL_BYTES * 4096;
/// A longer name is not looked at.
const MOST_NAME_BYTES: usize = 1024;

/// The symbols of type TLS in a 64-bit little-endian ELF file. None if it has no symbol table.
fn tls_symbols(path: &std::path::Path) -> io::Result<Vec<Symbol>> {
    let file = File::open(path)?;
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0)?;
    if header[..6] != *b"\x7fELF\x02\x01" {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a 64-bit little-endian ELF file"));
    }
    let table = number(&header, 0x28, 8);
    if number(&header, 0x3a, 2) != SECTION_BYTES as u64 {
        // No sections at all.
        return Ok(Vec::new());
    }
    let mut sections = vec![0; number(&header, 0x3c, 2) as usize * SECTION_BYTES];
    file.read_exact_at(&mut sections, table)?;
    let (sections, _) = sections.as_chunks::<SECTION_BYTES>();
    let Some(symbols) = sections.iter().find(|section| number(*section, 4, 4) == SYMBOL_TABLE.into()) else {
        return Ok(Vec::new());
    };
    let Some(strings) = sections.get(number(symbols, 0x28, 4) as usize) else { return Ok(Vec::new()) };

    let mut found = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    let (mut at, mut left) = (number(symbols, 0x18, 8), number(symbols, 0x20, 8));
    while left >= SYMBOL_BYTES as u64 {
        let length = left.min(PIECE_BYTES as u64) as usize / SYMBOL_BYTES * SYMBOL_BYTES;
        file.read_exact_at(&mut piece[..length], at)?;
        for symbol in piece[..length].as_chunks::<SYMBOL_BYTES>().0 {
            let is_defined = number(symbol, 6, 2) != 0;
            if symbol[4] & 0xf == TLS_TYPE && is_defined {
                let name = number(symbol, 0, 4);
                found.push(Symbol {
                    name: name_at(&file, number(strings, 0x18, 8) + name)?,
                    offset: number(symbol, 8, 8) as usize,
                    size: number(symbol, 16, 8) as usize,
                });
            }
        }
        at += length as u64;
        left -= length as u64;
    }
    Ok(found)
}

/// The little-endian number of `length` bytes at `at`.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The name at a place of the file, demangled, without hashes.
fn name_at(file: &File, at: u64) -> io::Result<String> {
    let mut bytes = [0; MOST_NAME_BYTES];
    let mut length = 0;
    while length < bytes.len() && !bytes[..length].contains(&0) {
        match file.read_at(&mut bytes[length..], at + length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    let name = bytes[..length].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(format!("{:#}", backtrace::SymbolName::new(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_is_recognised_by_its_whole_path() {
        assert!(is_named("a::b::KEY::{{constant}}::VAL", "a::b::KEY"));
        assert!(is_named("a::b::KEY", "a::b::KEY"));
        assert!(!is_named("a::b::KEYS::VAL", "a::b::KEY"));
        assert!(!is_named("x::a::b::KEY", "a::b::KEY"));
    }

    #[test]
    fn the_crate_of_a_method_is_that_of_its_type() {
        assert_eq!(crate_of("tokio::park::KEY"), "tokio");
        assert_eq!(crate_of("<tokio::park::Inner>::new::KEY"), "tokio");
        assert_eq!(crate_of("KEY"), "KEY");
    }

    #[test]
    fn numbers_are_little_endian() {
        assert_eq!(number(&[9, 1, 2, 0, 0], 1, 4), 0x201);
    }

    #[test]
    fn what_is_not_an_elf_file_is_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, [b'x'; 100]).unwrap();
        assert_eq!(tls_symbols(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::write(&path, b"\x7fELF").unwrap();
        assert_eq!(tls_symbols(&path).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_without_symbols_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stripped");
        let mut header = [0; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        std::fs::write(&path, header).unwrap();
        assert!(tls_symbols(&path).unwrap().is_empty());
    }

    #[test]
    fn the_symbols_of_a_replaced_program_are_refused() {
        let anchor = super::super::ANCHOR.with(|anchor| ptr::from_ref(anchor).addr());
        let module = module_of(anchor).unwrap();
        assert!(module.map(anchor).is_ok());
        // As if the thread-local were elsewhere than its symbol says.
        let moved = Module { block: module.block - 8, ..module_of(anchor).unwrap() };
        assert_eq!(moved.map(anchor).err(), Some(ThreadLocalsError::OtherProgram));
    }

    #[test]
    fn what_a_new_thread_finds_is_what_the_template_says() {
        thread_local! {
            static MARKED: std::cell::Cell<u64> = const { std::cell::Cell::new(0x0123_4567_89ab_cdef) };
        }
        let anchor = super::super::ANCHOR.with(|anchor| ptr::from_ref(anchor).addr());
        let module = module_of(anchor).unwrap();
        let offset = MARKED.with(|marked| ptr::from_ref(marked).addr()) - module.block;
        assert_eq!(number(module.template, offset, 8), MARKED.get());
        MARKED.set(1);
        assert_eq!(number(module.template, offset, 8), 0x0123_4567_89ab_cdef);
    }
}
