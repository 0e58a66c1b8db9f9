//! The wheel against a sorted list, and its edges.

use std::collections::BTreeMap;

use super::*;

const TICK: u64 = 1 << TICK_SHIFT;

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn nodes(count: usize) -> Vec<TimerNode> {
    (0..count).map(|_| TimerNode::new()).collect()
}

fn pointer(node: &TimerNode) -> NonNull<TimerNode> {
    NonNull::from(node)
}

/// Arms a node of a test, which keeps its nodes until the wheel is gone.
fn arm(wheel: &mut Wheel, node: &TimerNode, deadline: u64) -> bool {
    // SAFETY: nodes do not move, outlive the wheel, and are of this thread.
    unsafe { wheel.arm(pointer(node), deadline) }.is_some()
}

fn disarm(wheel: &mut Wheel, node: &TimerNode) {
    // SAFETY: there is one wheel in each test.
    unsafe { wheel.disarm(node) }
}

#[test]
fn it_fires_what_a_sorted_list_would_fire() {
    // Under miri, which takes a thousand times as long, a few.
    for seed in 0..if cfg!(miri) { 1 } else { 50 } {
        let mut state = seed;
        let timers = nodes(64);
        let mut now = random(&mut state) % (1 << 40);
        let mut wheel = Wheel::new(now);
        let mut model: BTreeMap<usize, u64> = BTreeMap::new();
        for _ in 0..if cfg!(miri) { 400 } else { 4000 } {
            let at = random(&mut state) as usize % timers.len();
            match random(&mut state) % 4 {
                0 | 1 => {
                    if !timers[at].is_armed() {
                        let span = 1u64 << (random(&mut state) % 45);
                        let deadline = now + random(&mut state) % span;
                        let armed = arm(&mut wheel, &timers[at], deadline);
                        assert_eq!(armed, deadline.div_ceil(TICK) > now >> TICK_SHIFT);
                        if armed {
                            model.insert(at, deadline);
                        }
                    }
                }
                2 => {
                    disarm(&mut wheel, &timers[at]);
                    model.remove(&at);
                }
                _ => {
                    now += random(&mut state) % (1u64 << (random(&mut state) % 42));
                    let mut fired = Vec::new();
                    wheel.advance(now, |node| {
                        fired.push(timers.iter().position(|timer| pointer(timer) == node).unwrap());
                    });
                    let mut last = 0;
                    for at in fired {
                        let deadline = model.remove(&at).expect("it was armed");
                        assert!(deadline <= now, "fired {} ns early", deadline - now);
                        assert!(deadline.div_ceil(TICK) >= last, "out of order");
                        last = deadline.div_ceil(TICK);
                        assert!(!timers[at].is_armed());
                    }
                    let late = model.values().find(|deadline| deadline.div_ceil(TICK) <= now >> TICK_SHIFT);
                    assert_eq!(late, None, "due at {now} and did not fire");
                }
            }
            assert_eq!(wheel.armed(), model.len());
            let earliest = model.values().map(|deadline| deadline.div_ceil(TICK) * TICK).min();
            match (wheel.next_deadline_nanos(), earliest) {
                (None, None) => {}
                (Some(next), Some(earliest)) => assert!(next <= earliest, "{next} is after {earliest}"),
                (next, earliest) => panic!("{next:?} for {earliest:?}"),
            }
        }
    }
}

#[test]
fn a_lone_timer_is_announced_exactly() {
    for span in [1, 100, 10_000, 1 << 20, 1 << 30, 1 << 40, 1 << 50] {
        let timer = TimerNode::new();
        let mut wheel = Wheel::new(12_345_678);
        let deadline = 12_345_678 + span * TICK;
        assert!(arm(&mut wheel, &timer, deadline));
        assert_eq!(wheel.next_deadline_nanos(), Some(deadline.div_ceil(TICK) * TICK));
        disarm(&mut wheel, &timer);
        assert_eq!(wheel.next_deadline_nanos(), None);
    }
}

#[test]
fn deadlines_without_end_do_not_overflow() {
    let timers = nodes(3);
    let mut wheel = Wheel::new(1_000_000_000);
    assert!(arm(&mut wheel, &timers[0], u64::MAX));
    assert!(arm(&mut wheel, &timers[1], u64::MAX - 1));
    assert!(arm(&mut wheel, &timers[2], 2_000_000_000));
    let mut fired = 0;
    wheel.advance(3_000_000_000, |_| fired += 1);
    assert_eq!(fired, 1);
    assert!(wheel.next_deadline_nanos().unwrap() > u64::MAX / 2);
    disarm(&mut wheel, &timers[0]);
    disarm(&mut wheel, &timers[1]);
    assert_eq!(wheel.armed(), 0);
}

#[test]
fn a_past_deadline_is_not_armed() {
    let timer = TimerNode::new();
    let mut wheel = Wheel::new(5_000_000);
    assert!(!arm(&mut wheel, &timer, 0));
    assert!(!arm(&mut wheel, &timer, 4_000_000));
    assert!(!timer.is_armed());
    wheel.advance(9_000_000, |_| unreachable!("nothing is armed"));
    assert!(!arm(&mut wheel, &timer, 8_000_000));
}

#[test]
fn timers_of_one_tick_fire_in_the_order_of_arming() {
    let timers = nodes(10);
    let mut wheel = Wheel::new(0);
    for timer in &timers {
        assert!(arm(&mut wheel, timer, 100_000_000));
    }
    let mut order = Vec::new();
    wheel.advance(200_000_000, |node| {
        order.push(timers.iter().position(|timer| pointer(timer) == node).unwrap());
    });
    assert_eq!(order, (0..10).collect::<Vec<_>>());
}
