//! A server that takes its time for each page, in a process of its own: what it needs is not the client's.
//!
//! Plain HTTP is served by `tiny_http`, which keeps a thread for each open connection, however few threads the client
//! needs: that is its design, and a program that links it has those threads. HTTPS is served by rustls on fibers of one
//! worker, through `std::net`.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use fiber_runtime::Runtime;
use moon_tests::process::Process;
use moon_tests::wait::wait_for;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use tiny_http::{Request, Response, Server};

use crate::program::PATIENCE;
use crate::{Failure, descriptors};

/// Descriptors that a server may need, one for each connection.
const DESCRIPTORS: u64 = 8192;
/// Says where the server listens, on its standard output.
const LISTENING: &str = "listening on ";
/// Says the certificate, in hexadecimal digits.
const CERTIFICATE: &str = "certificate ";

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct SlowServer {
    address: SocketAddr,
    certificate: Option<Vec<u8>>,
    process: Process,
    _folder: TempDir,
}

impl SlowServer {
    /// Runs `command`, a program that calls [`serve`] with its arguments, so that it answers `delay` after each request
    /// has come.
    ///
    /// # Panics
    /// If it does not listen in time.
    pub fn start(command: &mut Command, scheme: Scheme, delay: Duration) -> SlowServer {
        let folder = tempfile::Builder::new().prefix("moon-http-").tempdir().expect("a temporary folder");
        command.args([scheme.name(), &delay.as_millis().to_string()]);
        let mut process = Process::start(command, &folder.path().join("log"));
        let address = wait_for("a server that listens", PATIENCE, || {
            let log = process.log();
            if let Some(status) = process.ended() {
                panic!("the server ended with {status}: {log}");
            }
            said(&log, LISTENING)?.parse().ok()
        });
        let certificate = said(&process.log(), CERTIFICATE).and_then(from_hexadecimal);
        SlowServer { address, certificate, process, _folder: folder }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { Scheme::Https } else { Scheme::Http };
        format!("{}://{}", scheme.name(), self.address)
    }

    /// Its self-signed certificate, if it has one.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// How many threads it has.
    pub fn threads(&self) -> u64 {
        self.process.status_field("Threads")
    }
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Through TLS.
    Https,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// What follows `what` on a finished line of its own.
fn said(log: &str, what: &str) -> Option<String> {
    let mut lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    lines.find_map(|line| Some(line.strip_prefix(what)?.to_owned()))
}

/// The server itself: with the arguments that [`SlowServer::start`] gives its program. Runs until it is killed.
///
/// # Errors
/// The arguments are others, or that of listening.
pub fn serve(arguments: &[String]) -> Result<(), Failure> {
    let [scheme, delay] = arguments else { return Err("wanted: http or https, and milliseconds".into()) };
    let delay = Duration::from_millis(delay.parse()?);
    descriptors::allow(DESCRIPTORS);
    match scheme.as_str() {
        "http" => serve_http(delay),
        "https" => serve_https(delay),
        other => Err(format!("http or https, not {other}").into()),
    }
}

fn page(path: &str) -> String {
    format!("slow page {path}")
}

fn serve_http(delay: Duration) -> Result<(), Failure> {
    let server = Server::http((Ipv4Addr::LOCALHOST, 0))?;
    println!("{LISTENING}{}", server.server_addr());
    let (waiting, requests) = mpsc::channel::<(Instant, Request)>();
    thread::spawn(move || {
        for (due, request) in requests {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let page = page(request.url());
            // A client that has gone away does not get it.
            let _ = request.respond(Response::from_string(page));
        }
    });
    loop {
        let request = server.recv()?;
        // Nobody takes requests any more: the thread has panicked, and said so.
        waiting.send((Instant::now() + delay, request)).map_err(|_| "the answering thread has ended")?;
    }
}

fn serve_https(delay: Duration) -> Result<(), Failure> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let config = Arc::new(config(certificate.clone(), key)?);
    let runtime = Runtime::builder().workers(1).stack_size(256 << 10).name("https").build()?;
    runtime.block_on(|| -> Result<(), Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        println!("{CERTIFICATE}{}", to_hexadecimal(&certificate));
        println!("{LISTENING}{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept()?;
            let connection = ServerConnection::new(config.clone())?;
            // A client that breaks off is no concern of the others'.
            fiber_runtime::spawn(move || drop(answer(StreamOwned::new(connection, stream), delay))).detach();
        }
    })
}

fn config(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(versions.with_no_client_auth().with_single_cert(vec![certificate], key)?)
}

/// Reads one request, waits, and answers it.
fn answer(mut stream: StreamOwned<ServerConnection, TcpStream>, delay: Duration) -> io::Result<()> {
    let mut reader = BufReader::new(&mut stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::from(" ");
    while !line.trim_end().is_empty() {
        line.clear();
        reader.read_line(&mut line)?;
    }
    thread::sleep(delay);
    let page = page(first.split(' ').nth(1).unwrap_or_default());
    let length = page.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}")?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn to_hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hexadecimal(text: String) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_their_digits_and_nonsense_does_not() {
        assert_eq!(from_hexadecimal(to_hexadecimal(&[0, 10, 255])), Some(vec![0, 10, 255]));
        assert_eq!(from_hexadecimal("0".into()), None);
        assert_eq!(from_hexadecimal("0g".into()), None);
    }

    #[test]
    fn half_a_line_has_not_been_said() {
        assert_eq!(said("noise\nlistening on 127.0.0.1:4", LISTENING), None);
        assert_eq!(said("noise\nlistening on 127.0.0.1:43\n", LISTENING), Some("127.0.0.1:43".into()));
    }

    #[test]
    fn other_arguments_are_refused() {
        assert!(serve(&[]).is_err());
        assert!(serve(&["gopher".into(), "1".into()]).is_err());
        assert!(serve(&["http".into(), "soon".into()]).is_err());
    }
}
