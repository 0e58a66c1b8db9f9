//! The rules of CONTRIBUTING.md that a machine can check: the arrows between the crates, the purity of the Raft core,
//! where `unsafe` may stand, and what no file may contain.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longer files hold more than one mechanism.
const MOST_LINES: usize = 900;

/// One source file of the workspace.
struct Source {
    /// Relative to the workspace.
    path: String,
    text: String,
}

impl Source {
    /// Numbered lines without their `//` comments; a `//` in a string cuts the line, too, which does no harm here.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(n, line)| (n + 1, line.split("//").next().unwrap_or("")))
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                if path.file_name().unwrap() != "target" {
                    walk(&path, root, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { path, text });
            }
        }
    }
    let root = workspace();
    let mut found = Vec::new();
    for folder in ["crates", "bench", "tests"] {
        walk(&root.join(folder), &root, &mut found);
    }
    assert!(found.len() > 10, "found only {} source files under {}", found.len(), root.display());
    found
}

/// Fails with all complaints at once, so that one run shows everything there is to mend.
#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn every_file_opens_with_its_documentation() {
    let bare = sources().into_iter().filter(|source| !source.text.starts_with("//!"));
    assert_none(&bare.map(|source| format!("{} does not open with //!", source.path)).collect::<Vec<_>>());
}

#[test]
fn no_file_holds_more_than_one_mechanism_can_need() {
    let lengths = sources().into_iter().map(|source| (source.text.lines().count(), source.path));
    let long = lengths.filter(|(lines, _)| *lines > MOST_LINES);
    assert_none(&long.map(|(lines, path)| format!("{path} has {lines} lines")).collect::<Vec<_>>());
}

#[test]
fn no_file_is_unfinished() {
    // Put together here, so that this file does not contain them.
    let markers = [
        concat!("to", "do!"),
        concat!("TO", "DO"),
        concat!("unimple", "mented!"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("#[ig", "nore"),
        // A path of the machine it was written on.
        concat!("/wo", "rk/"),
    ];
    let mut complaints = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            for marker in markers.iter().filter(|marker| line.contains(**marker)) {
                complaints.push(format!("{}:{}: {marker}", source.path, number + 1));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn unsafe_code_is_in_the_runtime_only() {
    let forms =
        ["unsafe {", "unsafe{", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "#[unsafe("];
    let mut complaints = Vec::new();
    let outside = |source: &Source| !source.path.starts_with("crates/fiber-runtime/");
    for source in sources().into_iter().filter(outside).filter(|source| source.path != "tests/tests/tidy.rs")
    {
        for (number, line) in source.code() {
            if forms.iter().any(|form| line.contains(form)) {
                complaints.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
        let is_library_root =
            source.path.ends_with("/src/lib.rs") && source.path != "crates/fiber-rpc-build/src/lib.rs";
        if is_library_root && !source.text.contains("#![forbid(unsafe_code)]") {
            complaints.push(format!("{} does not forbid unsafe code", source.path));
        }
    }
    assert_none(&complaints);
}

#[test]
fn raft_core_is_pure() {
    let forbidden = [
        ("std::time", "reads a clock"),
        ("std::net", "does I/O"),
        ("std::fs", "does I/O"),
        ("std::io", "does I/O"),
        ("std::thread", "starts threads"),
        ("std::env", "reads its surroundings"),
        ("Instant", "reads a clock"),
        ("HashMap", "has an order that changes from run to run"),
        ("HashSet", "has an order that changes from run to run"),
        ("fiber_runtime", "knows the runtime"),
        ("fiber_rpc", "knows the transport"),
        ("println!", "does I/O"),
    ];
    let mut complaints = Vec::new();
    let core = |source: &Source| source.path.starts_with("crates/raft-core/src/core/");
    let core: Vec<Source> = sources().into_iter().filter(core).collect();
    assert!(core.len() >= 5, "the core has moved: {} files", core.len());
    for source in core {
        for (number, line) in source.code() {
            for (word, why) in forbidden.iter().filter(|(word, _)| line.contains(word)) {
                complaints.push(format!("{}:{number}: `{word}` {why}", source.path));
            }
            if line.replace("crate::core", "").contains("crate::") {
                complaints.push(format!("{}:{number}: imports from outside the core", source.path));
            }
        }
    }
    assert_none(&complaints);
}

/// The workspace's crates that each manifest names, by section.
fn edges(manifest: &str) -> BTreeMap<String, Vec<String>> {
    let ours = [
        "fiber-runtime",
        "fiber-rpc",
        "fiber-rpc-build",
        "raft-core",
        "kvserver",
        "moon-bench",
        "moon-tests",
    ];
    let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or("");
        if section.ends_with("dependencies") && ours.contains(&name) {
            edges.entry(section.clone()).or_default().push(name.to_owned());
        }
    }
    edges
}

#[test]
fn crates_know_only_those_below_them() {
    let law: [(&str, &[&str]); 5] = [
        ("fiber-runtime", &[]),
        ("fiber-rpc-build", &[]),
        ("fiber-rpc", &["fiber-runtime"]),
        ("raft-core", &["fiber-rpc", "fiber-runtime"]),
        ("kvserver", &["raft-core", "fiber-rpc", "fiber-runtime"]),
    ];
    let mut complaints = Vec::new();
    for (name, below) in law {
        let manifest = fs::read_to_string(workspace().join("crates").join(name).join("Cargo.toml")).unwrap();
        for (section, targets) in edges(&manifest) {
            let generator = if section == "build-dependencies" { "fiber-rpc-build" } else { "" };
            for target in targets {
                if target != generator && !below.contains(&target.as_str()) {
                    complaints.push(format!("{name} must not know {target} ([{section}])"));
                }
            }
        }
    }
    assert_none(&complaints);
    let folders = fs::read_dir(workspace().join("crates")).unwrap().count();
    assert_eq!(folders, law.len(), "a crate was added: it needs its line in the law");
}

/// What each package of the lock file depends on, by name.
fn locked(lock: &str) -> BTreeMap<String, Vec<String>> {
    let quoted =
        |line: &str| line.split('"').nth(1).map(|text| text.split(' ').next().unwrap_or("").to_owned());
    let mut packages = BTreeMap::<String, Vec<String>>::new();
    for package in lock.split("[[package]]").skip(1) {
        let mut lines = package.lines().map(str::trim);
        let name = lines.find(|line| line.starts_with("name = ")).and_then(quoted).unwrap();
        let needs = lines.filter(|line| line.starts_with('"')).filter_map(quoted);
        // Several versions of one package count as one.
        packages.entry(name).or_default().extend(needs);
    }
    packages
}

/// What a package of ours needs besides its tests, as its manifest says.
fn needs(folder: &str) -> Vec<String> {
    let manifest = fs::read_to_string(workspace().join(folder).join("Cargo.toml")).unwrap();
    let mut section = "";
    let mut needs = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name;
        } else if ["dependencies]", "build-dependencies]"].contains(&section) {
            needs.extend(
                line.split(['.', ' ', '=', '#']).next().filter(|name| !name.is_empty()).map(str::to_owned),
            );
        }
    }
    needs
}

#[test]
fn libraries_that_park_threads_stay_out() {
    let packages = locked(&fs::read_to_string(workspace().join("Cargo.lock")).unwrap());
    let banned = ["parking_lot", "crossbeam-channel", "tokio", "async-std", "may"];
    // Everything but what tests alone need: they look at what such libraries do on fibers.
    let ours = ["crates/fiber-runtime", "crates/fiber-rpc", "crates/fiber-rpc-build", "crates/raft-core"];
    let ours = ours.into_iter().chain(["crates/kvserver", "bench", "tests"]);
    let mut complaints = Vec::new();
    for folder in ours {
        let mut left = needs(folder);
        assert!(!left.is_empty(), "{folder} depends on nothing");
        let mut reached = BTreeSet::new();
        while let Some(package) = left.pop() {
            let Some(needs) = packages.get(&package) else { panic!("Cargo.lock has no {package}") };
            // A package of ours has a turn of its own, and its tests' needs are in the lock file, too.
            if !workspace().join("crates").join(&package).exists() && reached.insert(package) {
                left.extend(needs.iter().cloned());
            }
        }
        let found = banned.iter().filter(|banned| reached.contains(**banned));
        complaints.extend(found.map(|banned| format!("{folder} reaches {banned}")));
    }
    assert_none(&complaints);
}
