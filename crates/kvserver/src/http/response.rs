//! Responses and their encoding.

/// One response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
    /// The methods a path knows, for 405.
    pub(super) allow: Option<&'static str>,
}

impl Response {
    /// A line of text.
    pub(super) fn text(status: u16, text: impl Into<String>) -> Self {
        let mut body = text.into();
        body.push('\n');
        Response { status, content_type: "text/plain; charset=utf-8", body, allow: None }
    }

    /// A JSON value.
    pub(super) fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(mut body) => {
                body.push('\n');
                Response { status: 200, content_type: "application/json", body, allow: None }
            }
            Err(error) => Response::text(500, format!("cannot encode: {error}")),
        }
    }

    /// The bytes on the wire.
    pub(super) fn encode(&self, with_body: bool, keep_alive: bool) -> Vec<u8> {
        let mut out = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len()
        );
        if let Some(allow) = self.allow {
            out.push_str(&format!("Allow: {allow}\r\n"));
        }
        // The pages are of the moment and for the one who asks.
        out.push_str("Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
        out.push_str(if keep_alive { "\r\n" } else { "Connection: close\r\n\r\n" });
        if with_body {
            out.push_str(&self.body);
        }
        out.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_carry_their_length_and_whether_the_connection_stays() {
        let response = Response::text(200, "ok");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let kept = text(response.encode(true, true));
        assert!(kept.starts_with("HTTP/1.1 200 OK\r\n") && kept.ends_with("\r\n\r\nok\n"), "{kept}");
        assert!(kept.contains("Content-Length: 3\r\n") && !kept.contains("Connection"), "{kept}");
        let closed = text(response.encode(false, false));
        assert!(closed.ends_with("Connection: close\r\n\r\n"), "{closed}");
        assert!(closed.contains("Content-Length: 3\r\n"), "a HEAD tells the length of the GET: {closed}");
    }
}
