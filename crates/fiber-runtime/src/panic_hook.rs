//! Panic messages that say which fiber.
//!
//! std's hook names the thread, which many fibers share. The hook installed here prints a line with the fiber first and
//! then calls the hook that was there.

use std::sync::Once;

use crate::scheduler::worker::Worker;

/// Installs the hook once for the process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Some(fiber) = Worker::with_current_fiber(|_, fiber| fiber.describe()) {
                eprintln!("fiber {fiber} panics:");
            }
            previous(info);
        }));
    });
}
