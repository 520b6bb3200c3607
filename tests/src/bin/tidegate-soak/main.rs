//! `tidegate-soak`: churn, random drains, kills and standstills over real processes for minutes, with books
//! that grow all the time. Ends with the line `lost 0, duplicated 0, two owners 0`, or with exit code 1.
//!
//! The schedule of troubles comes from the seed; how the processes interleave does not. Run it as
//! `make soak MINUTES=10 SEED=7`.

mod chance;
mod fleet;
mod lives;
mod memory;
mod tally;
mod troubles;

use chance::Chance;
use clap::Parser;
use fleet::Fleet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally::Tally;

/// How often it says how it goes.
const PROGRESS: Duration = Duration::from_secs(10);

/// Churn, random drains and kills over real hubs, for minutes, with an account of every message.
#[derive(Clone, Debug, Parser)]
#[command(name = "tidegate-soak")]
struct Args {
    /// How long troubles are made; closing the books takes some seconds more
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Where the schedule of troubles comes from; absent: from the clock, and printed
    #[arg(long)]
    seed: Option<u64>,
    /// Clients at work at a time
    #[arg(long, default_value_t = 24)]
    clients: usize,
    /// Where the account is written as JSON
    #[arg(long, default_value = "soak.json")]
    json: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => {
            eprintln!("tidegate-soak: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> ExitCode {
    let seed = args.seed.unwrap_or_else(chance::from_clock);
    println!("soak: {} minutes, seed {seed}, {} clients, 3 hubs", args.minutes, args.clients);
    let mut chance = Chance::new(seed);
    let tally = Arc::new(Tally::default());
    let fleet = Fleet::start(&mut chance).await;
    let lives = lives::spawn(&fleet, args.clients, chance.next(), tally.clone());
    let memory = memory::watch(&fleet, tally.clone());
    let end = Instant::now() + Duration::from_secs(args.minutes * 60);
    let progress = tokio::spawn(progress(tally.clone(), Instant::now()));
    troubles::until(end, &fleet, &mut chance, &tally).await;
    fleet.mend(&tally).await;
    lives.close().await;
    progress.abort();
    let two_owners = fleet.close().await;
    let slope = memory.close().await;
    let account = tally.account(seed, args.minutes, &two_owners, slope);
    if let Err(error) = std::fs::write(&args.json, format!("{account:#}\n")) {
        eprintln!("tidegate-soak: {}: {error}", args.json.display());
        return ExitCode::FAILURE;
    }
    for complaint in tally.complaints() {
        println!("! {complaint}");
    }
    println!("{}", tally.line());
    println!("account: {}", args.json.display());
    println!("{slope}");
    let (lost, duplicated) = tally.lost_and_duplicated();
    println!("lost {lost}, duplicated {duplicated}, two owners {}", two_owners.len());
    let clean = two_owners.is_empty() && tally.is_clean() && slope.is_flat();
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn progress(tally: Arc<Tally>, began: Instant) {
    let mut tick = tokio::time::interval(PROGRESS);
    tick.tick().await;
    loop {
        tick.tick().await;
        println!("{:>5} s  {}", began.elapsed().as_secs(), tally.line());
    }
}
