//! Writes the seeds that stand in the code as files, a directory per target: `seeds DIRECTORY`.

use std::path::PathBuf;
use std::process::ExitCode;
use tidegate_fuzz::targets::TARGETS;

fn main() -> ExitCode {
    let Some(root) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: seeds DIRECTORY");
        return ExitCode::from(2);
    };
    for target in TARGETS {
        let directory = root.join(target.name);
        let written = std::fs::create_dir_all(&directory).and_then(|()| {
            let mut seeds = (target.seeds)().into_iter().enumerate();
            seeds.try_for_each(|(n, seed)| std::fs::write(directory.join(format!("seed-{n:02}")), seed))
        });
        if let Err(error) = written {
            eprintln!("{}: {error}", directory.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
