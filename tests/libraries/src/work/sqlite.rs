//! With `rusqlite`, whose C library reads and writes files and has no socket.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::Failure;

/// A connection of one's own, which waits for others' locks by sleeping and trying again.
///
/// # Errors
/// The library's.
pub fn open(path: &Path) -> Result<Connection, Failure> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.execute_batch("pragma journal_mode = wal; pragma synchronous = off;")?;
    Ok(connection)
}

/// Makes the table that [`transfer`] works on.
///
/// # Errors
/// The library's.
pub fn prepare(path: &Path, accounts: i64) -> Result<(), Failure> {
    let mut connection = open(path)?;
    connection.execute_batch("create table accounts (id integer primary key, balance integer not null)")?;
    let transaction = connection.transaction()?;
    for account in 0..accounts {
        transaction.execute("insert into accounts values (?1, 100)", [account])?;
    }
    Ok(transaction.commit()?)
}

/// Takes one from an account and gives it to another in a transaction, which holds the database's lock across `pause`.
///
/// # Errors
/// The library's.
pub fn transfer(path: &Path, from: i64, to: i64, pause: impl FnOnce()) -> Result<(), Failure> {
    let mut connection = open(path)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("update accounts set balance = balance - 1 where id = ?1", [from])?;
    pause();
    transaction.execute("update accounts set balance = balance + 1 where id = ?1", [to])?;
    Ok(transaction.commit()?)
}

/// The sum of all balances, which transfers do not change, and the number of accounts that are not as they were.
///
/// # Errors
/// The library's.
pub fn totals(path: &Path) -> Result<(i64, i64), Failure> {
    let read = "select sum(balance), count(*) filter (where balance <> 100) from accounts";
    Ok(open(path)?.query_row(read, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
}
