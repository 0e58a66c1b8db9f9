//! What may cross and be shared between threads, checked by the compiler.

use std::cell::Cell;
use std::rc::Rc;

use fiber_runtime::sync::{
    Barrier, Condvar, Lazy, Mutex, MutexGuard, Notified, Notify, Once, OnceCell, OwnedPermit, RwLock,
    Semaphore, WaitGroup, broadcast, channel, oneshot, watch,
};

const fn is_send<T: Send>() {}
const fn is_sync<T: Sync>() {}

#[test]
fn primitives_are_shared_and_moved_between_threads() {
    const {
        is_sync::<Barrier>();
        is_sync::<Condvar>();
        is_sync::<Notify>();
        is_sync::<Once>();
        is_sync::<Semaphore>();
        is_sync::<WaitGroup>();
        is_send::<Notified<'static>>();
        is_send::<OwnedPermit>();
        is_send::<Notify>();
        is_send::<Barrier>();
        is_sync::<Lazy<String>>();
        is_sync::<OnceCell<String>>();
        is_sync::<RwLock<String>>();
        // A value that may be moved but not shared: what hands it to one at a time is shared all the same.
        is_sync::<Mutex<Cell<u8>>>();
        is_send::<OnceCell<Cell<u8>>>();
        is_sync::<MutexGuard<'static, u8>>();
        is_sync::<channel::Sender<Cell<u8>>>();
        is_sync::<channel::Receiver<Cell<u8>>>();
        is_send::<oneshot::Sender<Cell<u8>>>();
        is_send::<oneshot::Receiver<Cell<u8>>>();
        is_sync::<watch::Sender<String>>();
        is_send::<watch::Receiver<String>>();
        is_sync::<broadcast::Sender<String>>();
        is_send::<broadcast::Receiver<String>>();
    }
    // And on one thread, for whatever stays there.
    let (sender, receiver) = channel::bounded(1);
    assert!(sender.send(Rc::new(1)).is_ok());
    assert_eq!(receiver.recv().as_deref(), Ok(&1));
}
