//! The models, one topic a file.

mod depot;
mod futex;
mod inbox;
mod join;

mod port;
mod search;
mod wake;

use std::ptr::NonNull;

use crate::fiber::header::Header;
use crate::world::eventfd;

/// Explores `model`. `preemptions` bounds how often a thread may be interrupted where it does not wait: with two, nearly
/// all known bugs of such code show; `LOOM_MAX_PREEMPTIONS` raises it.
pub(crate) fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.max(Some(preemptions));
    builder.max_branches = 20_000;
    builder.check(move || {
        model();
        eventfd::close_all();
    });
}

/// Fibers that live as long as the closure that gets them, and everything that it started.
fn with_fibers<const COUNT: usize>(body: impl FnOnce([&'static Header; COUNT])) {
    let fibers: [Box<Header>; COUNT] = std::array::from_fn(|number| Box::new(Header::new(number)));
    // SAFETY: the models join what they start, so nothing uses a fiber after `body`.
    body(fibers.each_ref().map(|fiber| unsafe { NonNull::from(&**fiber).as_ref() }));
}
