//! Tests of who is told what.

use fiber_runtime::sync::oneshot;

use super::*;

type Client = oneshot::Receiver<Result<Vec<u64>, ProposeError>>;

struct Bench {
    waiting: Waiting<u64>,
    gauge: Arc<Gauge>,
}

impl Bench {
    fn new() -> Bench {
        Bench { waiting: Waiting::new(), gauge: Arc::new(Gauge::new(10, 100)) }
    }

    fn expect(&mut self, term: u64, index: u64, count: u64) -> Client {
        let (reply, client) = oneshot::channel();
        let admission = self.gauge.admit(count as usize, 1).unwrap();
        let first = EntryId { term, index };
        self.waiting.expect(Expectation { first, count, outputs: Vec::new(), reply, admission });
        client
    }

    fn apply(&mut self, term: u64, indices: std::ops::RangeInclusive<u64>) {
        for index in indices {
            self.waiting.applied(EntryId { term, index }, Some(index * 10), Some(NodeId(8)));
        }
        self.waiting.answer();
    }
}

fn lost() -> Result<Vec<u64>, ProposeError> {
    Err(ProposeError::NotLeader { leader: Some(NodeId(8)) })
}

#[test]
fn results_come_in_order_and_per_batch() {
    let mut bench = Bench::new();
    let (one, two) = (bench.expect(3, 5, 2), bench.expect(3, 7, 1));
    bench.apply(3, 4..=6);
    assert_eq!(one.try_recv().unwrap().unwrap(), [50, 60]);
    assert!(two.try_recv().is_err());
    bench.apply(3, 7..=7);
    assert_eq!(two.try_recv().unwrap().unwrap(), [70]);
    assert_eq!(bench.gauge.commands(), 0);
}

#[test]
fn a_batch_that_another_leader_replaced_is_not_appended() {
    let mut bench = Bench::new();
    let (one, two) = (bench.expect(3, 5, 2), bench.expect(3, 7, 1));
    bench.apply(4, 5..=5);
    assert_eq!(one.try_recv().unwrap(), lost());
    assert_eq!(two.try_recv().unwrap(), lost(), "what follows in the same term is lost with it");
    assert_eq!(bench.gauge.commands(), 0);
}

#[test]
fn a_batch_that_was_replaced_in_part_is_unknown() {
    let mut bench = Bench::new();
    let client = bench.expect(3, 5, 3);
    bench.apply(3, 5..=6);
    bench.apply(4, 7..=7);
    assert!(matches!(client.try_recv().unwrap(), Err(ProposeError::OutcomeUnknown { .. })));
}

#[test]
fn an_overwritten_batch_is_undecided_until_its_index_is_applied() {
    // Term 3 appends at 5, loses the leadership, is overwritten by term 4, leads again in term 5 and appends at 6.
    let mut bench = Bench::new();
    let old = bench.expect(3, 5, 1);
    let new = bench.expect(5, 6, 1);
    assert!(old.try_recv().is_err(), "until then it could still commit through another node");
    bench.apply(4, 5..=5);
    assert_eq!(old.try_recv().unwrap(), lost());
    bench.apply(5, 6..=6);
    assert_eq!(new.try_recv().unwrap().unwrap(), [60]);
}

#[test]
fn a_batch_of_an_earlier_leadership_may_still_commit() {
    let mut bench = Bench::new();
    let old = bench.expect(3, 5, 2);
    let new = bench.expect(5, 8, 1);
    bench.apply(3, 5..=6);
    assert_eq!(old.try_recv().unwrap().unwrap(), [50, 60]);
    bench.waiting.applied(EntryId { term: 5, index: 7 }, None, None);
    bench.apply(5, 8..=8);
    assert_eq!(new.try_recv().unwrap().unwrap(), [80]);
}

#[test]
fn a_snapshot_leaves_the_outcome_unknown() {
    let mut bench = Bench::new();
    let (before, after) = (bench.expect(3, 5, 1), bench.expect(3, 9, 1));
    bench.waiting.restored(7);
    bench.waiting.answer();
    assert!(matches!(before.try_recv().unwrap(), Err(ProposeError::OutcomeUnknown { .. })));
    bench.apply(3, 9..=9);
    assert_eq!(after.try_recv().unwrap().unwrap(), [90]);
}

#[test]
fn a_full_gauge_refuses_but_an_empty_one_takes_anything() {
    let gauge = Arc::new(Gauge::new(3, 100));
    let large = gauge.admit(9, 5000).expect("alone");
    assert!(gauge.admit(1, 1).is_none());
    drop(large);
    let two = gauge.admit(2, 50).unwrap();
    assert!(gauge.admit(2, 10).is_none());
    assert!(gauge.admit(1, 60).is_none());
    let one = gauge.admit(1, 50).unwrap();
    drop((one, two));
    assert_eq!(gauge.commands(), 0);
}
