//! How cost grows with the number of fibers and of workers. (With connections: in `echo`.)

use crate::Session;
use crate::programs::{Contestant, RUNTIMES};
use crate::table::{Better, Row, Table};

/// may cannot have more than this at the default limit of memory maps.
const MOST_OF_MAY: u64 = 30_000;

/// The rounds that a growth table needs: its shape counts.
const ROUNDS: u32 = 3;

/// From a hundred fibers to a million, of one worker.
pub(crate) fn fibers(session: &Session) -> Table {
    let counts: &[u64] =
        if session.quick { &[100, 10_000] } else { &[100, 1000, 10_000, 30_000, 100_000, 1_000_000] };
    let mut table = Table::new("How cost grows with fibers, one worker");
    let row = |what: String, unit| Row::new(what, unit, Better::Lower, None);
    for count in counts {
        let turns = (2_000_000 / count).max(2);
        table.rows.extend(session.rows(
            &format!("yield fibers={count} turns={turns} workers=1"),
            true,
            &able(*count),
            session.rounds.min(ROUNDS),
            vec![("yield", row(format!("yield_now, {count} ready fibers"), "ns"))],
        ));
    }
    for count in counts {
        table.rows.extend(session.rows(
            &format!("parked count={count} workers=1"),
            true,
            &able(*count),
            session.rounds.min(ROUNDS),
            vec![
                ("start_and_park", row(format!("start and park, each of {count}"), "ns")),
                ("wake_and_join", row("  wake and join, each".to_owned(), "ns")),
                ("resident_each", row("  resident, each".to_owned(), "B")),
            ],
        ));
    }
    table
}

fn able(count: u64) -> Vec<Contestant> {
    RUNTIMES.iter().copied().filter(|one| *one != Contestant::May || count <= MOST_OF_MAY).collect()
}

/// From one worker to four, whatever the number of processors.
pub(crate) fn workers(session: &Session) -> Table {
    const CONTESTANTS: [Contestant; 3] = [Contestant::Moon, Contestant::May, Contestant::TokioMulti];
    let mut table = Table::new("How cost grows with workers");
    let asked = [
        ("skynet leaves=1000000", "skynet leaves=10000", "total", "skynet, 1,000,000 leaves", "ms"),
        (
            "yield_many times=10",
            "yield_many times=1",
            "each",
            "200 fibers yield 1,000 times, each yield",
            "ns",
        ),
        (
            "spawn_many_local times=10",
            "spawn_many_local times=2",
            "each",
            "10,000 spawned from a fiber, each",
            "ns",
        ),
        (
            "may_nested times=5",
            "may_nested times=1",
            "each",
            "100 fibers spawn 100, 4 yields each, each",
            "ns",
        ),
    ];
    for (ask, quick, name, what, unit) in asked {
        for workers in 1..=4 {
            let row = Row::new(format!("{what}, {workers} worker(s)"), unit, Better::Lower, None);
            table.rows.extend(session.rows(
                &format!("{} workers={workers}", if session.quick { quick } else { ask }),
                false,
                &CONTESTANTS,
                session.rounds.min(ROUNDS),
                vec![(name, row)],
            ));
        }
    }
    table
}
