//! Metrics that never move are of no use: here real hubs get into every situation that a metric tells of, and each
//! metric of the list, and each reason of what was turned away, must have shown above zero.

mod book;
mod moves;
mod refused;
mod served;

use book::{Book, rejected};
use tidegate::telemetry::{Held, Label, METRICS, Rejected};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_and_every_reason_of_a_refusal_moves() {
    let book = Book::default();
    tokio::join!(
        served::traffic_returns_and_a_slow_client(&book),
        served::an_app_that_is_away(&book),
        refused::at_the_door(&book),
        refused::before_the_hello(&book),
        refused::words_and_tokens(&book),
        refused::calls(&book),
    );
    tokio::join!(
        refused::hellos_in_parts(&book),
        moves::too_little_room(&book),
        moves::a_successor_that_vanishes(&book),
        moves::a_successor_that_nobody_reaches(&book),
        moves::clients_that_do_not_go(&book),
        moves::a_balancer_that_brings_them_back(&book),
    );
    served::a_log_that_nobody_reads(&book).await;

    let mut still: Vec<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    still.extend(Rejected::ALL.iter().map(|why| rejected(why.text())));
    // Ten moves in a row must be refused for the one that is left out: the tests of the drain machine do that.
    let holds = [Held::Gate, Held::Canary, Held::NoSuccessor];
    still.extend(holds.iter().map(|why| format!("tidegate_drain_held{{why=\"{}\"}}", why.text())));
    still.retain(|series| !book.has(series));
    assert!(still.is_empty(), "these never moved: {still:#?}");
}
