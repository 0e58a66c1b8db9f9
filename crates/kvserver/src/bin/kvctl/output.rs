//! What `kvctl` prints: text for people, JSON for programs.

use std::io::Write;
use std::net::SocketAddr;

use bytes::Bytes;
use kvserver::command::NodeStatus;
use serde_json::{Map, Value, json};

/// Prints results in one of the two forms.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json }
    }

    pub(crate) fn error(&self, kind: &str, message: &str) {
        if self.json {
            self.line(json!({ "error": kind, "message": message }).to_string().as_bytes());
        } else {
            eprintln!("kvctl: {message}");
        }
    }

    pub(crate) fn value(&self, key: &str, value: Option<&Bytes>) {
        if self.json {
            let mut object = Map::new();
            object.insert("key".to_owned(), key.into());
            object.insert("found".to_owned(), value.is_some().into());
            if let Some(value) = value {
                insert_bytes(&mut object, "value", value);
            }
            self.line(Value::Object(object).to_string().as_bytes());
        } else {
            match value {
                Some(value) => self.line(value),
                None => eprintln!("kvctl: no such key: {key}"),
            }
        }
    }

    pub(crate) fn done(&self, key: &str, what: &str, number: u64) {
        if self.json {
            self.line(json!({ "key": key, what: number }).to_string().as_bytes());
        } else {
            self.line(b"OK");
        }
    }

    pub(crate) fn number(&self, key: &str, what: &str, number: impl Into<Value>) {
        let number = number.into();
        if self.json {
            self.line(json!({ "key": key, what: number }).to_string().as_bytes());
        } else {
            self.line(number.to_string().as_bytes());
        }
    }

    pub(crate) fn count(&self, what: &str, count: u64) {
        if self.json {
            self.line(json!({ what: count }).to_string().as_bytes());
        } else {
            self.line(count.to_string().as_bytes());
        }
    }

    pub(crate) fn swapped(&self, key: &str, swapped: bool, current: Option<&Bytes>) {
        if self.json {
            let mut object = Map::new();
            object.insert("key".to_owned(), key.into());
            object.insert("swapped".to_owned(), swapped.into());
            if !swapped {
                object.insert("found".to_owned(), current.is_some().into());
            }
            if let Some(current) = current {
                insert_bytes(&mut object, "current", current);
            }
            self.line(Value::Object(object).to_string().as_bytes());
        } else if swapped {
            self.line(b"OK");
        } else {
            match current {
                Some(current) => self.line(&[b"not swapped, the value is ", &current[..]].concat()),
                None => self.line(b"not swapped, the key does not exist"),
            }
        }
    }

    pub(crate) fn entries(&self, entries: &[(Bytes, Option<Bytes>)], more: bool) {
        if self.json {
            let entries: Vec<Value> = entries
                .iter()
                .map(|(key, value)| {
                    let mut object = Map::new();
                    insert_bytes(&mut object, "key", key);
                    if let Some(value) = value {
                        insert_bytes(&mut object, "value", value);
                    }
                    Value::Object(object)
                })
                .collect();
            self.line(json!({ "entries": entries, "more": more }).to_string().as_bytes());
            return;
        }
        for (key, value) in entries {
            match value {
                Some(value) => self.line(&[&key[..], b"\t", value].concat()),
                None => self.line(key),
            }
        }
        if more {
            eprintln!("kvctl: there are more keys; raise --limit");
        }
    }

    pub(crate) fn nodes(&self, nodes: &[(SocketAddr, Result<NodeStatus, String>)]) {
        if self.json {
            let nodes: Vec<Value> = nodes
                .iter()
                .map(|(address, node)| match node {
                    Ok(node) => {
                        let mut object = serde_json::to_value(node).unwrap_or_default();
                        object["address"] = address.to_string().into();
                        object
                    }
                    Err(error) => json!({ "address": address.to_string(), "error": error }),
                })
                .collect();
            self.line(json!({ "nodes": nodes }).to_string().as_bytes());
            return;
        }
        let mut rows = vec![
            [
                "node",
                "address",
                "role",
                "term",
                "leader",
                "commit",
                "applied",
                "last log",
                "snapshot",
                "keys",
                "state hash",
            ]
            .map(str::to_owned),
        ];
        let mut silent = Vec::new();
        for (address, node) in nodes {
            let node = match node {
                Ok(node) => node,
                Err(error) => {
                    silent.push(format!("kvctl: {address} does not answer: {error}"));
                    continue;
                }
            };
            rows.push([
                node.id.to_string(),
                address.to_string(),
                node.role.as_str().to_owned(),
                node.term.to_string(),
                node.leader_id.map_or("-".to_owned(), |leader| leader.to_string()),
                node.commit_index.to_string(),
                node.applied_index.to_string(),
                node.last_log_index.to_string(),
                node.snapshot_index.to_string(),
                node.keys.to_string(),
                node.state_hash.clone(),
            ]);
        }
        let mut widths = [0; 11];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.len());
            }
        }
        for row in &rows {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            self.line(cells.join("  ").trim_end().as_bytes());
        }
        for line in silent {
            eprintln!("{line}");
        }
    }

    /// Writes raw bytes: a value is whatever it is.
    fn line(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        // A reader that went away does not want the rest.
        let _ = out.write_all(bytes).and_then(|()| out.write_all(b"\n"));
    }
}

/// A JSON string if the bytes are UTF-8, else `<name>_hex`.
fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &Bytes) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{name}_hex"), hex.into())
        }
    };
}
