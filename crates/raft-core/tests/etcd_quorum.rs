//! Replays the quorum scripts of etcd-io/raft against [`Majority`] and [`Joint`].
//!
//! The scripts are not part of this project: the environment variable `MOON_DATA` names the folder that holds
//! `etcd-raft/quorum/*.txt`, and without it the test says that it was skipped. A script is a sequence of a command line, a
//! line of dashes, and the expected output up to an empty line; the answer is the last line of the output, what stands
//! before it is a drawing. What the drawings mean is not replayed.

use std::collections::BTreeMap;

use raft_core::core::{Joint, Majority, NodeId, VoteResult};

/// One command of a script.
#[derive(Debug, Default)]
struct Command {
    line: usize,
    name: String,
    arguments: BTreeMap<String, Vec<String>>,
    answer: String,
}

fn parse(script: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut lines = script.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut command = Command { line: number + 1, ..Command::default() };
        let (name, mut rest) = line.split_once(' ').unwrap_or((line, ""));
        command.name = name.to_owned();
        while let Some((key, value)) = rest.trim().split_once('=') {
            let (list, after) = match value.strip_prefix('(') {
                Some(list) => list.split_once(')').expect("a closed list"),
                None => value.split_once(' ').unwrap_or((value, "")),
            };
            let items = list.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty());
            command.arguments.insert(key.trim().to_owned(), items.collect());
            rest = after;
        }
        assert_eq!(lines.next().map(|(_, dashes)| dashes), Some("----"), "after line {}", number + 1);
        while let Some((_, output)) = lines.next_if(|(_, output)| !output.is_empty()) {
            command.answer = output.to_owned();
        }
        commands.push(command);
    }
    commands
}

impl Command {
    fn ids(&self, key: &str) -> Vec<NodeId> {
        let items = self.arguments.get(key).map_or(&[][..], Vec::as_slice);
        items
            .iter()
            .filter(|item| *item != "zero")
            .map(|item| NodeId(item.parse().expect("a node")))
            .collect()
    }

    /// The values of `key`, one for each voter of both halves in order of first mention.
    fn values(&self, key: &str) -> BTreeMap<NodeId, String> {
        let mut voters = Vec::new();
        for id in self.ids("cfg").into_iter().chain(self.ids("cfgj")) {
            if !voters.contains(&id) {
                voters.push(id);
            }
        }
        let items = self.arguments.get(key).cloned().unwrap_or_default();
        assert_eq!(voters.len(), items.len(), "line {}: a value for each voter", self.line);
        voters.into_iter().zip(items).collect()
    }

    fn run(&self) -> String {
        let incoming = Majority::new(self.ids("cfg"));
        let outgoing = Majority::new(self.ids("cfgj"));
        let joint = Joint { incoming: incoming.clone(), outgoing: outgoing.clone() };
        let mirrored = Joint { incoming: outgoing.clone(), outgoing };
        let plain = !self.arguments.contains_key("cfgj");
        match self.name.as_str() {
            "committed" => {
                let indices = self.values("idx");
                let reached = |id| indices.get(&id).and_then(|text| text.parse().ok());
                let committed = joint.committed(reached);
                if plain {
                    assert_eq!(committed, incoming.committed(reached), "line {}", self.line);
                }
                assert!(mirrored.committed(reached) >= committed, "line {}", self.line);
                if committed == u64::MAX { "∞".to_owned() } else { committed.to_string() }
            }
            "vote" => {
                let votes = self.values("votes");
                let answer = |id| match votes.get(&id).map(String::as_str) {
                    Some("y") => Some(true),
                    Some("n") => Some(false),
                    _ => None,
                };
                let result = joint.vote(answer);
                if plain {
                    assert_eq!(result, incoming.vote(answer), "line {}", self.line);
                }
                match result {
                    VoteResult::Won => "VoteWon".to_owned(),
                    VoteResult::Lost => "VoteLost".to_owned(),
                    VoteResult::Pending => "VotePending".to_owned(),
                }
            }
            name => panic!("line {}: unknown command {name}", self.line),
        }
    }
}

#[test]
fn quorums_decide_as_in_the_scripts_of_etcd() {
    let Some(data) = std::env::var_os("MOON_DATA") else {
        println!("skipped: MOON_DATA is not set");
        return;
    };
    let folder = std::path::Path::new(&data).join("etcd-raft/quorum");
    let mut count = 0;
    for file in std::fs::read_dir(&folder).expect("the folder of scripts") {
        let path = file.expect("a folder entry").path();
        for command in parse(&std::fs::read_to_string(&path).expect("a script")) {
            let found = command.run();
            // A drawing may stand on the same line as an infinite answer.
            assert!(command.answer.ends_with(&found), "{}: {command:?} gave {found}", path.display());
            count += 1;
        }
    }
    println!("{count} commands");
    assert!(count > 0, "no commands in {}", folder.display());
}

#[test]
fn scripts_are_parsed_into_commands_with_lists() {
    let script =
        "# why\ncommitted cfg=(1, 2) cfgj=zero idx=(12,_)\n----\n  drawing\n12\n\nvote\n----\nVoteWon\n";
    let commands = parse(script);
    assert_eq!(commands.len(), 2);
    assert_eq!(commands[0].ids("cfg"), [NodeId(1), NodeId(2)]);
    assert_eq!(commands[0].ids("cfgj"), []);
    assert_eq!(commands[0].values("idx")[&NodeId(2)], "_");
    assert_eq!((commands[0].answer.as_str(), commands[1].run().as_str()), ("12", "VoteWon"));
}

/// What a majority is, said as slowly as possible: the largest number such that more than half have reached it.
#[test]
fn committed_agrees_with_counting_for_every_number() {
    for voters in 1..=11_u64 {
        let majority = Majority::new((1..=voters).map(NodeId).collect());
        for seed in 0..200_u64 {
            let reached = |id: NodeId| (id.0 * 7 + seed * 13 + id.0 * seed) % 10;
            let slow = (0..10).rev().find(|number| {
                (1..=voters).filter(|id| reached(NodeId(*id)) >= *number).count() as u64 > voters / 2
            });
            assert_eq!(
                Some(majority.committed(|id| Some(reached(id)))),
                slow,
                "{voters} voters, seed {seed}"
            );
        }
    }
}
