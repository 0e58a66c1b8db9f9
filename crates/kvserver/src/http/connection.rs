//! One HTTP client: requests one after the other on the same connection.

use std::io::{self, Read as _, Write as _};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use fiber_runtime::net::TcpStream;
use fiber_runtime::time;

use super::request::{self, BadRequest, Method, Request};
use super::response::Response;
use super::routes::Pages;
use super::server::Config;
use crate::front::{self, Connection};

/// Bytes of one read.
const READ_BYTES: usize = 2 * 1024;

/// Serves a client until it leaves, makes a mistake or is too slow.
pub(super) fn serve(pages: &Pages, config: &Config, stream: &TcpStream, connection: &Connection<()>) {
    let mut client = Serving { pages, config, stream, buffer: BytesMut::new() };
    // An error of the socket has nobody left to be told to.
    let _ = client.run(connection);
}

struct Serving<'a> {
    pages: &'a Pages,
    config: &'a Config,
    stream: &'a TcpStream,
    buffer: BytesMut,
}

/// How waiting for a request ended.
enum Arrival {
    Request(Request),
    Bad(BadRequest),
    /// The time for it was over after its beginning.
    TooSlow,
    /// The client left or stayed silent between requests.
    Nothing,
}

impl Serving<'_> {
    fn run(&mut self, connection: &Connection<()>) -> io::Result<()> {
        loop {
            let request = match self.wait_for_request()? {
                Arrival::Request(request) => request,
                Arrival::Bad(problem) => return self.refuse(&refusal(problem)),
                Arrival::TooSlow => return self.refuse(&Response::text(408, "the request took too long")),
                Arrival::Nothing => return Ok(()),
            };
            if !connection.begin() {
                return Ok(());
            }
            let response = self.pages.answer(request.method, &request.path);
            self.send(&response.encode(request.method != Method::Head, request.keep_alive))?;
            connection.end();
            if !request.keep_alive {
                front::linger(self.stream);
                return Ok(());
            }
        }
    }

    /// Reads a head and the body behind it. No page wants the body, so it is read away.
    fn wait_for_request(&mut self) -> io::Result<Arrival> {
        let mut deadline = None;
        let mut worth_parsing = !self.buffer.is_empty();
        loop {
            if worth_parsing {
                match request::take(&mut self.buffer, self.config.head_bytes, self.config.body_bytes) {
                    Ok(Some(request)) => {
                        let deadline = deadline.unwrap_or_else(|| time::now() + self.config.request_timeout);
                        return self.skip_body(request, deadline);
                    }
                    Ok(None) => {}
                    Err(problem) => return Ok(Arrival::Bad(problem)),
                }
            }
            if !self.buffer.is_empty() && deadline.is_none() {
                deadline = Some(time::now() + self.config.request_timeout);
            }
            let before = self.buffer.len();
            match self.read(deadline.unwrap_or_else(|| time::now() + self.config.idle_timeout)) {
                Ok(0) => return Ok(Arrival::Nothing),
                Ok(_) => {}
                Err(error) if is_timeout(&error) && before > 0 => return Ok(Arrival::TooSlow),
                Err(error) if is_timeout(&error) => return Ok(Arrival::Nothing),
                Err(error) => return Err(error),
            }
            // The parser starts from the beginning each time; single bytes of a line are not worth that.
            worth_parsing = before == 0
                || self.buffer[before..].contains(&b'\n')
                || self.buffer.len() > self.config.head_bytes;
        }
    }

    fn skip_body(&mut self, request: Request, deadline: Instant) -> io::Result<Arrival> {
        let mut left = request.body_bytes;
        loop {
            let skipped = left.min(self.buffer.len());
            self.buffer.advance(skipped);
            left -= skipped;
            if left == 0 {
                return Ok(Arrival::Request(request));
            }
            match self.read(deadline) {
                Ok(0) => return Ok(Arrival::Nothing),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Ok(Arrival::TooSlow),
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&mut self, deadline: Instant) -> io::Result<usize> {
        self.stream.set_read_deadline(Some(deadline));
        let before = self.buffer.len();
        self.buffer.resize(before + READ_BYTES, 0);
        let result = (&*self.stream).read(&mut self.buffer[before..]);
        self.buffer.truncate(before + *result.as_ref().unwrap_or(&0));
        result
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_deadline(Some(time::now() + self.config.write_timeout));
        (&*self.stream).write_all(bytes)
    }

    fn refuse(&self, response: &Response) -> io::Result<()> {
        self.send(&response.encode(true, false))?;
        front::linger(self.stream);
        Ok(())
    }
}

fn refusal(problem: BadRequest) -> Response {
    match problem {
        BadRequest::Malformed => Response::text(400, "this is not an HTTP request"),
        BadRequest::HeadTooLarge => Response::text(431, "the head of the request is too large"),
        BadRequest::BodyTooLarge => Response::text(413, "the body of the request is too large"),
        BadRequest::Unsupported => Response::text(501, "transfer codings are not supported"),
        BadRequest::Version => Response::text(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}
