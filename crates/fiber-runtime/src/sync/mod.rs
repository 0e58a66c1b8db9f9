//! Fiber-aware synchronisation: mutex, condition variable, semaphore, channels, wait group.
