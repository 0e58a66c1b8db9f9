//! The command table: one row per command drives dispatch, arity, flags and what `COMMAND` tells.

use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use super::data;
use super::decode::Arguments;
use super::local::{self, Context};
use super::reply::Shape;
use crate::command::{Read, Write};

/// One command.
pub(super) struct Spec {
    /// Lower case.
    pub(super) name: &'static str,
    /// Words of a request, the name included; negative: at least so many.
    pub(super) arity: i32,
    /// As `COMMAND` tells them.
    pub(super) flags: &'static [&'static str],
    /// First key, last key (negative: from the end), step.
    pub(super) keys: (i32, i32, i32),
    /// Group in the documentation.
    pub(super) group: &'static str,
    /// What it does, in one line.
    pub(super) summary: &'static str,
    pub(super) run: Run,
}

/// What answers a command.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// The connection itself, at once.
    Local(fn(&mut Context<'_>, Arguments<'_>)),
    /// The store, after a read barrier.
    Read(fn(&Context<'_>, Arguments<'_>) -> Planned<Read>),
    /// The log.
    Write(fn(Arguments<'_>) -> Planned<Write>),
}

/// A request for the node and the shape of its reply, or the error line instead.
pub(super) type Planned<T> = Result<(T, Shape), String>;

impl Spec {
    /// Whether a request of `words` words fits.
    pub(super) fn fits(&self, words: usize) -> bool {
        let words = i32::try_from(words).unwrap_or(i32::MAX);
        if self.arity >= 0 { words == self.arity } else { words >= -self.arity }
    }
}

/// The row of a command and its place in [`TABLE`], whatever the case of its letters.
pub(super) fn find(name: &[u8]) -> Option<(usize, &'static Spec)> {
    static INDEX: OnceLock<FxHashMap<&'static [u8], usize>> = OnceLock::new();
    let index = INDEX.get_or_init(|| {
        TABLE.iter().enumerate().map(|(place, spec)| (spec.name.as_bytes(), place)).collect()
    });
    let mut lower = [0; 16];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    index.get(&*lower).map(|&place| (place, &TABLE[place]))
}

const READ: &[&str] = &["readonly", "fast"];
const SLOW_READ: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const BIG_WRITE: &[&str] = &["write", "denyoom"];
const REMOVE: &[&str] = &["write"];
const CONNECTION: &[&str] = &["loading", "stale", "fast"];
const ADMIN: &[&str] = &["loading", "stale"];

const NO_KEY: (i32, i32, i32) = (0, 0, 0);
const ONE_KEY: (i32, i32, i32) = (1, 1, 1);
const ALL_KEYS: (i32, i32, i32) = (1, -1, 1);
const PAIRS: (i32, i32, i32) = (1, -1, 2);

macro_rules! table {
    ($($name:literal $arity:literal $flags:ident $keys:ident $group:literal $run:expr, $summary:literal;)*) => {
        &[$(Spec {
            name: $name, arity: $arity, flags: $flags, keys: $keys, group: $group, summary: $summary, run: $run,
        }),*]
    };
}

use Run::{Local as L, Read as R, Write as W};

/// All commands.
pub(super) static TABLE: &[Spec] = table! {
    // name     arity flags     keys     group         implementation
    "get"        2  READ       ONE_KEY  "string"      R(data::get),        "Returns the value of a key.";
    "set"       -3  BIG_WRITE  ONE_KEY  "string"      W(data::set),        "Sets the value of a key, on conditions if wanted.";
    "setnx"      3  WRITE      ONE_KEY  "string"      W(data::setnx),      "Sets the value of a key that does not exist.";
    "getset"     3  WRITE      ONE_KEY  "string"      W(data::getset),     "Sets the value of a key and returns the one before.";
    "getdel"     2  REMOVE     ONE_KEY  "string"      W(data::getdel),     "Removes a key and returns its value.";
    "append"     3  WRITE      ONE_KEY  "string"      W(data::append),     "Adds to the end of a key's value.";
    "strlen"     2  READ       ONE_KEY  "string"      R(data::strlen),     "Returns the length of a key's value.";
    "getrange"   4  SLOW_READ  ONE_KEY  "string"      R(data::getrange),   "Returns a part of a key's value.";
    "substr"     4  SLOW_READ  ONE_KEY  "string"      R(data::getrange),   "Returns a part of a key's value.";
    "mget"      -2  READ       ALL_KEYS "string"      R(data::mget),       "Returns the values of several keys, all of one moment.";
    "mset"      -3  BIG_WRITE  PAIRS    "string"      W(data::mset),       "Sets several keys at once.";
    "msetnx"    -3  BIG_WRITE  PAIRS    "string"      W(data::msetnx),     "Sets several keys at once if none of them exists.";
    "incr"       2  WRITE      ONE_KEY  "string"      W(data::incr),       "Adds one to the integer in a key.";
    "decr"       2  WRITE      ONE_KEY  "string"      W(data::decr),       "Subtracts one from the integer in a key.";
    "incrby"     3  WRITE      ONE_KEY  "string"      W(data::incrby),     "Adds to the integer in a key.";
    "decrby"     3  WRITE      ONE_KEY  "string"      W(data::decrby),     "Subtracts from the integer in a key.";
    "cas"        4  BIG_WRITE  ONE_KEY  "string"      W(data::cas),        "Sets the value of a key if it is the expected one: key expected value.";
    "del"       -2  REMOVE     ALL_KEYS "generic"     W(data::del),        "Removes keys and counts those that were there.";
    "unlink"    -2  REMOVE     ALL_KEYS "generic"     W(data::del),        "Removes keys and counts those that were there.";
    "exists"    -2  READ       ALL_KEYS "generic"     R(data::exists),     "Counts the keys that exist.";
    "touch"     -2  READ       ALL_KEYS "generic"     R(data::exists),     "Counts the keys that exist.";
    "type"       2  READ       ONE_KEY  "generic"     R(data::kind),       "Returns the type of a key's value: string or none.";
    "ttl"        2  READ       ONE_KEY  "generic"     R(data::ttl),        "Returns -1 for a key that is there, -2 for one that is not.";
    "pttl"       2  READ       ONE_KEY  "generic"     R(data::ttl),        "Returns -1 for a key that is there, -2 for one that is not.";
    "keys"       2  SLOW_READ  NO_KEY   "generic"     R(data::keys),       "Returns the keys that match a pattern, if they are few.";
    "scan"      -2  SLOW_READ  NO_KEY   "generic"     R(data::scan),       "Walks over the keys page by page.";
    "dbsize"     1  READ       NO_KEY   "server"      R(data::dbsize),     "Counts the keys.";
    "ping"      -1  CONNECTION NO_KEY   "connection"  L(local::ping),      "Answers, with the argument if there is one.";
    "echo"       2  CONNECTION NO_KEY   "connection"  L(local::echo),      "Returns its argument.";
    "hello"     -1  CONNECTION NO_KEY   "connection"  L(local::hello),     "Chooses the protocol's version and introduces the server.";
    "auth"      -2  CONNECTION NO_KEY   "connection"  L(local::auth),      "Fails: there are no passwords.";
    "quit"      -1  CONNECTION NO_KEY   "connection"  L(local::quit),      "Ends the connection after the reply.";
    "reset"      1  CONNECTION NO_KEY   "connection"  L(local::reset),     "Makes the connection as good as new.";
    "select"     2  CONNECTION NO_KEY   "connection"  L(local::select),    "Accepts database 0, the only one.";
    "client"    -2  CONNECTION NO_KEY   "connection"  L(local::client),    "Names, shows and lists connections.";
    "command"   -1  ADMIN      NO_KEY   "server"      L(local::command),   "Tells which commands there are.";
    "config"    -2  ADMIN      NO_KEY   "server"      L(local::config),    "Shows settings.";
    "info"      -1  ADMIN      NO_KEY   "server"      L(local::info),      "Tells how the server and its cluster are.";
    "time"       1  CONNECTION NO_KEY   "server"      L(local::time),      "Returns this node's clock.";
    "wait"       3  CONNECTION NO_KEY   "generic"     L(local::wait),      "Returns how many other nodes hold every acknowledged write at least.";
    "cluster"   -2  ADMIN      NO_KEY   "cluster"     L(local::cluster),   "Tells what the cluster looks like.";
    "readonly"   1  CONNECTION NO_KEY   "cluster"     L(local::accept),    "Accepted: every node answers reads, and all reads are linearizable.";
    "readwrite"  1  CONNECTION NO_KEY   "cluster"     L(local::accept),    "Accepted: every node takes writes.";
    "asking"     1  CONNECTION NO_KEY   "cluster"     L(local::accept),    "Accepted: no key is ever elsewhere.";
    "multi"      1  CONNECTION NO_KEY   "transactions" L(local::no_transactions), "Fails: there are no transactions; MSET, MSETNX and CAS are atomic.";
    "exec"       1  CONNECTION NO_KEY   "transactions" L(local::no_transactions), "Fails: there are no transactions.";
    "discard"    1  CONNECTION NO_KEY   "transactions" L(local::no_transactions), "Fails: there are no transactions.";
    "watch"     -2  CONNECTION ALL_KEYS "transactions" L(local::no_transactions), "Fails: there are no transactions; CAS compares and sets.";
    "unwatch"    1  CONNECTION NO_KEY   "transactions" L(local::accept),   "Accepted: nothing is watched.";
    "post"      -1  CONNECTION NO_KEY   "connection"  L(local::not_http),  "Ends the connection: a browser was led here.";
    "host:"     -1  CONNECTION NO_KEY   "connection"  L(local::not_http),  "Ends the connection: a browser was led here.";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        for (place, spec) in TABLE.iter().enumerate() {
            let shouted = spec.name.to_ascii_uppercase();
            let (found, row) = find(shouted.as_bytes()).unwrap();
            assert_eq!((found, row.name), (place, spec.name), "a name stands twice in the table");
        }
        assert!(find(b"nosuch").is_none());
        assert!(find(b"").is_none());
        assert!(find(&[b'a'; 1000]).is_none());
    }

    #[test]
    fn arity_counts_the_name() {
        let (_, get) = find(b"get").unwrap();
        assert!(get.fits(2) && !get.fits(1) && !get.fits(3));
        let (_, set) = find(b"set").unwrap();
        assert!(set.fits(3) && set.fits(9) && !set.fits(2));
    }
}
