//! The rules of the house that no compiler keeps: file and function lengths, nothing unfinished,
//! nothing unbounded, a protocol without IO, and no trace of the machine it was written on.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// Directories that hold what others wrote or machines made.
const FOREIGN: [&str; 5] = ["target", "node_modules", "dist", ".git", "test-results"];
const CODE: [&str; 6] = ["rs", "ts", "js", "mjs", "css", "html"];

/// Words that must not stand in any Rust file; written apart, so that this file may name them.
const UNFINISHED: [[&str; 2]; 5] =
    [["todo", "!("], ["unimplemented", "!("], ["unbounded", "_channel"], ["#[ign", "ore"], ["mpsc::unb", "ounded"]];

/// What the protocol must not know.
const IO: [&str; 7] = ["tokio", "axum", "hyper", "std::net", "std::fs", "Instant::now", "SystemTime"];

/// Beginnings of paths that exist on one machine only; written apart for the same reason.
const MACHINE_PATHS: [[&str; 2]; 4] = [["/wo", "rk/"], ["/ro", "ot/"], ["/home/", "user"], ["/tm", "p/"]];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace").to_owned()
}

/// All files under a directory that are ours.
fn files(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut ahead = vec![under.to_owned()];
    while let Some(directory) = ahead.pop() {
        let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for entry in entries {
            let path = entry.expect("a directory can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if FOREIGN.contains(&name) {
                continue;
            }
            if path.is_dir() {
                ahead.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    found
}

fn with_extension(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let ours = files(&root()).into_iter().filter(|path| {
        path.extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| extensions.contains(&extension))
    });
    let read: Vec<_> = ours.filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text))).collect();
    assert!(read.len() > 3, "the files of {extensions:?} are found");
    read
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn none(what: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}

/// A Rust or TypeScript text without its comments and the insides of its texts, line by line, so that
/// braces can be counted. `rust`: a single quote is a lifetime or a character, else it is a text.
fn bare(text: &str, rust: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rust && raw_text(rest).is_some() {
            raw_text(rest).expect("just seen")
        } else if first == '"' || (!rust && (first == '\'' || first == '`')) {
            quoted(rest, first)
        } else if rust && first == '\'' {
            character(rest)
        } else {
            0
        };
        let taken = if skipped == 0 { first.len_utf8() } else { skipped };
        if skipped == 0 {
            out.push(first);
        } else {
            out.extend(rest[..taken].chars().filter(|one| *one == '\n'));
        }
        rest = &rest[taken..];
    }
    out
}

/// The length of a text that begins here, its quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, one) in text.char_indices().skip(1) {
        match one {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if one == quote => return at + one.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The length of a raw Rust text that begins here.
fn raw_text(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    let inside = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let until = inside.find(&end)? + end.len();
    Some(text.len() - inside.len() + until)
}

/// The length of a Rust character that begins here; 1 for the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => {
            text[2..].char_indices().skip(1).find(|(_, one)| *one == '\'').map_or(1, |(at, _)| at + 3)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// Functions with more lines than allowed: line number and length. A function begins at the line with
/// its word and ends with the brace that its first brace opens.
fn long_functions(bare: &str, begins: impl Fn(&str) -> bool) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = bare.lines().collect();
    let mut long = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| begins(line)) {
        let mut depth = 0_i32;
        let mut opened = false;
        // Parameters may hold braces only inside parentheses, as patterns and types do.
        let mut parentheses = 0_i32;
        let end = lines[at..].iter().position(|line| {
            for one in line.chars() {
                match one {
                    '(' => parentheses += 1,
                    ')' => parentheses -= 1,
                    '{' if opened || parentheses == 0 => (depth, opened) = (depth + 1, true),
                    '}' if opened => depth -= 1,
                    ';' if !opened && parentheses == 0 => return true,
                    _ => {}
                }
                if opened && depth == 0 {
                    return true;
                }
            }
            false
        });
        let length = end.map_or(lines.len() - at, |end| end + 1);
        if length > FUNCTION_LINES_MAX && !line.trim_end().ends_with(';') {
            long.push((at + 1, length));
        }
    }
    long
}

fn begins_rust_function(line: &str) -> bool {
    line.split_whitespace().take_while(|word| !word.contains('(') || word.starts_with("pub(")).any(|word| word == "fn")
        || line.trim_start().starts_with("fn ")
}

fn begins_script_function(line: &str) -> bool {
    let line = line.trim_start();
    let named = ["function ", "async function ", "export function ", "export async function "];
    let control = ["if ", "for ", "while ", "switch ", "catch ", "} ", "return ", "else", "class ", "do "];
    named.iter().any(|word| line.starts_with(word))
        || (line.trim_end().ends_with(") {")
            && !control.iter().any(|word| line.starts_with(word))
            && !line.contains("=>"))
}

#[test]
fn no_file_of_code_is_longer_than_five_hundred_lines() {
    let long = with_extension(&CODE).into_iter().filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", shown(&path)))
    });
    none("files of more than 500 lines", &long.collect::<Vec<_>>());
}

#[test]
fn no_function_is_longer_than_seventy_lines() {
    let mut long = Vec::new();
    for (path, text) in with_extension(&["rs"]) {
        let found = long_functions(&bare(&text, true), begins_rust_function);
        long.extend(found.into_iter().map(|(line, length)| format!("{}:{line}: {length} lines", shown(&path))));
    }
    for (path, text) in with_extension(&["ts", "js", "mjs"]) {
        let found = long_functions(&bare(&text, false), begins_script_function);
        long.extend(found.into_iter().map(|(line, length)| format!("{}:{line}: {length} lines", shown(&path))));
    }
    none("functions of more than 70 lines", &long);
}

#[test]
fn nothing_is_left_unfinished_unbounded_or_skipped() {
    let mut found = Vec::new();
    for (path, text) in with_extension(&["rs"]) {
        let bare = bare(&text, true);
        for word in UNFINISHED.map(|parts| parts.concat()) {
            let lines = bare.lines().enumerate().filter(|(_, line)| line.contains(&word));
            found.extend(lines.map(|(at, _)| format!("{}:{}: {word}", shown(&path), at + 1)));
        }
    }
    none("unfinished, unbounded or skipped", &found);
}

/// What searches the machines; it is not a part of them.
const SEARCHES: [&str; 2] = ["protocol/tests/model", "protocol/tests/drain_search"];

#[test]
fn the_protocol_knows_neither_clock_nor_network_nor_disk() {
    let mut found = Vec::new();
    for path in files(&root().join("protocol")) {
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let is_manifest = path.file_name().is_some_and(|name| name == "Cargo.toml");
        if !is_rust && !is_manifest {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file is text");
        let looked_at = if is_rust { bare(&text, true) } else { text };
        // Tests may read the vectors from disk, and searches may look at the clock to end themselves.
        let is_test = shown(&path).contains("test") || shown(&path).contains("vectors");
        let is_search = SEARCHES.iter().any(|search| path.starts_with(root().join(search)));
        let allowed = |word: &str| (is_test && word == "std::fs") || (is_search && word == "Instant::now");
        for word in IO.iter().filter(|word| !allowed(word)) {
            let lines = looked_at.lines().enumerate().filter(|(_, line)| line.contains(word));
            found.extend(lines.map(|(at, _)| format!("{}:{}: {word}", shown(&path), at + 1)));
        }
    }
    none("IO in the protocol", &found);
}

#[test]
fn every_crate_follows_the_lints_of_the_workspace_and_public_items_are_documented() {
    let manifests = files(&root()).into_iter().filter(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"));
    let mut without = Vec::new();
    for path in manifests.filter(|path| path.parent() != Some(root().as_path())) {
        // A manifest may only bring the sources of something that is not Rust.
        let beside = files(path.parent().expect("a file is in a directory"));
        if !beside.iter().any(|file| file.extension().is_some_and(|extension| extension == "rs")) {
            continue;
        }
        let manifest = fs::read_to_string(&path).expect("a manifest is text");
        if !manifest.contains("[lints]\nworkspace = true") {
            without.push(shown(&path));
        }
    }
    none("crates without `[lints] workspace = true`", &without);
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    assert!(workspace.contains("missing_docs"), "the workspace asks for documentation of public items");
}

#[test]
fn no_file_names_a_path_of_the_machine_it_was_written_on() {
    let mut found = Vec::new();
    for path in files(&root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for word in MACHINE_PATHS.map(|parts| parts.concat()) {
            let lines = text.lines().enumerate().filter(|(_, line)| line.contains(&word));
            found.extend(lines.map(|(at, line)| format!("{}:{}: {}", shown(&path), at + 1, line.trim())));
        }
    }
    none("paths of one machine", &found);
}

#[test]
fn the_counting_itself_is_right() {
    let long_body = "    x;\n".repeat(70);
    let rust = format!(
        "/// {{ not counted\nfn short() {{}}\nconst A: char = '{{';\npub(crate) async fn long(a: &'static str) {{\n{long_body}}}\n"
    );
    assert_eq!(long_functions(&bare(&rust, true), begins_rust_function), [(4, 72)]);
    let tricky = "fn f() { let s = \"}\"; let r = r#\"}\"}\"#; let c = '\\''; let b = '}'; }\nfn g() {}\n";
    assert_eq!(bare(tricky, true).matches('}').count(), 2, "{}", bare(tricky, true));
    let script = format!("export function long(a) {{\n{long_body}}}\n  method(b) {{\n  }}\nif (x) {{\n{long_body}}}\n");
    assert_eq!(long_functions(&bare(&script, false), begins_script_function), [(1, 72)]);
}
