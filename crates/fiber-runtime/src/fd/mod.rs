//! Descriptors of any kind: readiness for those that a fiber can wait for, and the kernel's counter of events.
//!
//! [`AsyncFd`] is the way to what this crate has no type for: a device, a netlink socket, a timerfd, inotify, the
//! descriptor that a C library hands out. Sockets have [`crate::net`], pipes [`crate::pipe`], regular files
//! [`crate::fs`] (the kernel calls those always ready).

mod async_fd;
mod event_fd;

pub use crate::reactor::Interest;
pub use async_fd::AsyncFd;
pub use event_fd::EventFd;
