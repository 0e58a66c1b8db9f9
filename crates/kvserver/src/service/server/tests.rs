//! The size of replies.

use bytes::Bytes;

use super::{bound, weight};
use crate::command::{KvError, Outcome, ReadOutcome, Response, encode_answers};
use crate::node::Answer;

fn value(length: usize) -> Option<Bytes> {
    Some(Bytes::from(vec![b'v'; length]))
}

#[test]
fn replies_are_cut_to_the_frame_at_the_cost_of_reads_only() {
    let written: Answer = Ok(Response::Written(Outcome::Stored { stored: true, previous: value(500) }));
    let read: Answer = Ok(Response::Read(ReadOutcome::Value(value(400))));
    let mut answers = vec![read.clone(), written.clone(), read.clone(), read.clone()];
    bound(&mut answers, 1_500);
    assert_eq!(answers[..2], [read, written]);
    assert!(answers[2..].iter().any(|answer| matches!(answer, Err(KvError::Invalid { .. }))));
    assert!(answers.iter().map(weight).sum::<usize>() <= 1_700);
}

#[test]
fn the_weight_of_an_answer_is_not_below_its_bytes() {
    let values = ReadOutcome::Values(vec![value(10), None, value(70_000)]);
    let answers: Vec<Answer> = vec![
        Ok(Response::Read(ReadOutcome::Value(value(300)))),
        Ok(Response::Read(values)),
        Ok(Response::Written(Outcome::Swapped { swapped: false, current: value(5_000) })),
        Ok(Response::Written(Outcome::Integer(i64::MIN))),
    ];
    let weight: usize = answers.iter().map(weight).sum();
    assert!(encode_answers(&answers).len() <= weight, "{weight}");
}
