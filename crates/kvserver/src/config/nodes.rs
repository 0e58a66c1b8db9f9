//! The nodes of a cluster: `node0ip`, `node0port`, `node0resp`, `node0http`, then `node1ip` and so on.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::{ConfigError, Origin};

/// Largest id of a node.
pub const MAX_NODE_ID: u64 = 63;

/// Where one node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAddresses {
    /// For its peers and for clerks: `nodeNip` and `nodeNport`.
    pub rpc: SocketAddr,
    /// For Redis clients: `nodeNresp`, a port on the same address or `ip:port`. Without it there is no such door.
    pub resp: Option<SocketAddr>,
    /// For status, health and metrics: `nodeNhttp`, as above.
    pub http: Option<SocketAddr>,
}

/// Splits `node12port` into 12 and `port`. Ids are written without leading zeros.
fn split(key: &str) -> Option<(&str, &str)> {
    let rest = key.strip_prefix("node")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (id, field) = rest.split_at(digits);
    let canonical = !id.is_empty() && (id == "0" || !id.starts_with('0'));
    (canonical && matches!(field, "ip" | "port" | "resp" | "http")).then_some((id, field))
}

pub(super) fn is_key(key: &str) -> bool {
    split(key).is_some()
}

/// Puts the keys of each node together.
pub(super) fn assemble(
    file: &Path,
    keys: &[(&str, &str, &Origin)],
) -> Result<BTreeMap<u64, NodeAddresses>, ConfigError> {
    let fail = |key: &str, origin: &Origin, problem: String| ConfigError::Value {
        origin: origin.clone(),
        key: key.to_owned(),
        problem,
    };
    let mut fields: BTreeMap<u64, BTreeMap<&str, (&str, &str, &Origin)>> = BTreeMap::new();
    for (key, value, origin) in keys.iter().copied() {
        let (id, field) = split(key).expect("only keys of nodes are given here");
        let id = id
            .parse()
            .ok()
            .filter(|id| *id <= MAX_NODE_ID)
            .ok_or_else(|| fail(key, origin, format!("node ids are at most {MAX_NODE_ID}")))?;
        fields.entry(id).or_default().insert(field, (key, value, origin));
    }

    let mut nodes = BTreeMap::new();
    let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
    let nowhere = Origin::Nowhere(file.to_owned());
    if fields.is_empty() {
        return Err(fail("node0ip", &nowhere, "no node is given: at least node0ip and node0port".to_owned()));
    }
    for (expected, (id, fields)) in (0..).zip(&fields) {
        if *id != expected {
            let (key, _, origin) = fields.values().next().expect("a node is here because a key of it is");
            return Err(fail(key, origin, format!("node {expected} is missing: ids are 0, 1, 2, ...")));
        }
        let get = |field: &str| fields.get(field).copied();
        let missing = |field: &str| {
            let (_, _, origin) = fields.values().next().expect("a node is here because a key of it is");
            fail(&format!("node{id}{field}"), origin, format!("is missing: node {id} needs ip and port"))
        };
        let (key, text, origin) = get("ip").ok_or_else(|| missing("ip"))?;
        let ip: IpAddr = text
            .parse()
            .map_err(|_| fail(key, origin, format!("{text:?} is not an IP address such as 127.0.0.1")))?;
        let (rpc_key, text, rpc_origin) = get("port").ok_or_else(|| missing("port"))?;
        let port = port(text).map_err(|problem| fail(rpc_key, rpc_origin, problem))?;
        let rpc = SocketAddr::new(ip, port);
        let mut claim =
            |key: &str, origin: &Origin, address: SocketAddr| match taken.insert(address, key.to_owned()) {
                None => Ok(()),
                Some(other) => Err(fail(key, origin, format!("{address} is already taken by {other}"))),
            };
        claim(rpc_key, rpc_origin, rpc)?;
        let mut door = |field: &str| -> Result<Option<SocketAddr>, ConfigError> {
            let Some((key, text, origin)) = get(field) else { return Ok(None) };
            let address = door_address(ip, text).map_err(|problem| fail(key, origin, problem))?;
            claim(key, origin, address)?;
            Ok(Some(address))
        };
        let addresses = NodeAddresses { rpc, resp: door("resp")?, http: door("http")? };
        nodes.insert(*id, addresses);
    }
    Ok(nodes)
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{text:?} is not a port between 1 and 65535")),
    }
}

fn door_address(ip: IpAddr, text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>()
        && address.port() > 0
    {
        return Ok(address);
    }
    port(text)
        .map(|port| SocketAddr::new(ip, port))
        .map_err(|_| format!("{text:?} is neither a port nor ip:port"))
}
