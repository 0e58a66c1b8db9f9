//! The state machine on a clock of plain numbers.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Runs `health` from `from` to `to` seconds after `start`, answering no ping; returns what happened when.
fn silent_peer(health: &mut Health, start: Instant, from: u64, to: u64) -> Vec<(u64, Action)> {
    let mut seen = Vec::new();
    for second in from..=to {
        loop {
            match health.poll(start + SECOND * second as u32) {
                Action::Wait => break,
                action => seen.push((second, action)),
            }
        }
    }
    seen
}

fn healthy(start: Instant) -> Health {
    let mut health = Health::new(HealthConfig::default());
    health.connected(start);
    assert_eq!(health.poll(start), Action::SendPing(1));
    health.received(start);
    assert_eq!(health.state(), ChannelState::Healthy);
    health
}

#[test]
fn a_new_channel_is_not_healthy_and_asks_for_nothing() {
    let mut health = Health::new(HealthConfig::default());
    assert_eq!(health.state(), ChannelState::Disconnected);
    assert_eq!(health.poll(Instant::now()), Action::Wait);
    assert_eq!(health.next_wake(), None);
}

#[test]
fn a_fresh_connection_is_probed_at_once_and_healthy_after_the_pong() {
    let start = Instant::now();
    let mut health = Health::new(HealthConfig::default());
    health.connected(start);
    assert_eq!(health.state(), ChannelState::Probing);
    assert_eq!(health.poll(start), Action::SendPing(1));
    assert_eq!(health.poll(start), Action::Wait);
    health.received(start + SECOND);
    assert_eq!(health.state(), ChannelState::Healthy);
    assert_eq!(health.next_wake(), Some(start + 11 * SECOND));
}

#[test]
fn silent_peer_is_gone_fifteen_seconds_after_the_first_unanswered_ping() {
    let start = Instant::now();
    let mut health = healthy(start);
    let seen = silent_peer(&mut health, start, 0, 60);
    assert_eq!(
        seen,
        [
            (10, Action::SendPing(2)),
            (15, Action::SendPing(3)),
            (20, Action::SendPing(4)),
            (25, Action::Disconnect)
        ]
    );
    assert_eq!(health.state(), ChannelState::Disconnected);
}

#[test]
fn one_missed_ping_means_probing_and_one_frame_means_healthy_again() {
    let start = Instant::now();
    let mut health = healthy(start);
    silent_peer(&mut health, start, 0, 16);
    assert_eq!((health.state(), health.failures()), (ChannelState::Probing, 1));
    health.received(start + 17 * SECOND);
    assert_eq!((health.state(), health.failures()), (ChannelState::Healthy, 0));
    assert_eq!(silent_peer(&mut health, start, 17, 26), []);
    assert_eq!(silent_peer(&mut health, start, 27, 27), [(27, Action::SendPing(4))]);
}

#[test]
fn busy_peer_is_not_pinged() {
    let start = Instant::now();
    let mut health = healthy(start);
    for second in 1..100 {
        health.received(start + SECOND * second);
        assert_eq!(health.poll(start + SECOND * second), Action::Wait);
    }
}

#[test]
fn bytes_from_before_the_ping_do_not_answer_it() {
    let start = Instant::now();
    let mut health = healthy(start);
    assert_eq!(health.poll(start + 10 * SECOND), Action::SendPing(2));
    health.received(start + 9 * SECOND);
    assert_eq!(health.next_wake(), Some(start + 15 * SECOND), "the ping still waits for its answer");
}

#[test]
fn missed_call_deadline_brings_the_ping_forward() {
    let start = Instant::now();
    let mut health = healthy(start);
    health.suspect(start + 2 * SECOND);
    assert_eq!(health.poll(start + 2 * SECOND), Action::SendPing(2));
    health.suspect(start + 3 * SECOND);
    assert_eq!(health.poll(start + 3 * SECOND), Action::Wait, "one ping at a time");
}

#[test]
fn lost_connection_forgets_pings_and_a_new_one_starts_clean() {
    let start = Instant::now();
    let mut health = healthy(start);
    silent_peer(&mut health, start, 0, 21);
    assert_eq!(health.failures(), 2);
    health.disconnected();
    health.received(start + 21 * SECOND);
    assert_eq!((health.state(), health.next_wake()), (ChannelState::Disconnected, None));
    health.connected(start + 30 * SECOND);
    assert_eq!(health.failures(), 0);
    assert_eq!(health.poll(start + 30 * SECOND), Action::SendPing(5), "numbers are never reused");
}

#[test]
fn probe_interval_longer_than_the_timeout_is_waited_for() {
    let start = Instant::now();
    let config = HealthConfig { probe_interval: 8 * SECOND, ping_timeout: 2 * SECOND, ..Default::default() };
    let mut health = Health::new(config);
    health.connected(start);
    assert_eq!(
        silent_peer(&mut health, start, 0, 40),
        [
            (0, Action::SendPing(1)),
            (8, Action::SendPing(2)),
            (16, Action::SendPing(3)),
            (18, Action::Disconnect)
        ]
    );
}
