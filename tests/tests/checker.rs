//! The history checker against hand-made histories and against the recorded ones of other projects.
//!
//! `MOON_DATA` names the folder with the recorded histories; without it that part is skipped, with a word.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use moon_tests::history::{End, History, OperationId};
use moon_tests::linearizability::{Limits, Model, Verdict, check};
use moon_tests::models::{Kv, KvAction, KvInput, KvOutput, Register, RegisterInput, RegisterOutput};

/// A history on one key, written as a story: calls and returns in the order they happened.
#[derive(Default)]
struct Story {
    history: History<KvInput, KvOutput>,
    open: BTreeMap<u64, OperationId>,
}

impl Story {
    fn call(mut self, client: u64, action: KvAction) -> Story {
        let id = self.history.invoke(client, KvInput { key: "k".into(), action });
        self.open.insert(client, id);
        self
    }

    fn end(mut self, client: u64, end: End<KvOutput>) -> Story {
        self.history.end(self.open.remove(&client).unwrap(), end);
        self
    }

    fn ok(self, client: u64, output: KvOutput) -> Story {
        self.end(client, End::Returned(output))
    }

    fn verdict(&self) -> Verdict {
        check::<Kv>(&self.history, Limits::default())
    }

    #[track_caller]
    fn is_linearizable(&self) {
        assert_eq!(self.verdict(), Verdict::Linearizable);
    }

    #[track_caller]
    fn is_not_linearizable(&self) {
        assert!(matches!(self.verdict(), Verdict::NotLinearizable(_)), "{}", self.verdict());
    }
}

fn put(value: &str) -> KvAction {
    KvAction::Put(value.into())
}

fn append(value: &str) -> KvAction {
    KvAction::Append(value.into())
}

fn cas(expected: Option<&str>, value: &str) -> KvAction {
    KvAction::CompareAndSwap { expected: expected.map(str::to_owned), value: value.into() }
}

fn value(value: &str) -> KvOutput {
    KvOutput::Value(Some(value.into()))
}

const MISSING: KvOutput = KvOutput::Value(None);
const GET: KvAction = KvAction::Get;
const DONE: KvOutput = KvOutput::Done;

#[test]
fn empty_history_is_linearizable() {
    Story::default().is_linearizable();
}

#[test]
fn read_after_acknowledged_write_must_see_it() {
    let write = || Story::default().call(1, put("a")).ok(1, DONE);
    write().call(2, GET).ok(2, value("a")).is_linearizable();
    write().call(2, GET).ok(2, MISSING).is_not_linearizable();
    write().call(2, GET).ok(2, value("b")).is_not_linearizable();
}

#[test]
fn read_beside_a_write_may_see_either_value() {
    Story::default().call(1, put("a")).call(2, GET).ok(2, MISSING).ok(1, DONE).is_linearizable();
    Story::default().call(1, put("a")).call(2, GET).ok(2, value("a")).ok(1, DONE).is_linearizable();
}

#[test]
fn reads_never_go_back_in_time() {
    // Both reads run beside the write; the second starts after the first has seen the new value.
    Story::default()
        .call(1, put("a"))
        .call(2, GET)
        .ok(2, value("a"))
        .call(3, GET)
        .ok(3, MISSING)
        .ok(1, DONE)
        .is_not_linearizable();
}

#[test]
fn unknown_write_may_take_effect_late_or_never() {
    let unknown = || Story::default().call(1, put("a")).end(1, End::Unknown);
    unknown().call(2, GET).ok(2, MISSING).call(3, GET).ok(3, value("a")).is_linearizable();
    unknown().call(2, GET).ok(2, MISSING).is_linearizable();
    unknown().call(2, GET).ok(2, value("a")).call(3, GET).ok(3, MISSING).is_not_linearizable();
    let unfinished = Story::default().call(1, put("a"));
    unfinished.call(2, GET).ok(2, MISSING).call(3, GET).ok(3, value("a")).is_linearizable();
}

#[test]
fn unknown_write_takes_effect_once() {
    Story::default()
        .call(1, append("a"))
        .end(1, End::Unknown)
        .call(2, GET)
        .ok(2, value("aa"))
        .is_not_linearizable();
}

#[test]
fn failed_write_has_no_effect() {
    let failed = || Story::default().call(1, put("a")).end(1, End::Failed);
    failed().call(2, GET).ok(2, MISSING).is_linearizable();
    failed().call(2, GET).ok(2, value("a")).is_not_linearizable();
}

#[test]
fn unknown_read_proves_nothing() {
    Story::default().call(1, GET).end(1, End::Unknown).call(2, GET).ok(2, MISSING).is_linearizable();
}

#[test]
fn lost_append_is_found() {
    let story =
        || Story::default().call(1, append("a")).call(2, append("b")).ok(1, DONE).ok(2, DONE).call(3, GET);
    story().ok(3, value("ab")).is_linearizable();
    story().ok(3, value("ba")).is_linearizable();
    story().ok(3, value("b")).is_not_linearizable();
    story().ok(3, value("aab")).is_not_linearizable();
}

#[test]
fn only_one_of_two_swaps_from_the_same_value_succeeds() {
    let race = |second: bool| {
        Story::default()
            .call(1, cas(None, "a"))
            .call(2, cas(None, "b"))
            .ok(1, KvOutput::Swapped(true))
            .ok(2, KvOutput::Swapped(second))
    };
    race(false).is_linearizable();
    race(true).is_not_linearizable();
}

#[test]
fn delete_answers_whether_the_key_was_there() {
    let delete = |there: bool| {
        Story::default()
            .call(1, put("a"))
            .ok(1, DONE)
            .call(1, KvAction::Delete)
            .ok(1, KvOutput::Removed(there))
            .call(2, GET)
            .ok(2, MISSING)
    };
    delete(true).is_linearizable();
    delete(false).is_not_linearizable();
}

#[test]
fn keys_are_checked_apart() {
    let mut history = History::new();
    for (key, seen) in [("a", Some("1")), ("b", None)] {
        let id = history.invoke(1, KvInput { key: key.into(), action: put("1") });
        history.end(id, End::Returned(DONE));
        let id = history.invoke(1, KvInput { key: key.into(), action: GET });
        history.end(id, End::Returned(KvOutput::Value(seen.map(str::to_owned))));
    }
    let Verdict::NotLinearizable(report) = check::<Kv>(&history, Limits::default()) else {
        panic!("the read of key b missed its write");
    };
    assert!(report.starts_with("key b\n"), "{report}");
    assert!(report.contains("Get"), "{report}");
}

#[test]
fn a_limit_gives_an_unknown_verdict() {
    // Thirty concurrent appends and a read that none of their orders explains: too many to try.
    let mut story = Story::default();
    for client in 0..30 {
        story = story.call(client, append(&format!("{client},")));
    }
    for client in 0..30 {
        story = story.ok(client, DONE);
    }
    let story = story.call(99, GET).ok(99, value("nonsense"));
    let limits = Limits { cached_states: 1000, ..Limits::default() };
    let verdict = check::<Kv>(&story.history, limits);
    assert!(matches!(verdict, Verdict::Unknown(_)), "{verdict}");
}

/// The folder `name` of the recorded histories, or `None` with a word about it.
fn recorded(name: &str) -> Option<PathBuf> {
    let Ok(data) = std::env::var("MOON_DATA") else {
        println!("skipped: MOON_DATA is not set, so there are no recorded histories to replay");
        return None;
    };
    // A relative path counts from the workspace, where `.ci/run` stands, not from this package.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = workspace.join(data).join("porcupine").join(name);
    assert!(folder.is_dir(), "MOON_DATA has no {}", folder.display());
    Some(folder)
}

fn verdict_of<M: Model>(history: &History<M::Input, M::Output>) -> bool {
    match check::<M>(history, Limits::default()) {
        Verdict::Linearizable => true,
        Verdict::NotLinearizable(_) => false,
        Verdict::Unknown(limit) => panic!("not decided: {limit}"),
    }
}

#[test]
fn recorded_etcd_histories_get_their_known_verdicts() {
    let Some(folder) = recorded("jepsen") else { return };
    let verdicts = std::fs::read_to_string(folder.join("VERDICTS")).unwrap();
    let mut checked = 0;
    for line in verdicts.lines().filter(|line| !line.trim().is_empty()) {
        let (file, expected) = line.split_once(' ').unwrap();
        let history = parse_register_log(&std::fs::read_to_string(folder.join(file)).unwrap());
        let linearizable = verdict_of::<Register>(&history);
        assert_eq!(
            linearizable,
            expected.trim() == "linearizable",
            "{file} with {} operations",
            history.len()
        );
        checked += 1;
    }
    println!("{checked} etcd histories agree with their verdicts");
    assert!(checked > 0, "VERDICTS is empty");
}

#[test]
fn recorded_kv_histories_get_the_verdict_in_their_name() {
    let Some(folder) = recorded("kv") else { return };
    let mut checked = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let history = parse_kv_log(&std::fs::read_to_string(&file).unwrap());
        assert_eq!(verdict_of::<Kv>(&history), name.ends_with("-ok"), "{name}, {} operations", history.len());
        checked += 1;
    }
    println!("{checked} key-value histories agree with their names");
    assert!(checked > 0, "the folder is empty");
}

/// Lines such as `INFO  jepsen.util - 2 :invoke :cas [3 0]`, with blanks or tabs between.
fn parse_register_log(text: &str) -> History<RegisterInput, RegisterOutput> {
    let mut history = History::new();
    let mut open: BTreeMap<u64, OperationId> = BTreeMap::new();
    for line in text.lines() {
        let Some((_, event)) = line.split_once("jepsen.util - ") else { continue };
        let fields: Vec<&str> = event.split_whitespace().collect();
        let [process, kind, what, arguments @ ..] = &fields[..] else { panic!("cannot read {line:?}") };
        let Ok(process) = process.parse() else { continue }; // The nemesis writes into the same log.
        let (kind, what) = (*kind, *what);
        let numbers: Vec<i64> =
            arguments.iter().filter_map(|word| word.trim_matches(['[', ']']).parse().ok()).collect();
        if kind == ":invoke" {
            let input = match (what, &numbers[..]) {
                (":read", _) => RegisterInput::Read,
                (":write", [value]) => RegisterInput::Write(*value),
                (":cas", [from, to]) => RegisterInput::CompareAndSet(*from, *to),
                _ => panic!("cannot read {line:?}"),
            };
            open.insert(process, history.invoke(process, input));
            continue;
        }
        let end = match (kind, what) {
            (":info", _) => End::Unknown,
            (":ok", ":read") => End::Returned(RegisterOutput::Value(numbers.first().copied())),
            (":ok", ":write") => End::Returned(RegisterOutput::Written),
            (":ok", ":cas") => End::Returned(RegisterOutput::Set(true)),
            // Jepsen's etcd client reports a comparison that did not hold as a failure.
            (":fail", ":cas") => End::Returned(RegisterOutput::Set(false)),
            (":fail", _) => End::Failed,
            _ => panic!("cannot read {line:?}"),
        };
        history.end(open.remove(&process).unwrap(), end);
    }
    history
}

/// Lines such as `{:process 0, :type :ok, :f :append, :key "4", :value "x 0 1 y"}`.
fn parse_kv_log(text: &str) -> History<KvInput, KvOutput> {
    let field = |line: &str, name: &str| -> String {
        let rest = line.split_once(&format!(":{name} ")).unwrap_or_else(|| panic!("no {name} in {line:?}")).1;
        let end = if let Some(quoted) = rest.strip_prefix('"') {
            quoted.find('"').unwrap() + 2
        } else {
            rest.find([',', '}']).unwrap()
        };
        rest[..end].trim_matches('"').trim_start_matches(':').to_owned()
    };
    let mut history = History::new();
    let mut open: BTreeMap<u64, OperationId> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let process: u64 = field(line, "process").parse().unwrap();
        let (kind, what) = (field(line, "type"), field(line, "f"));
        let text = field(line, "value");
        if kind == "invoke" {
            let action = match what.as_str() {
                "get" => KvAction::Get,
                "put" => KvAction::Put(text),
                "append" => KvAction::Append(text),
                _ => panic!("cannot read {line:?}"),
            };
            open.insert(process, history.invoke(process, KvInput { key: field(line, "key"), action }));
        } else {
            assert_eq!(kind, "ok", "{line:?}");
            let output = match what.as_str() {
                // That store answers a missing key with an empty value and never stores one.
                "get" => KvOutput::Value((!text.is_empty()).then_some(text)),
                _ => KvOutput::Done,
            };
            history.end(open.remove(&process).unwrap(), End::Returned(output));
        }
    }
    history
}
