//! `schema.json` describes what the program writes: every field that it names is there, and no other.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

fn schema() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.json");
    serde_json::from_str(&std::fs::read_to_string(file).expect("the schema is there")).expect("it is JSON")
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}

/// Compares an object with the part of the schema that describes it.
fn same(what: &str, object: &Value, described: &Value) {
    let (there, all) = (names(object), names(&described["properties"]));
    let unknown: Vec<_> = there.difference(&all).collect();
    assert!(unknown.is_empty(), "{what} has fields that the schema does not name: {unknown:?}");
    for required in described["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(there.contains(required), "{what} lacks {required}, which the schema requires");
    }
}

#[tokio::test]
async fn a_report_has_the_fields_that_the_schema_names_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("connect.json");
    let hub = PathBuf::from(env!("CARGO_BIN_EXE_tidegate-load")).with_file_name("tidegate");
    Command::new(env!("CARGO_BIN_EXE_tidegate-load"))
        .args(["connect", "--count", "50", "--report-anyway", "--start"])
        .arg(hub)
        .arg("--json")
        .arg(&json)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .expect("the program starts");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let schema = schema();
    let parts = &schema["$defs"];
    same("the report", &report, &schema);
    same("the machine", &report["machine"], &parts["machine"]);
    same("the gates", &report["gates"], &parts["gates"]);
    for (list, part) in [("figures", "figure"), ("distributions", "distribution"), ("charts", "chart")] {
        let all = report[list].as_array().expect("a list");
        assert!(!all.is_empty(), "{list} of a run of connect");
        all.iter().for_each(|one| same(part, one, &parts[part]));
    }
    same("a series", &report["charts"][0]["series"][0], &parts["series"]);
}
