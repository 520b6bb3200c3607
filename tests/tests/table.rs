//! The table in `tests/README.md` is true: every rule, invariant and failure has its row, and every test that
//! it names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace").to_owned()
}

/// The rows of the table: what is attacked, and the names in backticks beside it.
fn rows() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(root().join("tests/README.md")).expect("tests/README.md is there");
    let (_, table) = text.split_once("## What attacks what").expect("it has the table");
    let table = table.split("\n#").next().unwrap_or_default();
    let rows = table.lines().filter_map(|line| {
        let (what, tests) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
        let names = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Some((what.to_owned(), names))
    });
    rows.filter(|(what, _)| what.contains(": ")).collect()
}

/// All Rust text of a suite; a part of the workspace, or a target of this crate or of `protocol/`.
fn text_of(suite: &str) -> String {
    let homes = [root().join("tests/tests"), root().join("protocol/tests")];
    let places = match suite {
        "protocol" | "server" | "hook" => vec![root().join(suite)],
        target => homes.iter().flat_map(|tests| [tests.join(format!("{target}.rs")), tests.join(target)]).collect(),
    };
    let mut text = String::new();
    let mut ahead: Vec<PathBuf> = places.into_iter().filter(|place| place.exists()).collect();
    while let Some(place) = ahead.pop() {
        if place.is_dir() {
            let entries = fs::read_dir(&place).expect("a directory can be read");
            ahead.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        } else if place.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&place).expect("a source file is text");
        }
    }
    text
}

#[test]
fn every_rule_invariant_and_failure_has_a_row_with_a_test() {
    let rows = rows();
    let named: BTreeSet<&str> = rows.iter().filter_map(|(what, _)| what.split(':').next()).collect();
    let wanted = (1..=26).map(|n| format!("rule {n}"));
    let wanted =
        wanted.chain((1..=10).map(|n| format!("invariant {n}"))).chain((1..=10).map(|n| format!("failure {n}")));
    let missing: Vec<String> = wanted.filter(|name| !named.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "tests/README.md has no row for {missing:?}");
    for (what, tests) in &rows {
        assert!(!tests.is_empty(), "no test attacks {what}");
    }
}

#[test]
fn every_test_that_the_table_names_exists() {
    let mut missing = BTreeSet::new();
    for (what, tests) in rows() {
        for name in tests {
            let (suite, test) = name.split_once("::").unwrap_or_else(|| panic!("{what}: {name} is no suite::test"));
            if !text_of(suite).contains(&format!("fn {test}(")) {
                missing.insert(name.clone());
            }
        }
    }
    assert!(missing.is_empty(), "tests/README.md names tests that do not exist: {missing:#?}");
}
