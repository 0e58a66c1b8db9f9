//! Stand-in until the runtime's lands.
#[derive(Debug)]
pub(super) struct Spin<T>(std::sync::Mutex<T>);
impl<T> Spin<T> {
    pub(super) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }
    pub(super) fn lock<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock().expect("not poisoned"))
    }
}
