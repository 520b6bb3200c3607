//! `tidegate`: settings, then [`tidegate::run`], then an exit code.

use std::process::ExitCode;
use tidegate::config::{Config, LAST_WORDS_MAX};
use tidegate_output::{Stream, last_words};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = match Config::load() {
        Ok(config) => config,
        Err(error) => {
            error.print();
            return ExitCode::from(error.exit_code());
        }
    };
    match tidegate::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            last_words(Stream::Stderr, &format!("tidegate: {error}"), LAST_WORDS_MAX);
            ExitCode::from(error.exit_code())
        }
    }
}
