//! Commands that the connection answers itself, without the log or the store.
//!
//! They keep their place between the others: the reply is encoded at once, in the dialect of that moment, and sent
//! when its turn comes.

mod cluster;

mod commands;

mod connection;

mod server;

use std::sync::Arc;

use bytes::Bytes;
use fiber_runtime::sync::Spin;

use super::decode::Arguments;
use super::encode::{Output, Version};
use super::server::Door;
use crate::front::Connection;

pub(super) use cluster::{cluster, wait};
pub(super) use commands::command;
pub(super) use connection::{auth, client, echo, hello, ping, quit, reset, select};
pub(super) use server::{config, info, time};

/// The Redis whose commands and words this door follows, told where clients look for features.
pub(super) const COMPATIBLE_REDIS: &str = "7.0.15";

/// What other connections may see of one (`CLIENT LIST`).
#[derive(Default)]
pub(crate) struct Client {
    shown: Spin<Shown>,
}

#[derive(Clone, Default)]
struct Shown {
    name: Bytes,
    library: Bytes,
    library_version: Bytes,
    command: &'static str,
    resp3: bool,
}

impl Client {
    /// Notes the command that was executed last.
    pub(super) fn note_command(&self, command: &'static str) {
        self.shown.lock(|shown| shown.command = command);
    }
}

/// The state of one connection that its requests can change.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) version: Version,
    /// The connection ends after the replies to the requests so far.
    pub(super) quit: bool,
}

/// What a local command works with.
pub(super) struct Context<'a> {
    pub(super) door: &'a Arc<Door>,
    pub(super) connection: &'a Connection<Client>,
    pub(super) session: &'a mut Session,
    pub(super) out: &'a mut Output,
}

/// For commands that ask for what is always so.
pub(super) fn accept(context: &mut Context<'_>, _: Arguments<'_>) {
    context.out.ok();
}

pub(super) fn no_transactions(context: &mut Context<'_>, _: Arguments<'_>) {
    context.out.error("ERR transactions are not supported: MSET, MSETNX, CAS and SET IFEQ are atomic");
}

/// Somebody's browser was made to post to this port, with commands in the body. Redis ends such connections, too.
pub(super) fn not_http(context: &mut Context<'_>, _: Arguments<'_>) {
    tracing::warn!(peer = %context.connection.peer, "HTTP request at the Redis port, connection closed");
    context.session.quit = true;
}

/// The answer to a subcommand that is not there, in Redis' words.
fn unknown_subcommand(context: &mut Context<'_>, words: Arguments<'_>) {
    let container = String::from_utf8_lossy(words.get(0)).to_ascii_uppercase();
    let subcommand = String::from_utf8_lossy(&words.get(1)[..words.get(1).len().min(128)]).into_owned();
    context.out.error(&format!("ERR unknown subcommand '{subcommand}'. Try {container} HELP."));
}

/// The answer to a subcommand with too few or too many words.
fn wrong_arguments(context: &mut Context<'_>, container: &str, subcommand: &str) {
    context.out.error(&format!("ERR wrong number of arguments for '{container}|{subcommand}' command"));
}

/// Word `index` in lower case, for comparing; what is no text compares with nothing.
fn lower(words: Arguments<'_>, index: usize) -> String {
    String::from_utf8_lossy(&words.get(index)[..words.get(index).len().min(64)]).to_ascii_lowercase()
}
