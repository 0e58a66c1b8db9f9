//! Which page is where.

use std::sync::Arc;

use super::request::Method;
use super::response::Response;
use crate::command::Backend;
use crate::metrics::{fibers, process};

/// What the pages are made from.
pub(super) struct Pages {
    pub(super) backend: Arc<dyn Backend>,
}

type Page = fn(&Pages) -> Response;

const PAGES: &[(&str, Page)] = &[
    ("/metrics", Pages::metrics),
    ("/livez", |_| Response::text(200, "ok")),
    ("/readyz", Pages::ready),
    ("/status", |pages| Response::json(&pages.backend.status())),
    ("/version", |_| {
        Response::json(
            &serde_json::json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }),
        )
    }),
];

impl Pages {
    /// The answer to a request.
    pub(super) fn answer(&self, method: Method, path: &str) -> Response {
        let Some((_, page)) = PAGES.iter().find(|(known, _)| *known == path) else {
            let known: Vec<&str> = PAGES.iter().map(|(path, _)| *path).collect();
            return Response::text(404, format!("not found; there are {}", known.join(" ")));
        };
        match method {
            Method::Get | Method::Head => page(self),
            Method::Other => Response {
                allow: Some("GET, HEAD"),
                ..Response::text(405, "only GET and HEAD are answered here")
            },
        }
    }

    fn metrics(&self) -> Response {
        let mut body = String::with_capacity(16 * 1024);
        self.backend.metrics(&mut body);
        fibers::encode(&mut body);
        process::encode(&mut body);
        Response { status: 200, content_type: "text/plain; version=0.0.4; charset=utf-8", body, allow: None }
    }

    fn ready(&self) -> Response {
        match self.backend.ready() {
            Ok(()) => Response::text(200, "ok"),
            Err(reason) => Response::text(503, format!("not ready: {reason}")),
        }
    }
}
