//! From a copied stack to the addresses of its frames.
//!
//! Unwinding follows the call frame information (`.eh_frame`) that every program has for panics, so it needs neither
//! frame pointers nor debug information. The tables of all loaded modules are copied while the loader holds still,
//! because a library may be unloaded while they are in use. Done on the asker's thread.

/// Frames of one backtrace, at most.
const MAX_FRAMES: usize = 256;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::Unwinder;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use elsewhere::Unwinder;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
    use framehop::{ExplicitModuleSectionInfo, Module, Unwinder as _};

    use super::MAX_FRAMES;
    use crate::dump::capture::{Capture, StackCopy};

    /// The unwind tables of the program and its libraries as they are now.
    pub(crate) struct Unwinder {
        unwinder: UnwinderX86_64<Vec<u8>>,
        cache: CacheX86_64,
    }

    impl Unwinder {
        pub(crate) fn new() -> Self {
            let mut unwinder = UnwinderX86_64::new();
            for module in modules() {
                unwinder.add_module(module);
            }
            Unwinder { unwinder, cache: CacheX86_64::new() }
        }

        /// The addresses of a copied stack's frames, innermost first. All but the first of an interrupted fiber are
        /// return addresses.
        pub(crate) fn unwind(&mut self, capture: &Capture, stack: &StackCopy) -> Vec<u64> {
            let registers = stack.registers;
            let words = capture.words(stack);
            let mut read = |address: u64| {
                let offset = address.checked_sub(registers.sp).ok_or(())?;
                if !offset.is_multiple_of(8) {
                    return Err(());
                }
                words.get((offset / 8) as usize).copied().ok_or(())
            };
            let start = UnwindRegsX86_64::new(registers.ip, registers.sp, registers.bp);
            let mut frames = self.unwinder.iter_frames(registers.ip, start, &mut self.cache, &mut read);
            let mut addresses = Vec::new();
            // An error is how most backtraces end: at the fiber's base, outside of the copy.
            while let Ok(Some(frame)) = frames.next() {
                addresses.push(frame.address());
                if addresses.len() == MAX_FRAMES {
                    break;
                }
            }
            addresses
        }
    }

    /// Every loaded module that has unwind tables.
    fn modules() -> Vec<Module<Vec<u8>>> {
        let mut modules: Vec<Module<Vec<u8>>> = Vec::new();
        // SAFETY: `add` has the signature the function wants, and `modules` is what it expects behind the pointer.
        unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut modules).cast()) };
        modules
    }

    unsafe extern "C" fn add(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        modules: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the loader passes a valid description, and back the pointer that `modules` gave it.
        let (info, modules) = unsafe { (&*info, &mut *modules.cast::<Vec<Module<Vec<u8>>>>()) };
        // SAFETY: the loader describes a mapped module and holds its lock, so the module stays mapped meanwhile.
        if let Some(module) = unsafe { describe(info) } {
            modules.push(module);
        }
        0
    }

    /// # Safety
    /// `info` describes a module that is mapped and stays so during the call.
    unsafe fn describe(info: &libc::dl_phdr_info) -> Option<Module<Vec<u8>>> {
        if info.dlpi_phdr.is_null() {
            return None;
        }
        // SAFETY: the loader's table has as many entries as it says.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let base = info.dlpi_addr;
        let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        let start = loaded().map(|header| header.p_vaddr).min()?;
        let end = loaded().map(|header| header.p_vaddr + header.p_memsz).max()?;
        let index = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME)?;
        // SAFETY: as the table of headers says, these bytes of the module are mapped readable.
        let index_bytes = unsafe { bytes(base + index.p_vaddr, index.p_memsz) };
        // The second byte says how the address of `.eh_frame` is written; every linker here writes it relative to
        // itself in four bytes.
        const RELATIVE_SIGNED_4: u8 = 0x1b;
        if *index_bytes.get(1)? != RELATIVE_SIGNED_4 {
            return None;
        }
        let distance = i32::from_le_bytes(index_bytes.get(4..8)?.try_into().ok()?);
        let frames = (index.p_vaddr + 4).checked_add_signed(i64::from(distance))?;
        // Its length is not written anywhere; it ends before its segment does.
        let segment =
            loaded().find(|header| (header.p_vaddr..header.p_vaddr + header.p_memsz).contains(&frames))?;
        let frames_end = segment.p_vaddr + segment.p_memsz;
        // SAFETY: as above.
        let frame_bytes = unsafe { bytes(base + frames, frames_end - frames) };
        let sections = ExplicitModuleSectionInfo {
            eh_frame_svma: Some(frames..frames_end),
            eh_frame: Some(frame_bytes),
            eh_frame_hdr_svma: Some(index.p_vaddr..index.p_vaddr + index.p_memsz),
            eh_frame_hdr: Some(index_bytes),
            ..ExplicitModuleSectionInfo::default()
        };
        Some(Module::new(String::new(), base + start..base + end, base, sections))
    }

    /// # Safety
    /// `length` bytes at `address` are mapped readable and do not change.
    unsafe fn bytes(address: u64, length: u64) -> Vec<u8> {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(address as *const u8, length as usize) }.to_vec()
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use crate::dump::capture::{Capture, StackCopy};

    /// No unwinder: backtraces are empty.
    pub(crate) struct Unwinder;

    impl Unwinder {
        pub(crate) fn new() -> Self {
            Unwinder
        }

        pub(crate) fn unwind(&mut self, _capture: &Capture, _stack: &StackCopy) -> Vec<u64> {
            Vec::new()
        }
    }
}
