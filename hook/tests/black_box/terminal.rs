use crate::hub::{Hub, report, status};
use std::process::{Command, Stdio};

/// Runs the trigger on a pseudo-terminal, which util-linux's `script` provides.
fn on_a_terminal(hub: &Hub, term: &str) -> String {
    let command = format!("{} drain --hub {}", env!("CARGO_BIN_EXE_tidegate-hook"), hub.url());
    let run =
        Command::new("script").args(["-qec", &command, "/dev/null"]).env("TERM", term).stdin(Stdio::null()).output();
    let run = run.expect("script, of Debian's bsdutils, can be run");
    assert!(run.status.success(), "{run:#?}");
    String::from_utf8(run.stdout).expect("the trigger writes UTF-8")
}

fn hub() -> Hub {
    let statuses =
        vec![status("noticing", 1, 10), status("releasing", 2, 5), status("releasing", 3, 2), status("drained", 4, 0)];
    Hub::draining(statuses, report("drained", 0))
}

#[test]
fn on_a_terminal_there_is_a_progress_bar_and_the_summary_stays() {
    let shown = on_a_terminal(&hub(), "xterm");
    assert!(shown.contains("8/10") || shown.contains("5/10"), "the bar counts who is gone: {shown:?}");
    assert!(shown.contains("drained in 4.2 s: 10 sessions at the start"), "{shown:?}");
    assert!(shown.trim_end().ends_with("tidegate-hook: done, exit 0"), "{shown:?}");
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_plain_lines() {
    let shown = on_a_terminal(&hub(), "dumb");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert!(shown.contains("noticing: 10 sessions told"), "{shown:?}");
}
