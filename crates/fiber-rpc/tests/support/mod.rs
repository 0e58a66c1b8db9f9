//! What the tests share: a runtime, a server with a few services, and a peer that speaks raw bytes.
// Helpers of tests unwrap as tests do.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use fiber_rpc::backoff::BackoffConfig;
use fiber_rpc::frame::{Decoded, Decoder, Frame, FrameLimits, HeaderRef, Kind, encode};
use fiber_rpc::{
    CallContext, Channel, ChannelConfig, Dispatch, HealthConfig, Server, ServerHandle, ServerLimits, Service,
    Status,
};
use fiber_runtime::net::TcpStream;
use fiber_runtime::{Runtime, time};

/// Runs `body` as a fiber of a fresh runtime.
pub fn run<T: Send + 'static>(workers: usize, body: impl FnOnce() -> T + Send + 'static) -> T {
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    runtime.block_on(body)
}

/// A deadline that a healthy test never meets.
pub fn soon() -> Instant {
    time::now() + Duration::from_secs(20)
}

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Waits until `condition` holds, and fails the test if it never does.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = soon();
    while !condition() {
        assert!(time::now() < deadline, "never happened: {what}");
        time::sleep(millis(1));
    }
}

/// The service `test.Any`, raw bytes.
#[derive(Default)]
pub struct Any {
    pub one_ways: Arc<AtomicUsize>,
    pub started: Arc<AtomicUsize>,
}

impl Service for Any {
    fn name(&self) -> &str {
        "test.Any"
    }

    fn dispatch(&self, method: &str) -> Dispatch {
        match method {
            _ if method.starts_with("inline") => Dispatch::Inline,
            _ if method.starts_with("local") => Dispatch::Local,
            _ => Dispatch::Fiber,
        }
    }

    fn call(&self, cx: &CallContext, method: &str, payload: Bytes) -> Result<Bytes, Status> {
        self.started.fetch_add(1, Ordering::SeqCst);
        match method {
            "echo" | "inline_echo" | "local_echo" => Ok(payload),
            // The payload is a number of milliseconds.
            "sleep" => {
                let text = String::from_utf8(payload.to_vec()).unwrap();
                time::sleep(millis(text.parse().unwrap()));
                Ok(payload)
            }
            // The payload is a number of bytes.
            "make" | "inline_make" => {
                let text = String::from_utf8(payload.to_vec()).unwrap();
                Ok(Bytes::from(pattern(text.parse().unwrap())))
            }
            "note" | "inline_note" => {
                assert!(cx.is_one_way());
                self.one_ways.fetch_add(1, Ordering::SeqCst);
                Ok(Bytes::new())
            }
            "remaining" => {
                let left = cx.remaining().map_or(0, |left| left.as_millis() as u64);
                Ok(Bytes::from(left.to_string()))
            }
            "panic" | "inline_panic" => panic!("this service panics when it is told to"),
            "refuse" => Err(Status::application("not today")),
            _ => Err(Status::unknown_method(self.name(), method)),
        }
    }
}

pub const ANY: &str = "test.Any";

/// Bytes that show when a part is missing or moved.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

pub fn any_address() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub fn serve(limits: ServerLimits) -> ServerHandle {
    Server::builder().service(Any::default()).limits(limits).bind(any_address()).unwrap().spawn()
}

/// Intervals of milliseconds instead of seconds.
pub fn quick() -> ChannelConfig {
    ChannelConfig {
        health: HealthConfig {
            heartbeat_interval: millis(60),
            probe_interval: millis(50),
            ping_timeout: millis(50),
            max_failures: 3,
        },
        backoff: BackoffConfig { initial: millis(5), max: millis(40) },
        connect_timeout: millis(500),
        seed: Some(1),
        ..ChannelConfig::default()
    }
}

/// As [`quick`], but with the default intervals of health: on a busy machine an answer may take longer than `quick` waits.
pub fn patient() -> ChannelConfig {
    ChannelConfig { health: HealthConfig::default(), ..quick() }
}

pub fn channel(server: &ServerHandle) -> Channel {
    Channel::new(server.local_addr(), ChannelConfig::default())
}

/// A peer that speaks bytes, to a server or (accepted) to a channel.
pub struct RawPeer {
    pub stream: TcpStream,
    decoder: Decoder,
}

impl RawPeer {
    pub fn connect(address: SocketAddr) -> RawPeer {
        RawPeer::over(TcpStream::connect(address).unwrap())
    }

    pub fn over(stream: TcpStream) -> RawPeer {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        RawPeer { stream, decoder: Decoder::new(FrameLimits::default()) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame, `None` at the end of the stream or a reset.
    pub fn receive(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.next_frame().unwrap() {
                Some(Decoded::Frame(frame)) => return Some(frame),
                Some(Decoded::Oversize(header)) => panic!("oversize frame: {header:?}"),
                None => {}
            }
            match self.decoder.read_from(&mut self.stream) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("read failed: {error}"),
            }
        }
    }

    /// The next frame that is not a ping or a pong.
    pub fn receive_call(&mut self) -> Option<Frame> {
        loop {
            let frame = self.receive()?;
            if !matches!(frame.header.kind(), Some(Kind::Ping | Kind::Pong)) {
                return Some(frame);
            }
        }
    }
}

/// The bytes of a request to `test.Any`.
pub fn request(call_id: u64, method: &str, payload: &[u8]) -> Vec<u8> {
    let header = HeaderRef {
        service_name: ANY.as_bytes(),
        method_name: method.as_bytes(),
        args_size: payload.len() as u64,
        ..HeaderRef::new(Kind::Request, call_id)
    };
    frame(&header, payload)
}

pub fn frame(header: &HeaderRef<'_>, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(header, payload, &mut out);
    out.to_vec()
}

/// The bytes of a successful reply.
pub fn response(call_id: u64, payload: &[u8]) -> Vec<u8> {
    frame(&HeaderRef { args_size: payload.len() as u64, ..HeaderRef::new(Kind::Response, call_id) }, payload)
}
