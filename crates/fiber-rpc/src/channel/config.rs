//! Every figure of a channel, with its default.

use std::time::Duration;

use crate::backoff::BackoffConfig;
use crate::frame::FrameLimits;
use crate::health::HealthConfig;

/// Figures of a [`Channel`](super::Channel). The default is the seed's; [`lan`](Self::lan) and [`wan`](Self::wan) are
/// tighter and looser.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// Pings and what follows from them. Default: every 10 s, 5 s while probing, 5 s to answer, 3 failures.
    pub health: HealthConfig,
    /// A connect that takes longer has failed. Default 5 s.
    pub connect_timeout: Duration,
    /// Delays between attempts to connect, which go on without end. Default 50 ms to 2 s.
    pub backoff: BackoffConfig,
    /// Seed of the jitter. Default none: the simulator's in a simulation, else a random one.
    pub seed: Option<u64>,
    /// Sizes that are sent and accepted. Default 8 KiB of header, 64 MiB of payload.
    pub frame: FrameLimits,
    /// Calls in flight; one more fails as not sent. Default 65,536.
    pub max_calls: usize,
    /// Frames that wait to be sent. At the limit a call waits for room, a one-way send fails. Default 16,384.
    pub outbox_frames: usize,
    /// Bytes that wait to be sent, as above. Default 32 MiB.
    pub outbox_bytes: usize,
    /// A peer that takes no byte for so long, while there are some, is gone. Default 15 s.
    pub write_timeout: Duration,
    /// A reply must be complete so long after its first byte, plus its size at `min_bytes_per_second`. Default 30 s.
    pub frame_timeout: Duration,
    /// See `frame_timeout`. Default 256 KiB/s.
    pub min_bytes_per_second: u64,
}

impl Default for ChannelConfig {
    fn default() -> ChannelConfig {
        ChannelConfig {
            health: HealthConfig::default(),
            connect_timeout: Duration::from_secs(5),
            backoff: BackoffConfig::default(),
            seed: None,
            frame: FrameLimits::default(),
            max_calls: 65_536,
            outbox_frames: 16_384,
            outbox_bytes: 32 << 20,
            write_timeout: Duration::from_secs(15),
            frame_timeout: Duration::from_secs(30),
            min_bytes_per_second: 256 << 10,
        }
    }
}

impl ChannelConfig {
    /// For peers in one data centre: a dead one is noticed within about 4 s, a restarted one within 500 ms.
    pub fn lan() -> ChannelConfig {
        ChannelConfig {
            health: HealthConfig {
                heartbeat_interval: Duration::from_secs(1),
                probe_interval: Duration::from_secs(1),
                ping_timeout: Duration::from_secs(1),
                max_failures: 3,
            },
            connect_timeout: Duration::from_secs(1),
            backoff: BackoffConfig { initial: Duration::from_millis(20), max: Duration::from_millis(500) },
            write_timeout: Duration::from_secs(3),
            ..ChannelConfig::default()
        }
    }

    /// For peers far apart, over lines that stall: a dead one is noticed within about a minute.
    pub fn wan() -> ChannelConfig {
        ChannelConfig {
            health: HealthConfig {
                heartbeat_interval: Duration::from_secs(20),
                probe_interval: Duration::from_secs(10),
                ping_timeout: Duration::from_secs(10),
                max_failures: 4,
            },
            connect_timeout: Duration::from_secs(15),
            backoff: BackoffConfig { initial: Duration::from_millis(200), max: Duration::from_secs(15) },
            write_timeout: Duration::from_secs(40),
            frame_timeout: Duration::from_secs(60),
            min_bytes_per_second: 16 << 10,
            ..ChannelConfig::default()
        }
    }
}
