//! Commands about the cluster, for clients that speak Redis Cluster: one shard that holds every slot.

use std::fmt::Write as _;

use super::{Context, lower, unknown_subcommand, wrong_arguments};
use crate::command::{Member, NodeStatus, Role};
use crate::resp::decode::Arguments;

/// Slots of a Redis Cluster.
const SLOTS: u16 = 16_384;

/// `WAIT replicas timeout`: an acknowledged write is on a majority, so nobody has to wait.
pub(in crate::resp) fn wait(context: &mut Context<'_>, words: Arguments<'_>) {
    let integer = super::super::data::integer;
    match integer(words.get(1)).and_then(|_| integer(words.get(2))) {
        Ok(_) => context.out.count(context.door.backend.status().members.len() as u64 / 2),
        Err(error) => context.out.error(&error),
    }
}

/// `CLUSTER subcommand ...`
pub(in crate::resp) fn cluster(context: &mut Context<'_>, words: Arguments<'_>) {
    let subcommand = lower(words, 1);
    match (subcommand.as_str(), words.len()) {
        ("info", 2) => info(context),
        ("myid", 2) => {
            let id = node_name(context.door.backend.status().id);
            context.out.bulk(id.as_bytes());
        }
        ("nodes", 2) => nodes(context),
        ("slots", 2) => slots(context),
        ("shards", 2) => shards(context),
        ("keyslot", 3) => context.out.integer(i64::from(key_slot(words.get(2)))),
        ("info" | "myid" | "nodes" | "slots" | "shards" | "keyslot", _) => {
            wrong_arguments(context, "cluster", &subcommand);
        }
        _ => unknown_subcommand(context, words),
    }
}

fn info(context: &mut Context<'_>) {
    let status = context.door.backend.status();
    let mut text = String::new();
    let state = if status.leader_id.is_some() { "ok" } else { "fail" };
    for (key, value) in [
        ("cluster_slots_assigned", u64::from(SLOTS)),
        ("cluster_slots_ok", u64::from(SLOTS)),
        ("cluster_known_nodes", status.members.len() as u64),
        ("cluster_size", 1),
        ("cluster_current_epoch", status.term),
    ] {
        write!(text, "{key}:{value}\r\n").expect("writing to a String does not fail");
    }
    context.out.verbatim(&format!("cluster_state:{state}\r\n{text}"), context.session.version);
}

/// One line per node, as Redis writes its `nodes.conf`.
fn nodes(context: &mut Context<'_>) {
    let status = context.door.backend.status();
    let leader = master(&status);
    let mut text = String::new();
    for member in &status.members {
        let (host, port) = host_and_port(member);
        let myself = if member.id == status.id { "myself," } else { "" };
        let (role, of, slots) = if Some(member.id) == leader {
            ("master", "-".to_owned(), format!(" 0-{}", SLOTS - 1))
        } else {
            ("slave", leader.map_or_else(|| "-".to_owned(), node_name), String::new())
        };
        writeln!(
            text,
            "{} {host}:{port}@{port} {myself}{role} {of} 0 0 {} connected{slots}",
            node_name(member.id),
            status.term,
        )
        .expect("writing to a String does not fail");
    }
    context.out.verbatim(&text, context.session.version);
}

/// All slots at the leader. Others are not offered as replicas: they would answer, but only by asking the leader.
fn slots(context: &mut Context<'_>) {
    let status = context.door.backend.status();
    let Some(member) = master(&status).and_then(|id| status.members.iter().find(|member| member.id == id))
    else {
        return context.out.array(0);
    };
    let (host, port) = host_and_port(member);
    context.out.array(1);
    context.out.array(3);
    context.out.integer(0);
    context.out.integer(i64::from(SLOTS - 1));
    context.out.array(3);
    context.out.bulk(host.as_bytes());
    context.out.integer(i64::from(port));
    context.out.bulk(node_name(member.id).as_bytes());
}

fn shards(context: &mut Context<'_>) {
    let status = context.door.backend.status();
    let version = context.session.version;
    let leader = master(&status);
    let out = &mut *context.out;
    out.array(1);
    out.map(2, version);
    out.bulk(b"slots");
    out.array(2);
    out.integer(0);
    out.integer(i64::from(SLOTS - 1));
    out.bulk(b"nodes");
    out.array(status.members.len());
    for member in &status.members {
        let (host, port) = host_and_port(member);
        out.map(6, version);
        out.bulk(b"id");
        out.bulk(node_name(member.id).as_bytes());
        out.bulk(b"port");
        out.integer(i64::from(port));
        out.bulk(b"ip");
        out.bulk(host.as_bytes());
        out.bulk(b"endpoint");
        out.bulk(host.as_bytes());
        out.bulk(b"role");
        out.bulk(if Some(member.id) == leader { b"master" } else { b"replica" });
        out.bulk(b"health");
        out.bulk(b"online");
    }
}

/// Where a cluster client should go: to the leader; to this node while none is known, which then says so itself.
fn master(status: &NodeStatus) -> Option<u64> {
    match status.role {
        Role::Starting => status.leader_id,
        _ => status.leader_id.or(Some(status.id)),
    }
}

/// A node's id in the 40 digits of a Redis Cluster node.
fn node_name(id: u64) -> String {
    format!("{id:040x}")
}

fn host_and_port(member: &Member) -> (&str, u16) {
    let (host, port) = member.resp.rsplit_once(':').unwrap_or((member.resp.as_str(), "0"));
    (host.trim_start_matches('[').trim_end_matches(']'), port.parse().unwrap_or(0))
}

/// The slot of a key: CRC16 (XMODEM) of the part between the first braces, or of all of it.
fn key_slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|&byte| byte == b'}').filter(|&length| length > 0).map(|length| &rest[..length])
    });
    let mut crc = 0_u16;
    for &byte in tag.unwrap_or(key) {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
        }
    }
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_slots_are_those_of_redis_cluster() {
        // 12739 is the check value of the CRC for "123456789"; the others are from Redis' documentation.
        assert_eq!(key_slot(b"123456789"), 12_739);
        assert_eq!(key_slot(b"foo"), 12_182);
        assert_eq!(key_slot(b"{user1000}.following"), key_slot(b"{user1000}.followers"));
        assert_eq!(key_slot(b"foo{}{bar}"), 8_363, "empty braces are no tag");
        assert_ne!(key_slot(b"foo{{bar}}zap"), key_slot(b"bar"));
    }
}
