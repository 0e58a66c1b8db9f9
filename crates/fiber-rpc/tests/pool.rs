//! The pool: few connections for many calls, and none for nobody.

mod support;

use bytes::Bytes;
use fiber_rpc::{ChannelState, Pool, PoolConfig, ServerLimits};
use fiber_runtime::{spawn, time};
use support::*;

#[test]
fn thousand_concurrent_calls_open_at_most_ten_connections() {
    run(2, || {
        let server = serve(ServerLimits::default());
        let address = server.local_addr();
        let pool = Pool::new(PoolConfig::default());
        let callers: Vec<_> = (0..1000)
            .map(|caller: u32| {
                let pool = pool.clone();
                spawn(move || {
                    let payload = Bytes::from(format!("{}", 20 + caller % 20));
                    pool.channel(address)
                        .call(ANY, "sleep", payload.clone(), soon())
                        .map(|reply| reply == payload)
                })
            })
            .collect();
        for caller in callers {
            assert!(caller.join().unwrap().unwrap());
        }
        let (accepted, stats) = (server.stats().accepted, pool.stats());
        assert!((1..=10).contains(&accepted), "{accepted} connections");
        assert_eq!(stats.created + stats.reused, 1000);
        assert!(stats.reuse_ratio() > 0.9, "{stats:?}");
        drop(pool);
        server.shutdown(soon());
    });
}

#[test]
fn busy_channels_get_company_up_to_the_limit() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let address = server.local_addr();
        let config =
            PoolConfig { calls_per_connection: 1, max_connections_per_peer: 3, ..PoolConfig::default() };
        let pool = Pool::new(config);
        let first = pool.channel(address);
        first.connect();
        assert!(first.wait_state(ChannelState::Healthy, soon()));
        let mut callers = Vec::new();
        for running in 1..=12 {
            let channel = pool.channel(address);
            channel.connect();
            assert!(channel.wait_state(ChannelState::Healthy, soon()));
            callers.push(spawn(move || channel.call(ANY, "sleep", Bytes::from("500"), soon())));
            eventually("the call runs", || server.stats().calls_running >= running);
        }
        assert_eq!(server.stats().accepted, 3);
        assert_eq!(pool.stats().channels, 3);
        for caller in callers {
            caller.join().unwrap().unwrap();
        }
        drop(pool);
        drop(first);
        server.shutdown(soon());
    });
}

#[test]
fn idle_channels_are_discarded_and_held_ones_are_not() {
    run(1, || {
        let servers = [serve(ServerLimits::default()), serve(ServerLimits::default())];
        let pool = Pool::new(PoolConfig { idle_timeout: millis(60), ..PoolConfig::default() });
        let held = pool.channel(servers[0].local_addr());
        held.call(ANY, "echo", Bytes::new(), soon()).unwrap();
        pool.channel(servers[1].local_addr()).call(ANY, "echo", Bytes::new(), soon()).unwrap();
        assert_eq!((pool.stats().channels, pool.stats().peers), (2, 2));
        eventually("the idle one is closed", || servers[1].stats().connections == 0);
        assert_eq!((pool.stats().discarded, pool.stats().channels), (1, 1));
        assert_eq!(servers[0].stats().connections, 1);
        drop(held);
        eventually("and the other one, once nobody holds it", || servers[0].stats().connections == 0);
        // The pool works on.
        pool.channel(servers[1].local_addr()).call(ANY, "echo", Bytes::new(), soon()).unwrap();
        assert_eq!(pool.stats().created, 3);
        drop(pool);
        for server in servers {
            server.shutdown(soon());
        }
    });
}

#[test]
fn dropped_pool_closes_its_channels() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let pool = Pool::new(PoolConfig::default());
        pool.channel(server.local_addr()).call(ANY, "echo", Bytes::new(), soon()).unwrap();
        assert_eq!(server.stats().connections, 1);
        drop(pool);
        eventually("the connection ends", || server.stats().connections == 0);
        server.shutdown(soon());
    });
}

#[test]
fn dead_peer_gets_one_channel_and_calls_fail_at_once() {
    run(1, || {
        let server = serve(ServerLimits::default());
        let address = server.local_addr();
        server.shutdown(soon());
        drop(server);
        let pool =
            Pool::new(PoolConfig { channel: patient(), calls_per_connection: 0, ..PoolConfig::default() });
        let begin = time::now();
        for _ in 0..50 {
            assert!(pool.channel(address).call(ANY, "echo", Bytes::new(), soon()).unwrap_err().is_not_sent());
        }
        assert!(begin.elapsed() < millis(5000));
        assert_eq!(pool.stats().created, 1);
    });
}
