//! Commands about the node: INFO, CONFIG, TIME.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{COMPATIBLE_REDIS, Context, lower, unknown_subcommand, wrong_arguments};
use crate::command::Role;
use crate::metrics::process;
use crate::resp::decode::Arguments;
use crate::resp::glob;

pub(in crate::resp) fn time(context: &mut Context<'_>, _: Arguments<'_>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    context.out.array(2);
    context.out.bulk(now.as_secs().to_string().as_bytes());
    context.out.bulk(now.subsec_micros().to_string().as_bytes());
}

/// `CONFIG GET pattern ...`: the settings that Redis tools ask for. The node's own are in its conf file.
pub(in crate::resp) fn config(context: &mut Context<'_>, words: Arguments<'_>) {
    match (lower(words, 1).as_str(), words.len()) {
        ("get", 2) => wrong_arguments(context, "config", "get"),
        ("get", _) => {
            let config = &context.door.config;
            let settings: &[(&str, String)] = &[
                ("save", String::new()),
                ("appendonly", "yes".into()),
                ("appendfsync", "always".into()),
                ("maxmemory", "0".into()),
                ("maxmemory-policy", "noeviction".into()),
                ("databases", "1".into()),
                ("maxclients", config.max_clients.to_string()),
                ("timeout", config.idle_timeout.map_or(0, |timeout| timeout.as_secs()).to_string()),
                ("proto-max-bulk-len", config.limits.bulk_bytes.to_string()),
                ("cluster-enabled", "no".into()),
                ("port", context.connection.local.port().to_string()),
            ];
            let patterns: Vec<Vec<u8>> = words.tail(2).map(<[u8]>::to_ascii_lowercase).collect();
            let chosen: Vec<_> = settings
                .iter()
                .filter(|(name, _)| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes())))
                .collect();
            context.out.map(chosen.len(), context.session.version);
            for (name, value) in chosen {
                context.out.bulk(name.as_bytes());
                context.out.bulk(value.as_bytes());
            }
        }
        ("set" | "rewrite", _) => context.out.error("ERR settings are changed in the node's conf file"),
        ("resetstat", 2) => context.out.error("ERR metrics only grow: CONFIG RESETSTAT is not supported"),
        _ => unknown_subcommand(context, words),
    }
}

/// `INFO [section ...]`
pub(in crate::resp) fn info(context: &mut Context<'_>, words: Arguments<'_>) {
    let wanted: Vec<String> = (1..words.len()).map(|index| lower(words, index)).collect();
    let every = wanted.is_empty()
        || wanted.iter().any(|section| matches!(section.as_str(), "all" | "default" | "everything"));
    let mut text = String::new();
    for (name, section) in SECTIONS {
        if every || wanted.iter().any(|wanted| wanted == name) {
            let mut title = (*name).to_owned();
            title[..1].make_ascii_uppercase();
            write!(text, "{}# {title}\r\n", if text.is_empty() { "" } else { "\r\n" })
                .expect("writing to a String does not fail");
            section(context, &mut |key, value| {
                write!(text, "{key}:{value}\r\n").expect("writing to a String does not fail");
            });
        }
    }
    context.out.verbatim(&text, context.session.version);
}

type Put<'a> = &'a mut dyn FnMut(&str, &dyn std::fmt::Display);
type Section = fn(&Context<'_>, Put<'_>);

const SECTIONS: &[(&str, Section)] = &[
    ("server", server_section),
    ("clients", clients_section),
    ("memory", memory_section),
    ("persistence", persistence_section),
    ("stats", stats_section),
    ("replication", replication_section),
    ("raft", raft_section),
    ("cluster", |_, put| put("cluster_enabled", &0)),
    ("keyspace", keyspace_section),
];

fn server_section(context: &Context<'_>, put: Put<'_>) {
    let status = context.door.backend.status();
    let uptime = status.uptime_ms / 1000;
    put("redis_version", &COMPATIBLE_REDIS);
    put("redis_mode", &"standalone");
    put("moon_version", &env!("CARGO_PKG_VERSION"));
    put("os", &std::env::consts::OS);
    put("arch_bits", &usize::BITS);
    put("process_id", &std::process::id());
    put("tcp_port", &context.connection.local.port());
    put("uptime_in_seconds", &uptime);
    put("uptime_in_days", &(uptime / 86_400));
}

fn clients_section(context: &Context<'_>, put: Put<'_>) {
    put("connected_clients", &context.door.front.len());
    put("maxclients", &context.door.config.max_clients);
    put("blocked_clients", &0);
}

fn memory_section(_: &Context<'_>, put: Put<'_>) {
    let usage = process::usage();
    let human = format!("{:.2}M", usage.resident_bytes as f64 / (1024.0 * 1024.0));
    put("used_memory", &usage.resident_bytes);
    put("used_memory_human", &human);
    put("used_memory_rss", &usage.resident_bytes);
    put("maxmemory", &0);
    put("maxmemory_policy", &"noeviction");
}

fn persistence_section(context: &Context<'_>, put: Put<'_>) {
    let status = context.door.backend.status();
    put("loading", &u8::from(status.role == Role::Starting));
    put("aof_enabled", &1);
    put("wal_fsyncs", &status.fsyncs);
    put("wal_bytes", &status.wal_bytes);
}

fn stats_section(context: &Context<'_>, put: Put<'_>) {
    put("total_connections_received", &context.door.front.accepted.get());
    put("rejected_connections", &context.door.front.refused.get());
    put("total_commands_processed", &context.door.metrics.commands());
    put("protocol_errors", &context.door.metrics.protocol_errors.get());
    put("expired_keys", &0);
    put("evicted_keys", &0);
}

fn replication_section(context: &Context<'_>, put: Put<'_>) {
    // Every node takes every command; who leads is the raft section's matter.
    put("role", &"master");
    put("connected_slaves", &context.door.backend.status().members.len().saturating_sub(1));
}

fn raft_section(context: &Context<'_>, put: Put<'_>) {
    let status = context.door.backend.status();
    let leader = status.leader_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    put("raft_id", &status.id);
    put("raft_role", &status.role.as_str());
    put("raft_term", &status.term);
    put("raft_leader_id", &leader);
    put("raft_commit_index", &status.commit_index);
    put("raft_applied_index", &status.applied_index);
    put("raft_last_log_index", &status.last_log_index);
    put("raft_snapshot_index", &status.snapshot_index);
    put("raft_nodes", &status.members.len());
}

fn keyspace_section(context: &Context<'_>, put: Put<'_>) {
    let keys = context.door.backend.status().keys;
    if keys > 0 {
        put("db0", &format_args!("keys={keys},expires=0,avg_ttl=0"));
    }
}
