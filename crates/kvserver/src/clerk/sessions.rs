//! The clerk's sessions: each is used by one write at a time, and kept for the next one.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use fiber_runtime::sim;
use fiber_runtime::sync::Spin;

use crate::command::Session;

/// Sessions that no write uses now.
#[derive(Debug)]
pub(super) struct Sessions {
    idle: Spin<Vec<Session>>,
    most: usize,
    /// Drawn at random once; the low half counts the sessions made from it.
    base: u128,
    made: AtomicU64,
}

impl Sessions {
    pub(super) fn new(most: usize) -> io::Result<Sessions> {
        Ok(Sessions { idle: Spin::new(Vec::new()), most, base: random()?, made: AtomicU64::new(0) })
    }

    pub(super) fn take(&self) -> Option<Session> {
        self.idle.lock(Vec::pop)
    }

    /// A session with an id nobody else has, not registered yet.
    pub(super) fn make(&self) -> Session {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        Session { client_id: self.base.wrapping_add(u128::from(number)), sequence: 0 }
    }

    /// Keeps a session for later writes; beyond the limit it is left to be evicted.
    pub(super) fn put_back(&self, session: Session) {
        self.idle.lock(|idle| {
            if idle.len() < self.most {
                idle.push(session);
            }
        });
    }
}

/// 128 bits that no other process draws; in a simulation, from its seed.
fn random() -> io::Result<u128> {
    if sim::is_simulated() {
        return Ok(u128::from(sim::random_u64()) << 64 | u128::from(sim::random_u64()));
    }
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

/// A number in `0.0..1.0` for jitter. Not for anything that must be unpredictable.
pub(super) fn fraction() -> f64 {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let number = if sim::is_simulated() {
        sim::random_u64()
    } else {
        // A Weyl sequence, scrambled (splitmix64).
        let mut z = STATE.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed) ^ u64::from(std::process::id());
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    (number >> 11) as f64 / (1_u64 << 53) as f64
}
