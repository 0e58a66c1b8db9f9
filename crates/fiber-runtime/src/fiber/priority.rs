//! A hint of how urgent a fiber is.

use super::header::Header;

/// How urgent a fiber is, compared with others of its worker. A hint: it changes who goes first, not who goes.
///
/// No fiber starves: of 64 turns of a worker, at most 16 go to fibers that were let in front, and at least one to a fiber
/// of low priority if one is ready. Fibers give way by themselves only, so a long computation delays urgent fibers
/// whatever its priority; let it yield now and then.
///
/// A [simulation](crate::sim) ignores it, for it explores every order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// When it is spawned and whenever it is woken, it goes first: before fibers that were ready earlier. If it may start
    /// on any worker, it starts on the one that spawns it.
    High,
    /// In the order of becoming ready.
    #[default]
    Normal,
    /// When nothing else is ready on its worker and there is nothing to take over from others.
    Low,
}

impl Header {
    pub(crate) fn priority(&self) -> Priority {
        self.extras.get().map_or(Priority::Normal, |extras| extras.priority.get())
    }

    /// True once, for a fiber of low priority that was not put off before.
    pub(crate) fn defer_once(&self) -> bool {
        self.priority() == Priority::Low
            && self.extras.get().is_some_and(|extras| !extras.deferred.replace(true))
    }
}
