//! The server program: one node, or a cluster of nodes on this machine.
#![forbid(unsafe_code)]

mod cluster;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kvserver::config::{Config, reference};
use kvserver::node;

#[derive(Parser)]
#[command(
    name = "kvserver",
    version,
    about = "A node of a replicated, linearizable key-value store that Redis clients can talk to",
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        kvserver cluster -n 3 -f conf/test.conf --data data   three nodes on this machine\n  \
        kvserver --id 0 -f conf/test.conf --data data         one of them\n\n\
        SIGTERM and SIGINT stop a node in order; a second signal ends it at once. SIGUSR1 makes a node print what each of its \
        fibers does."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    node: NodeArguments,
}

#[derive(Args)]
struct NodeArguments {
    /// Which node of the conf file to run
    #[arg(long, value_name = "ID", required = true)]
    id: Option<u64>,
    /// Stop when standard input is closed, as it is when the program that started this node has ended
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
    #[command(flatten)]
    settings: SettingArguments,
}

#[derive(Args, Clone)]
struct SettingArguments {
    /// Conf file of key=value lines; `kvserver reference` lists all keys
    #[arg(short = 'f', long = "file", value_name = "CONF", required = true)]
    file: Option<PathBuf>,
    /// Directory that holds the nodes' directories node-<ID> [default: the key `data`]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Sets a key of the conf file; stands above the file and the environment (KVSERVER_<KEY>)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_assignment)]
    set: Vec<(String, String)>,
}

#[derive(Subcommand)]
enum Command {
    /// Run all nodes of a conf file on this machine, each in a process of its own
    Cluster {
        /// How many nodes; must be what the conf file says
        #[arg(short = 'n', long = "nodes", value_name = "COUNT")]
        nodes: Option<usize>,
        /// Write each node's output to DIR/node-<ID>.log instead of standard error
        #[arg(long, value_name = "DIR")]
        log_dir: Option<PathBuf>,
        #[command(flatten)]
        settings: SettingArguments,
    },
    /// Check a conf file and print what it comes to
    Check {
        #[command(flatten)]
        settings: SettingArguments,
    },
    /// Print every key of a conf file with its default and what it is for
    Reference,
}

impl SettingArguments {
    /// Flags that name keys of the conf file.
    fn flags(&self) -> Result<Vec<(String, String)>, String> {
        let mut flags = self.set.clone();
        if let Some(data) = &self.data {
            let data = data.to_str().ok_or_else(|| format!("--data: {} is not UTF-8", data.display()))?;
            flags.push(("data".to_owned(), data.to_owned()));
        }
        Ok(flags)
    }

    fn load(&self) -> Result<Config, String> {
        let file = self.file.as_ref().expect("clap demands the conf file");
        let (config, ignored) =
            Config::load(file, std::env::vars(), self.flags()?).map_err(|error| error.to_string())?;
        for name in ignored {
            eprintln!("kvserver: note: environment variable {name} names no key and is ignored");
        }
        Ok(config)
    }
}

fn parse_assignment(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| "expected KEY=VALUE".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        None => run_node(&arguments.node),
        Some(Command::Cluster { nodes, log_dir, settings }) => cluster::run(nodes, log_dir, &settings),
        Some(Command::Check { settings }) => settings.load().map(|config| print_config(&config)),
        Some(Command::Reference) => {
            print!("{}", reference());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("kvserver: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run_node(arguments: &NodeArguments) -> Result<(), String> {
    let id = arguments.id.expect("clap demands the id");
    let config = arguments.settings.load()?;
    node::run(config, id, arguments.stop_with_stdin).map_err(|error| error.to_string())
}

fn print_config(config: &Config) {
    for (id, node) in &config.nodes {
        let door = |address: Option<std::net::SocketAddr>| {
            address.map_or("-".to_owned(), |address| address.to_string())
        };
        println!("node {id}: rpc {}, resp {}, http {}", node.rpc, door(node.resp), door(node.http));
    }
    println!("{:#?}", config.settings);
}
