//! The blocking pool, of which the scheduler knows its metrics only.

use super::config::Config;
use crate::metrics::Metrics;

/// No threads.
pub(crate) struct Pool;

impl Pool {
    pub(crate) fn new(_config: &Config) -> Self {
        Pool
    }

    pub(crate) fn measure(&self, _metrics: &mut Metrics) {}
}
