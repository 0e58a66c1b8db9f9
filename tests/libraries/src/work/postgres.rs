//! With the `postgres` crate's blocking client.

use postgres::{Client, NoTls};

use crate::Failure;

/// A connection of one's own.
///
/// # Errors
/// The library's.
pub fn connect(parameters: &str) -> Result<Client, Failure> {
    Ok(Client::connect(parameters, NoTls)?)
}

/// Makes the table that [`sleep_and_transfer`] works on, with `accounts` accounts.
///
/// # Errors
/// The library's.
pub fn prepare(parameters: &str, accounts: i32) -> Result<(), Failure> {
    let mut client = connect(parameters)?;
    client.batch_execute("create table accounts (id int primary key, balance bigint not null)")?;
    client
        .execute("insert into accounts select id, 100 from generate_series(0, $1 - 1) as id", &[&accounts])?;
    Ok(())
}

/// Half a second in the server, then a transaction that takes from one account and gives to the next.
///
/// # Errors
/// The library's.
pub fn sleep_and_transfer(parameters: &str, number: i32, accounts: i32) -> Result<(), Failure> {
    let mut client = connect(parameters)?;
    client.query_one("select pg_sleep(0.5)", &[])?;
    let (from, to) = (number % accounts, (number + 1) % accounts);
    let mut transaction = client.transaction()?;
    // In one order, so that no two wait for each other.
    for account in [from.min(to), from.max(to)] {
        let change: i64 = if account == from { -1 } else { 1 };
        let changed = transaction
            .execute("update accounts set balance = balance + $1 where id = $2", &[&change, &account])?;
        if changed != 1 {
            return Err(format!("{changed} accounts are number {account}").into());
        }
    }
    transaction.commit()?;
    Ok(())
}

/// The sum of all balances, which transfers do not change, and the number of accounts that are not as they were.
///
/// # Errors
/// The library's.
pub fn totals(parameters: &str) -> Result<(i64, i64), Failure> {
    let row = connect(parameters)?.query_one(
        "select sum(balance)::bigint, count(*) filter (where balance <> 100) from accounts",
        &[],
    )?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
