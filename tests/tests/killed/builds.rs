//! Fault points exist in debug builds only: the very file is compiled both ways, and run with the variable set.

use std::path::Path;
use std::process::Command;
use tidegate_tests::within;

/// A program around `fault.rs`: what the hub does with it, and nothing else.
fn program(fault: &Path) -> String {
    format!(
        "#![allow(dead_code)]\n#[path = {:?}]\nmod fault;\nfn main() {{\n    fault::arm().expect(\"read\");\n    \
         fault::at(fault::Step::Frozen);\n    fault::messages(fault::Place::Before, [\"held\"]);\n    \
         assert_eq!(fault::halves(fault::Step::MidLogWrite, b\"four\"), (&b\"four\"[..], &b\"\"[..]));\n    \
         println!(\"alive\");\n}}\n",
        fault.display().to_string()
    )
}

#[tokio::test]
async fn a_build_without_debug_assertions_does_not_even_read_the_variable() {
    let directory = tempfile::tempdir().expect("a directory");
    let fault = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src/fault.rs");
    let (source, binary) = (directory.path().join("program.rs"), directory.path().join("program"));
    std::fs::write(&source, program(&fault)).expect("written");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compile = tokio::task::spawn_blocking({
        let binary = binary.clone();
        move || {
            // As the release profile does; the debug half needs a crate, which this program does not have.
            Command::new(compiler)
                .args(["--edition=2024", "-Copt-level=1", "-Cdebug-assertions=off", "-o"])
                .args([&binary, &source])
                .output()
        }
    });
    let compiled = within("the program is compiled", compile).await.expect("joined").expect("rustc runs");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    for value in ["frozen:kill", "before_held_said:stop", "mid_log_write:kill", "a typo"] {
        let ran = Command::new(&binary).env(tidegate::fault::VARIABLE, value).output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "alive\n", "{value}: {ran:?}");
    }
}
