//! Commands about the connection itself: HELLO, PING, CLIENT and their like.

use std::fmt::Write as _;

use bytes::Bytes;

use super::{COMPATIBLE_REDIS, Client, Context, Session, Shown, lower, unknown_subcommand, wrong_arguments};
use crate::front::Connection;
use crate::resp::decode::Arguments;
use crate::resp::encode::Version;

/// Longest name a connection can be given.
const NAME_BYTES: usize = 256;

const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

pub(in crate::resp) fn ping(context: &mut Context<'_>, words: Arguments<'_>) {
    match words.len() {
        1 => context.out.raw(b"+PONG\r\n"),
        2 => context.out.value(&words.bytes(1)),
        _ => context.out.error("ERR wrong number of arguments for 'ping' command"),
    }
}

pub(in crate::resp) fn echo(context: &mut Context<'_>, words: Arguments<'_>) {
    context.out.value(&words.bytes(1));
}

pub(in crate::resp) fn auth(context: &mut Context<'_>, words: Arguments<'_>) {
    context.out.error(if words.len() > 3 { "ERR syntax error" } else { NO_PASSWORD });
}

pub(in crate::resp) fn quit(context: &mut Context<'_>, _: Arguments<'_>) {
    context.session.quit = true;
    context.out.ok();
}

pub(in crate::resp) fn reset(context: &mut Context<'_>, _: Arguments<'_>) {
    *context.session = Session::default();
    context.connection.data.shown.lock(|shown| {
        shown.name = Bytes::new();
        shown.resp3 = false;
    });
    context.out.simple("RESET");
}

pub(in crate::resp) fn select(context: &mut Context<'_>, words: Arguments<'_>) {
    match words.get(1) {
        b"0" => context.out.ok(),
        other if super::super::data::integer(other).is_ok() => {
            context.out.error("ERR DB index is out of range")
        }
        _ => context.out.error("ERR value is not an integer or out of range"),
    }
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`
pub(in crate::resp) fn hello(context: &mut Context<'_>, words: Arguments<'_>) {
    let mut version = context.session.version;
    let mut name = None;
    if words.len() > 1 {
        version = match words.get(1) {
            b"2" => Version::Two,
            b"3" => Version::Three,
            other if super::super::data::integer(other).is_ok() => {
                return context.out.error("NOPROTO unsupported protocol version");
            }
            _ => return context.out.error("ERR Protocol version is not an integer or out of range"),
        };
        let mut next = 2;
        while next < words.len() {
            let (option, left) = (lower(words, next), words.len() - next - 1);
            if option == "auth" && left >= 2 {
                return context.out.error(NO_PASSWORD);
            } else if option == "setname" && left >= 1 {
                name = Some(next + 1);
                next += 2;
            } else {
                let option = String::from_utf8_lossy(words.get(next)).into_owned();
                return context.out.error(&format!("ERR Syntax error in HELLO option '{option}'"));
            }
        }
    }
    if let Some(name) = name
        && !set_name(context.connection, words.get(name))
    {
        return context.out.error(BAD_NAME);
    }
    context.session.version = version;
    context.connection.data.shown.lock(|shown| shown.resp3 = version == Version::Three);
    let out = &mut *context.out;
    out.map(7, version);
    for (key, value) in [("server", "moon"), ("version", COMPATIBLE_REDIS)] {
        out.bulk(key.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"proto");
    out.integer(if version == Version::Three { 3 } else { 2 });
    out.bulk(b"id");
    out.count(context.connection.id);
    // Every node takes every command, so to a client each of them is a master without slots.
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        out.bulk(key.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"modules");
    out.array(0);
}

/// `CLIENT subcommand ...`
pub(in crate::resp) fn client(context: &mut Context<'_>, words: Arguments<'_>) {
    let subcommand = lower(words, 1);
    let connection = context.connection;
    match (subcommand.as_str(), words.len()) {
        ("id", 2) => context.out.count(connection.id),
        ("getname", 2) => match connection.data.shown.lock(|shown| shown.name.clone()) {
            name if name.is_empty() => context.out.null(context.session.version),
            name => context.out.bulk(&name),
        },
        ("setname", 3) if set_name(connection, words.get(2)) => context.out.ok(),
        ("setname", 3) => context.out.error(BAD_NAME),
        ("setinfo", 4) => set_info(context, words),
        ("info", 2) => context.out.verbatim(&describe(connection), context.session.version),
        ("list", _) => list(context, words),
        ("no-evict" | "no-touch", 3) => match lower(words, 2).as_str() {
            "on" | "off" => context.out.ok(),
            _ => context.out.error("ERR syntax error"),
        },
        ("reply", 3) if lower(words, 2) == "on" => context.out.ok(),
        ("reply", 3) => context.out.error("ERR CLIENT REPLY OFF and SKIP are not supported"),
        ("tracking", _) => context.out.error("ERR client-side caching is not supported"),
        ("trackinginfo", 2) | ("getredir", 2) => context.out.integer(-1),
        ("unpause", 2) => context.out.ok(),
        ("id" | "getname" | "setname" | "setinfo" | "info" | "no-evict" | "no-touch" | "reply", _) => {
            wrong_arguments(context, "client", &subcommand);
        }
        _ => unknown_subcommand(context, words),
    }
}

/// `CLIENT SETINFO LIB-NAME name` and `LIB-VER version`: what libraries tell about themselves.
fn set_info(context: &mut Context<'_>, words: Arguments<'_>) {
    let option = lower(words, 2);
    if !is_name(words.get(3)) {
        return context
            .out
            .error(&format!("ERR {option} cannot contain spaces, newlines or special characters."));
    }
    let value = Bytes::copy_from_slice(words.get(3));
    let known = context.connection.data.shown.lock(|shown| match option.as_str() {
        "lib-name" => {
            shown.library = value;
            true
        }
        "lib-ver" => {
            shown.library_version = value;
            true
        }
        _ => false,
    });
    if known {
        context.out.ok();
    } else {
        context.out.error(&format!("ERR Unrecognized option '{option}'"));
    }
}

/// `CLIENT LIST [TYPE type] [ID id ...]`
fn list(context: &mut Context<'_>, words: Arguments<'_>) {
    let mut text = String::new();
    let connections = context.door.front.list();
    match (words.len() > 2).then(|| lower(words, 2)).as_deref() {
        None => connections.iter().for_each(|connection| text.push_str(&describe(connection))),
        Some("type") if words.len() == 4 => {
            if matches!(lower(words, 3).as_str(), "normal") {
                connections.iter().for_each(|connection| text.push_str(&describe(connection)));
            }
        }
        Some("id") if words.len() > 3 => {
            let wanted: Vec<&[u8]> = words.tail(3).collect();
            connections
                .iter()
                .filter(|connection| wanted.contains(&connection.id.to_string().as_bytes()))
                .for_each(|connection| text.push_str(&describe(connection)));
        }
        Some(_) => return context.out.error("ERR syntax error"),
    }
    context.out.verbatim(&text, context.session.version);
}

/// One line of `CLIENT LIST`.
fn describe(connection: &Connection<Client>) -> String {
    let Shown { name, library, library_version, command, resp3 } =
        connection.data.shown.lock(|shown| shown.clone());
    let mut line = String::new();
    writeln!(
        line,
        "id={} addr={} laddr={} name={} age={} idle={} flags=N db=0 cmd={} user=default resp={} lib-name={} lib-ver={}",
        connection.id,
        connection.peer,
        connection.local,
        String::from_utf8_lossy(&name),
        fiber_runtime::time::now().saturating_duration_since(connection.opened).as_secs(),
        connection.idle_for().as_secs(),
        if command.is_empty() { "NULL" } else { command },
        if resp3 { 3 } else { 2 },
        String::from_utf8_lossy(&library),
        String::from_utf8_lossy(&library_version),
    )
    .expect("writing to a String does not fail");
    line
}

fn set_name(connection: &Connection<Client>, name: &[u8]) -> bool {
    let good = is_name(name);
    if good {
        let name = Bytes::copy_from_slice(name);
        let before = connection.data.shown.lock(|shown| std::mem::replace(&mut shown.name, name));
        drop(before);
    }
    good
}

fn is_name(name: &[u8]) -> bool {
    name.len() <= NAME_BYTES && name.iter().all(u8::is_ascii_graphic)
}
