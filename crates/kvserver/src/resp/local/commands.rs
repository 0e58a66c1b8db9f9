//! `COMMAND`: the table, told to clients.

use super::{Context, lower, unknown_subcommand, wrong_arguments};
use crate::resp::decode::Arguments;
use crate::resp::encode::Output;
use crate::resp::table::{self, Spec, TABLE};

/// `COMMAND [COUNT | LIST | INFO [name ...] | DOCS [name ...]]`
pub(in crate::resp) fn command(context: &mut Context<'_>, words: Arguments<'_>) {
    if words.len() == 1 {
        context.out.array(TABLE.len());
        return TABLE.iter().for_each(|spec| tell(context.out, spec));
    }
    let version = context.session.version;
    match (lower(words, 1).as_str(), words.len()) {
        ("count", 2) => context.out.count(TABLE.len() as u64),
        ("list", 2) => {
            context.out.array(TABLE.len());
            TABLE.iter().for_each(|spec| context.out.bulk(spec.name.as_bytes()));
        }
        ("info", 2) => {
            context.out.array(TABLE.len());
            TABLE.iter().for_each(|spec| tell(context.out, spec));
        }
        ("info", _) => {
            context.out.array(words.len() - 2);
            for name in words.tail(2) {
                match table::find(name) {
                    Some((_, spec)) => tell(context.out, spec),
                    None => context.out.null_array(version),
                }
            }
        }
        ("docs", _) => {
            let chosen: Vec<&Spec> = if words.len() == 2 {
                TABLE.iter().collect()
            } else {
                words.tail(2).filter_map(|name| table::find(name).map(|(_, spec)| spec)).collect()
            };
            context.out.map(chosen.len(), version);
            for spec in chosen {
                context.out.bulk(spec.name.as_bytes());
                context.out.map(3, version);
                for (key, value) in [("summary", spec.summary), ("since", "1.0.0"), ("group", spec.group)] {
                    context.out.bulk(key.as_bytes());
                    context.out.bulk(value.as_bytes());
                }
            }
        }
        ("count" | "list", _) => wrong_arguments(context, "command", &lower(words, 1)),
        _ => unknown_subcommand(context, words),
    }
}

/// One row, in the ten fields of Redis 7: name, arity, flags, first key, last key, step, categories, tips, key
/// specifications, subcommands.
fn tell(out: &mut Output, spec: &Spec) {
    out.array(10);
    out.bulk(spec.name.as_bytes());
    out.integer(i64::from(spec.arity));
    out.array(spec.flags.len());
    spec.flags.iter().for_each(|flag| out.simple(flag));
    let (first, last, step) = spec.keys;
    [first, last, step].iter().for_each(|&number| out.integer(i64::from(number)));
    out.array(1);
    out.simple(&format!("@{}", spec.group));
    (0..3).for_each(|_| out.array(0));
}
