//! What is left of a caller's buffers once some of their bytes have gone.

use std::mem::MaybeUninit;

use libc::iovec;

/// Buffers that a window has room for: what is beyond them goes with the next one.
const WINDOW: usize = 64;

/// The most that the kernel moves in one call (`MAX_RW_COUNT`); longer calls are short.
pub(super) const MOST: usize = 0x7fff_f000;

/// A part of some buffers, as buffers of its own.
pub(super) struct Window {
    vectors: [MaybeUninit<iovec>; WINDOW],
    used: usize,
}

impl Window {
    /// The part after the first `skip` bytes, of no more than `most` bytes.
    pub(super) fn after(mut skip: usize, buffers: &[iovec], mut most: usize) -> Self {
        let mut window = Window { vectors: [MaybeUninit::uninit(); WINDOW], used: 0 };
        for buffer in buffers {
            if skip >= buffer.iov_len {
                skip -= buffer.iov_len;
                continue;
            }
            let length = (buffer.iov_len - skip).min(most);
            if length == 0 || window.used == WINDOW {
                break;
            }
            window.vectors[window.used]
                .write(iovec { iov_base: buffer.iov_base.wrapping_byte_add(skip), iov_len: length });
            (window.used, most, skip) = (window.used + 1, most - length, 0);
        }
        window
    }

    /// Where it begins, and how many buffers it has.
    pub(super) fn as_raw(&self) -> (*const iovec, usize) {
        (self.vectors.as_ptr().cast(), self.used)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }
}

/// The caller's buffers.
///
/// # Safety
/// The kernel has accepted them, or the caller of the hook vouches for them, and leaves them alone during the call.
pub(super) unsafe fn buffers<'a>((vectors, count): (*const iovec, usize)) -> &'a [iovec] {
    match count {
        0 => &[],
        // SAFETY: the caller's promise.
        _ => unsafe { std::slice::from_raw_parts(vectors, count) },
    }
}

/// How many bytes of them the kernel would move.
pub(super) fn total(buffers: &[iovec]) -> usize {
    buffers.iter().fold(0, |total: usize, buffer| total.saturating_add(buffer.iov_len)).min(MOST)
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    fn lengths(window: &Window) -> Vec<(usize, usize)> {
        let (vectors, count) = window.as_raw();
        // SAFETY: the window has written that many.
        let vectors = unsafe { std::slice::from_raw_parts(vectors, count) };
        vectors.iter().map(|vector| (vector.iov_base.addr(), vector.iov_len)).collect()
    }

    #[test]
    fn a_window_begins_where_the_last_one_ended_and_ends_at_its_limit() {
        let buffer = |at, iov_len| iovec { iov_base: ptr::without_provenance_mut(at), iov_len };
        let buffers = [buffer(100, 10), buffer(200, 0), buffer(300, 10), buffer(400, 10)];
        assert_eq!(lengths(&Window::after(0, &buffers, MOST)), [(100, 10), (300, 10), (400, 10)]);
        assert_eq!(lengths(&Window::after(4, &buffers, 12)), [(104, 6), (300, 6)]);
        assert_eq!(lengths(&Window::after(10, &buffers, 10)), [(300, 10)]);
        assert_eq!(lengths(&Window::after(29, &buffers, 10)), [(409, 1)]);
        assert!(Window::after(30, &buffers, 10).is_empty());
        assert_eq!(total(&buffers), 30);
    }

    #[test]
    fn a_window_has_a_bounded_number_of_buffers() {
        let many: Vec<_> =
            (0..100).map(|at| iovec { iov_base: ptr::without_provenance_mut(at * 8), iov_len: 8 }).collect();
        let first = Window::after(0, &many, MOST);
        assert_eq!(lengths(&first).len(), WINDOW);
        assert_eq!(lengths(&Window::after(WINDOW * 8, &many, MOST)).len(), 100 - WINDOW);
    }
}
