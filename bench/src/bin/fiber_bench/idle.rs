//! A hundred thousand connections that say nothing: memory in user space, and wake-ups.
//!
//! Each has exchanged one message before. A process holds no more descriptors than its limit, so that there are as many
//! servers, and as many programs that hold the other ends, as it takes; the sources are several loopback addresses.

use std::time::Duration;
use std::{fs, thread};

use rustix::process::{Resource, getrlimit};

use crate::Session;
use crate::programs::{Contestant, Server};
use crate::table::{Better, Row, Table, Target};

/// Descriptors of a process that are not connections.
const OTHERS: u64 = 64;

/// How long the silence is watched; with `--quick`.
const SILENCE: [Duration; 2] = [Duration::from_secs(3), Duration::from_millis(300)];

/// The table.
pub(crate) fn measure(session: &Session) -> Table {
    const CONTESTANTS: &[Contestant] =
        &[Contestant::Moon, Contestant::May, Contestant::Tokio, Contestant::TokioMulti, Contestant::Epoll];
    let connections: u64 = if session.quick { 2000 } else { 100_000 };
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).saturating_sub(OTHERS).max(1);
    let processes = connections.div_ceil(limit);
    let mut table = Table::new("Idle connections");
    table.notes.push(format!(
        "{connections} connections in {processes} server(s), because a process may have {limit} besides its other \
         descriptors; one worker each."
    ));
    let mut held = Row::new("connections held", "", Better::Higher, None);
    let mut memory = Row::new(
        "user-space memory of the server, each",
        "B",
        Better::Lower,
        Some(Target::AtMost(8.0 * 1024.0)),
    );
    let mut wakes =
        Row::new("wake-ups per second, all servers", "", Better::Lower, Some(Target::AtMost(0.0)));
    for contestant in session.turns(CONTESTANTS, 1) {
        let (bytes, woken) = match hold(session, contestant, connections, processes) {
            Ok((bytes, woken)) => (Ok(bytes), Ok(woken)),
            Err(error) => (Err(error.clone()), Err(error)),
        };
        held.add(contestant, bytes.clone().map(|_| connections as f64));
        memory.add(contestant, bytes);
        wakes.add(contestant, woken);
    }
    table.rows = vec![held, memory, wakes];
    table
}

/// Bytes of each connection, and how often a thread of the servers was woken in a second.
fn hold(
    session: &Session,
    contestant: Contestant,
    connections: u64,
    processes: u64,
) -> Result<(f64, f64), String> {
    let words = session.programs.words(contestant, "echo workers=1");
    let servers: Vec<Server> =
        (0..processes).map(|_| Server::start(&words, None)).collect::<Result<_, _>>()?;
    let sum = |figure: fn(u32) -> u64| servers.iter().map(|server| figure(server.id())).sum::<u64>();
    let before = sum(private_bytes);
    let mut holders = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let share = connections / processes + u64::from((number as u64) < connections % processes);
        let holder = vec![
            session.programs.ours("echo_load").to_string_lossy().into_owned(),
            "hold".to_owned(),
            format!("address={}", server.address),
            format!("connections={share}"),
            format!("group={}", number + 1),
        ];
        holders.push(Server::start(&holder, None)?);
    }
    let bytes = sum(private_bytes).saturating_sub(before) as f64 / connections as f64;
    let silence = SILENCE[usize::from(session.quick)];
    thread::sleep(silence / 3); // what the last message left behind settles
    let woken = sum(wakes);
    thread::sleep(silence);
    let woken = (sum(wakes) - woken) as f64 / silence.as_secs_f64();
    Ok((bytes, woken))
}

/// Memory of a process that it shares with nothing.
fn private_bytes(process: u32) -> u64 {
    field(&format!("/proc/{process}/status"), "RssAnon:") * 1024
}

/// How often the threads of a process have slept so far, and so been woken.
fn wakes(process: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return 0 };
    let status = |thread: fs::DirEntry| thread.path().join("status").to_string_lossy().into_owned();
    threads.flatten().map(|thread| field(&status(thread), "voluntary_ctxt_switches:")).sum()
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    value.unwrap_or(0)
}
