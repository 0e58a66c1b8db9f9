//! A Redis client of a few lines: one connection, blocking, no cleverness, so that nothing is retried behind a
//! test's back and every reply is seen as it came.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest bulk string and the most array elements this client accepts.
const MOST: usize = 512 << 20;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR ...`, without the sign.
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$3`; `None` is the null.
    Bulk(Option<Vec<u8>>),
    /// `*2`
    Array(Vec<Reply>),
}

impl Reply {
    /// Whether it is `+OK`.
    pub fn is_ok(&self) -> bool {
        *self == Reply::Simple("OK".into())
    }

    /// The text of a string reply; `None` for the null and everything else.
    pub fn text(&self) -> Option<String> {
        match self {
            Reply::Bulk(Some(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Reply::Simple(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// Whether it is an error that says the command was not appended to the log, so that it may be sent again.
    pub fn is_not_appended(&self) -> bool {
        let safe = ["CLUSTERDOWN", "TRYAGAIN", "LOADING", "MOVED"];
        matches!(self, Reply::Error(text) if safe.iter().any(|code| text.starts_with(code)))
    }
}

/// Why there is no reply.
#[derive(Debug)]
pub enum Failure {
    /// There was no connection: nothing was sent.
    NotSent(io::Error),
    /// The request may have arrived; its reply did not.
    NoReply(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotSent(error) => write!(f, "not sent: {error}"),
            Failure::NoReply(error) => write!(f, "no reply: {error}"),
        }
    }
}

/// A connection to one node, opened when it is needed and again after a failure.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    timeout: Duration,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client of the node at `address` that gives up on a reply after `timeout`.
    pub fn new(address: SocketAddr, timeout: Duration) -> Client {
        Client { address, timeout, connection: None }
    }

    /// Sends one command and reads its reply.
    ///
    /// # Errors
    /// When there is no reply. The connection is then given up, so that a late reply is never taken for another's.
    pub fn call(&mut self, words: &[&str]) -> Result<Reply, Failure> {
        self.call_bytes(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>())
    }

    /// [`Client::call`] with words that need not be text.
    ///
    /// # Errors
    /// As there.
    pub fn call_bytes(&mut self, words: &[&[u8]]) -> Result<Reply, Failure> {
        Ok(self.pipeline(&[words])?.remove(0))
    }

    /// Sends all commands at once and reads their replies.
    ///
    /// # Errors
    /// When not all replies came.
    pub fn pipeline(&mut self, commands: &[&[&[u8]]]) -> Result<Vec<Reply>, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().map_err(Failure::NotSent)?,
        };
        let mut request = Vec::new();
        for words in commands {
            encode(&mut request, words);
        }
        connection.get_mut().write_all(&request).map_err(Failure::NoReply)?;
        let replies = commands.iter().map(|_| read_reply(&mut connection));
        let replies = replies.collect::<io::Result<Vec<_>>>().map_err(Failure::NoReply)?;
        self.connection = Some(connection);
        Ok(replies)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, self.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(BufReader::new(stream))
    }
}

fn encode(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn read_reply(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    from.by_ref().take(64 << 10).read_line(&mut line)?;
    let Some(line) = line.strip_suffix("\r\n") else {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("connection closed after {line:?}"),
        ));
    };
    let rest = line.get(1..).unwrap_or("");
    let number = || rest.parse::<i64>().map_err(|_| broken(format!("no number in {line:?}")));
    let length = |number: i64| match usize::try_from(number) {
        Ok(length) if length <= MOST => Ok(length),
        _ => Err(broken(format!("length {number}"))),
    };
    match line.as_bytes().first() {
        Some(b'+') => Ok(Reply::Simple(rest.to_owned())),
        Some(b'-') => Ok(Reply::Error(rest.to_owned())),
        Some(b':') => Ok(Reply::Integer(number()?)),
        Some(b'_') => Ok(Reply::Bulk(None)),
        Some(b'$' | b'*') if number()? == -1 => Ok(Reply::Bulk(None)),
        Some(b'$') => {
            let length = length(number()?)?;
            let mut bytes = Vec::new();
            from.by_ref().take(length as u64 + 2).read_to_end(&mut bytes)?;
            if bytes.len() != length + 2 || !bytes.ends_with(b"\r\n") {
                return Err(broken(format!("bulk string of {length} bytes is cut or does not end in CRLF")));
            }
            bytes.truncate(length);
            Ok(Reply::Bulk(Some(bytes)))
        }
        Some(b'*') => {
            let length = length(number()?)?;
            (0..length).map(|_| read_reply(from)).collect::<io::Result<_>>().map(Reply::Array)
        }
        _ => Err(broken(format!("unknown reply {line:?}"))),
    }
}
