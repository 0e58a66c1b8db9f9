//! What a forked child finds of its parent's runtime: nothing.
//!
//! `fork` copies the memory of all threads but only the calling one goes on, and the epoll instances and eventfds of the
//! workers are shared with the parent. In the child no worker runs; a fiber that called `fork` is the only one, and must not
//! park. And what the child closes, as it does before it starts another program, must not take the parent's registrations
//! out of the shared instances. So the child forgets, before `fork` returns in it, that its thread is a worker's, who has
//! registered which descriptor, who waits for a lock, and whose turn it is to accept: from then on every hooked call is plain.
//!
//! The child may go on to `exec`, to `_exit`, or to a runtime of its own. It must not return from the fiber that forked, nor
//! use its parent's runtime, whose threads it does not have.
//!
//! `vfork` and `clone` with shared memory tell nobody. Their children may only start another program: what they close past
//! that counts as closed by the parent.

use std::sync::Once;

use libc::c_int;

use crate::reactor::table;
use crate::scheduler::worker::Worker;

unsafe extern "C" {
    fn pthread_atfork(
        before: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> c_int;
}

/// Lets every child of this process forget. Done once, with the first runtime.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler does nothing but stores to memory of the child's own. A failure is want of memory, after which
        // children keep what they know.
        unsafe { pthread_atfork(None, None, Some(forget)) };
    });
}

unsafe extern "C" fn forget() {
    Worker::abandon();
    table::forget();
    // SAFETY: the child has the thread that forked, and no other until this has returned.
    #[cfg(feature = "hook")]
    unsafe {
        crate::hook::futex::forget();
        crate::hook::socket::forget();
    }
}
