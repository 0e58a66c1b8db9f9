//! The friend service of the original: its provider and its consumer in one program, over loopback.
//!
//! The consumer asks for the friends of a user several times, as the original's does, and prints what comes back.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use fiber_rpc::{Bytes, CallContext, Channel, ChannelConfig, Server, Status};
use fiber_runtime::{Runtime, time};

/// Stubs of `proto/friend.proto`.
pub mod fixbug {
    fiber_rpc::include_proto!("fixbug");
}

const HELP: &str = "\
friend_rpc: who is whose friend, by RPC between two fibers of this program

Usage: friend_rpc [--calls N] [--pause-ms N] [--user ID] [--listen ADDRESS]

  --calls N         calls to make                          [default: 10]
  --pause-ms N      pause between two calls; the original
                    pauses 5000 ms                         [default: 0]
  --user ID         whose friends; 0 is an error on purpose [default: 1000]
  --listen ADDRESS  address of the provider                [default: 127.0.0.1:0]
  --help            this text
";

/// The provider: the same three friends for everybody.
struct Friends;

impl fixbug::FiendServiceRpc for Friends {
    fn get_friends_list(
        &self,
        _cx: &CallContext,
        request: fixbug::GetFriendsListRequest,
    ) -> Result<fixbug::GetFriendsListResponse, Status> {
        println!("provider: friends of user {}", request.userid);
        if request.userid == 0 {
            return Err(Status::application("user 0 has no friends"));
        }
        Ok(fixbug::GetFriendsListResponse {
            result: Some(fixbug::ResultCode { errcode: 0, errmsg: Bytes::new() }),
            friends: ["gao yang", "liu hong", "wang shuo"].map(Bytes::from).to_vec(),
        })
    }
}

struct Options {
    calls: u32,
    pause: Duration,
    user: u32,
    listen: SocketAddr,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("friend_rpc: {message}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let outcome = Runtime::builder()
        .workers(2)
        .build()
        .map_err(|error| format!("the runtime does not start: {error}"))
        .and_then(|runtime| runtime.block_on(move || run(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("friend_rpc: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let server = Server::builder()
        .service(fixbug::FiendServiceRpcServer::new(Friends))
        .bind(options.listen)
        .map_err(|error| format!("listening on {} failed: {error}", options.listen))?
        .spawn();
    println!("provider: fixbug.FiendServiceRpc on {}", server.local_addr());

    let client =
        fixbug::FiendServiceRpcClient::new(Channel::new(server.local_addr(), ChannelConfig::default()));
    let request = fixbug::GetFriendsListRequest { userid: options.user };
    for call in 1..=options.calls {
        let reply = client
            .get_friends_list(&request, time::now() + Duration::from_secs(5))
            .map_err(|error| format!("call {call} failed: {error}"))?;
        for (index, friend) in reply.friends.iter().enumerate() {
            println!("consumer: call {call}: {}. {}", index + 1, String::from_utf8_lossy(friend));
        }
        time::sleep(options.pause);
    }
    client.channel().close();
    server.shutdown(time::now() + Duration::from_secs(1));
    Ok(())
}

/// `None` asks for the help text.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        calls: 10,
        pause: Duration::ZERO,
        user: 1000,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    while let Some(flag) = args.next() {
        let mut value = |what| args.next().ok_or(format!("{flag} needs {what}"));
        let bad = |error: &dyn std::fmt::Display| format!("{flag}: {error}");
        match flag.as_str() {
            "--help" | "-h" => return Ok(None),
            "--calls" => options.calls = value("a number")?.parse().map_err(|error| bad(&error))?,
            "--pause-ms" => {
                options.pause =
                    Duration::from_millis(value("a number")?.parse().map_err(|error| bad(&error))?);
            }
            "--user" => options.user = value("a number")?.parse().map_err(|error| bad(&error))?,
            "--listen" => options.listen = value("an address")?.parse().map_err(|error| bad(&error))?,
            _ => return Err(format!("unknown argument {flag}")),
        }
    }
    Ok(Some(options))
}
