//! With the `redis` crate's blocking client.

use std::time::Duration;

use redis::{Commands, Connection};

use crate::Failure;

/// A connection of one's own. Without a host name, nothing is looked up.
///
/// # Errors
/// The library's.
pub fn connect(url: &str) -> Result<Connection, Failure> {
    Ok(redis::Client::open(url)?.get_connection()?)
}

/// Waits in vain for an element of a list that stays empty.
///
/// # Errors
/// The library's; or there was an element.
pub fn wait_in_vain(url: &str, number: usize, patience: Duration) -> Result<(), Failure> {
    let list = format!("empty:{number}");
    let popped: Option<(String, String)> = connect(url)?.blpop(&list, patience.as_secs_f64())?;
    match popped {
        None => Ok(()),
        Some(popped) => Err(format!("{list} gave {popped:?}").into()),
    }
}

/// Sends many commands at once and checks all answers.
///
/// # Errors
/// The library's; or an answer is not what it has to be.
pub fn pipeline(url: &str, number: usize) -> Result<(), Failure> {
    const COMMANDS: usize = 100;
    const ROUNDS: i64 = 5;
    let mut connection = connect(url)?;
    let key = format!("counter:{number}");
    for round in 1..=ROUNDS {
        let mut pipe = redis::pipe();
        for command in 0..COMMANDS {
            pipe.set(format!("key:{number}:{command}"), format!("{round}:{command}")).ignore();
            pipe.get(format!("key:{number}:{command}"));
        }
        pipe.incr(&key, 1);
        let mut answers: Vec<String> = pipe.query(&mut connection)?;
        let count = answers.pop();
        let expected: Vec<String> = (0..COMMANDS).map(|command| format!("{round}:{command}")).collect();
        if answers != expected || count != Some(round.to_string()) {
            return Err(format!("round {round} of {number}: {count:?}, {answers:?}").into());
        }
    }
    Ok(())
}

/// Sets a key of one's own, counts in one of all, and reads the first back.
///
/// # Errors
/// The library's; or the key does not hold what was set.
pub fn set_count_and_get(url: &str, number: usize) -> Result<(), Failure> {
    let mut connection = connect(url)?;
    let () = connection.set(format!("name:{number}"), number)?;
    let _: i64 = connection.incr("all", 1)?;
    let back: usize = connection.get(format!("name:{number}"))?;
    if back == number { Ok(()) } else { Err(format!("{number} became {back}").into()) }
}
