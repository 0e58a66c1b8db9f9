//! A node of one map behind the real doors, and clients that speak byte by byte.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

pub(crate) mod memory;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fiber_runtime::Runtime;
use kvserver::{http, resp};
use memory::Memory;

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running node.
pub(crate) struct Node {
    pub(crate) backend: Arc<Memory>,
    pub(crate) resp: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) resp_handle: resp::ServerHandle,
    pub(crate) http_handle: http::ServerHandle,
    pub(crate) runtime: Runtime,
}

impl Node {
    pub(crate) fn start() -> Node {
        Node::with(resp::Config::default(), http::Config::default())
    }

    pub(crate) fn with(resp_config: resp::Config, http_config: http::Config) -> Node {
        let runtime = Runtime::builder().workers(2).name("test").build().unwrap();
        let backend = Arc::new(Memory::default());
        let shared = backend.clone();
        let (resp, http) = runtime.block_on(move || {
            let any = "127.0.0.1:0".parse().unwrap();
            let registry = shared.registry.clone();
            let resp = resp::Server::bind(any, resp_config, shared.clone(), &registry).unwrap();
            let http = http::Server::bind(any, http_config, shared, &registry).unwrap();
            (resp, http)
        });
        let (resp_address, http_address) = (resp.local_addr().unwrap(), http.local_addr().unwrap());
        let (resp_handle, http_handle) = (resp.handle(), http.handle());
        runtime.spawn(move || resp.serve()).detach();
        runtime.spawn(move || http.serve()).detach();
        Node { backend, resp: resp_address, http: http_address, resp_handle, http_handle, runtime }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.resp)
    }
}

/// A reply of either dialect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Verbatim(String),
}

impl Value {
    pub(crate) fn bulk(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    pub(crate) fn error(&self) -> &str {
        match self {
            Value::Error(message) => message,
            other => panic!("not an error: {other:?}"),
        }
    }

    pub(crate) fn array(self) -> Vec<Value> {
        match self {
            Value::Array(values) => values,
            other => panic!("not an array: {other:?}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Value::Bulk(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            Value::Simple(text) | Value::Verbatim(text) => text.clone(),
            other => panic!("not a text: {other:?}"),
        }
    }
}

/// A client on a plain thread that shows replies as they are.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn send(&mut self, words: &[&[u8]]) {
        self.send_raw(&request(words));
    }

    /// Sends a command of blank-separated words and returns its reply.
    pub(crate) fn call(&mut self, line: &str) -> Value {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.send(&words);
        self.reply()
    }

    pub(crate) fn reply(&mut self) -> Value {
        let line = self.line();
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().unwrap_or_else(|_| panic!("no number in {line:?}"));
        match kind {
            "+" => Value::Simple(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Integer(number()),
            "_" => Value::Null,
            "$" | "*" if rest == "-1" => Value::Null,
            "$" => Value::Bulk(self.exactly(number() as usize)),
            "=" => {
                let text = String::from_utf8(self.exactly(number() as usize)).unwrap();
                Value::Verbatim(text.strip_prefix("txt:").unwrap().to_owned())
            }
            "*" => Value::Array((0..number()).map(|_| self.reply()).collect()),
            "%" => Value::Map((0..number()).map(|_| (self.reply(), self.reply())).collect()),
            _ => panic!("not a reply: {line:?}"),
        }
    }

    /// Whether the server has closed the connection, with nothing before.
    pub(crate) fn is_at_end(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("not a line: {line:?}")).to_owned()
    }

    fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).unwrap();
        assert!(bytes.ends_with(b"\r\n"));
        bytes.truncate(length);
        bytes
    }
}

/// The array form of a request.
pub(crate) fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Waits until `holds`, or fails saying what did not come true.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
