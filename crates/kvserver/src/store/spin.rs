//! The lock of the store's few short critical sections, until it comes from the runtime.

/// Guards a few words for a few instructions.
#[derive(Debug)]
pub(super) struct Spin<T>(std::sync::Mutex<T>);

impl<T> Spin<T> {
    pub(super) fn new(value: T) -> Spin<T> {
        Spin(std::sync::Mutex::new(value))
    }

    pub(super) fn lock<R>(&self, critical: impl FnOnce(&mut T) -> R) -> R {
        critical(&mut self.0.lock().expect("no critical section panics"))
    }
}
