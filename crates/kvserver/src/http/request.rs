//! The head of a request, taken off the front of a connection's buffer.

use bytes::{Buf, BytesMut};

/// Header lines of one request.
const MAX_HEADERS: usize = 64;

/// What the rest of the server wants to know about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Without the query.
    pub(super) path: String,
    /// Bytes of the body, which follow the head.
    pub(super) body_bytes: usize,
    /// Whether the client wants to use the connection again.
    pub(super) keep_alive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    /// All that are answered with 405.
    Other,
}

/// Why there is no request, as the status that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadRequest {
    /// 400: not HTTP, or contradicts itself.
    Malformed,
    /// 431: the head is longer than allowed.
    HeadTooLarge,
    /// 413: the body is longer than allowed.
    BodyTooLarge,
    /// 501: a body in a form that is not read here.
    Unsupported,
    /// 505: not HTTP/1.
    Version,
}

/// Takes the head of a request off `buffer`; `None` when its end has not come yet.
pub(super) fn take(
    buffer: &mut BytesMut,
    head_bytes: usize,
    body_bytes: usize,
) -> Result<Option<Request>, BadRequest> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(length)) if length > head_bytes => {
            return Err(BadRequest::HeadTooLarge);
        }
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() > head_bytes => return Err(BadRequest::HeadTooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(BadRequest::HeadTooLarge),
        Err(httparse::Error::Version) => return Err(BadRequest::Version),
        Err(_) => return Err(BadRequest::Malformed),
    };
    let request = read_head(&parsed, body_bytes)?;
    buffer.advance(length);
    Ok(Some(request))
}

fn read_head(parsed: &httparse::Request<'_, '_>, limit: usize) -> Result<Request, BadRequest> {
    let method = match parsed.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => Method::Other,
    };
    let mut keep_alive = parsed.version == Some(1);
    let mut length = None;
    for header in parsed.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let value = body_length(header.value).ok_or(BadRequest::Malformed)?;
            // Two lengths that differ are how requests are smuggled past a proxy.
            if length.is_some_and(|other| other != value) {
                return Err(BadRequest::Malformed);
            }
            length = Some(value);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(BadRequest::Unsupported);
        } else if header.name.eq_ignore_ascii_case("connection") {
            let value = String::from_utf8_lossy(header.value).to_ascii_lowercase();
            let named = |token: &str| value.split(',').any(|found| found.trim() == token);
            keep_alive = (keep_alive || named("keep-alive")) && !named("close");
        }
    }
    let body_bytes = match length.unwrap_or(0) {
        length if length > limit as u64 => return Err(BadRequest::BodyTooLarge),
        length => length as usize,
    };
    let target = parsed.path.unwrap_or("/");
    Ok(Request { method, path: path_of(target).to_owned(), body_bytes, keep_alive })
}

fn body_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// The path of a request target: without scheme and authority, which proxies send, and without the query.
fn path_of(target: &str) -> &str {
    let target = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    target.split(['?', '#']).next().unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Option<Request>, BadRequest> {
        take(&mut BytesMut::from(text), 400, 10)
    }

    #[test]
    fn heads_are_read() {
        let request = one("GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap();
        assert_eq!(
            request,
            Request { method: Method::Get, path: "/metrics".into(), body_bytes: 0, keep_alive: true }
        );
        let request = one("HEAD http://a:1/livez HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert_eq!(
            request,
            Request { method: Method::Head, path: "/livez".into(), body_bytes: 0, keep_alive: false }
        );
        let request =
            one("PUT / HTTP/1.1\r\nContent-Length: 10\r\nConnection: Close\r\n\r\n").unwrap().unwrap();
        assert_eq!((request.method, request.body_bytes, request.keep_alive), (Method::Other, 10, false));
        let request = one("GET / HTTP/1.0\r\nConnection: foo, keep-alive\r\n\r\n").unwrap().unwrap();
        assert!(request.keep_alive);
    }

    #[test]
    fn every_truncation_waits_for_more() {
        let text = "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(one(&text[..cut]), Ok(None), "cut at {cut}");
        }
        let mut buffer = BytesMut::from(format!("{text}GET /next").as_str());
        assert!(take(&mut buffer, 400, 10).unwrap().is_some());
        assert_eq!(&buffer[..], b"GET /next");
    }

    #[test]
    fn what_is_wrong_has_its_own_status() {
        use BadRequest::*;
        let header = "A: b\r\n";
        for (text, expected) in [
            ("\x16\x03\x01\r\n\r\n".to_owned(), Malformed),
            ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), Malformed),
            ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(), Malformed),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), Malformed),
            ("GET / HTTP/1.1\r\nContent-Length: 11\r\n\r\n".to_owned(), BodyTooLarge),
            ("GET / HTTP/1.1\r\nContent-Length: 999999999999999999\r\n\r\n".to_owned(), BodyTooLarge),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), Unsupported),
            ("GET / HTTP/3.1\r\n\r\n".to_owned(), Version),
            (format!("GET / HTTP/1.1\r\n{}", header.repeat(100)), HeadTooLarge),
            (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(400)), HeadTooLarge),
        ] {
            assert_eq!(one(&text), Err(expected), "{text:?}");
        }
    }
}
