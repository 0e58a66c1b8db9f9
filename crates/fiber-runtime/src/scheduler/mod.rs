//! Workers: threads that run fibers.
//!
//! ```text
//!                      +------------------------ worker (one thread) -------------------------+
//!   other threads  --> | port: inbox, control, eventfd      ready: started fibers, FIFO       |
//!                      |                                    young: un-started, pinned          |
//!                      |                                    fresh: un-started, stealable ------+--> other workers
//!                      | reactor (epoll)  timers (wheel)    stacks (cache)                    |
//!                      +----------------------------------------------------------------------+
//! ```
//!
//! - [`port`]: the part of a worker that others may touch; [`inbox`]: its queue; [`running`]: who runs there.
//! - [`shared`]: what the workers of one runtime have in common, and where fibers from outside are placed; [`ids`]: their
//!   numbers.
//! - [`worker`]: a worker's own state; [`ready`], [`young`]: its queues; [`run`]: its loop; [`idle`]: stealing and sleeping, in the
//!   order that [`random`] gives.
//! - [`census`]: going through a worker's fibers, for dumps; [`gauges`]: figures that it publishes.

pub(crate) mod balance;
pub(crate) mod census;
mod gauges;
mod hints;
pub(crate) mod idle;
pub(crate) mod ids;
pub(crate) mod inbox;
pub(crate) mod port;
pub(crate) mod random;
pub(crate) mod ready;
pub(crate) mod run;
pub(crate) mod running;
pub(crate) mod shared;
pub(crate) mod worker;
mod young;
