//! The link between hubs garbles and delays what it carries: a garbled call is not believed, and costs time.

use crate::scene::{Scene, nobody_was_reset, quick};
use tidegate_tests::{Books, Loss, Pair};

/// Messages of a handover, each of which is garbled.
const STEPS: [&str; 7] = ["locate", "located", "claim", "snapshot", "held", "committed", "live"];

async fn scene() -> Scene {
    let books = Books::default();
    let app = books.app().await;
    let pair = Pair::start(|setup, _| quick(setup, "60s").app_with_events(&app.address)).await;
    Scene::around(pair, books, app).await
}

#[tokio::test]
async fn a_link_that_garbles_each_message_once_or_its_answer_loses_nothing() {
    for loss in [Loss::GarbledCall, Loss::GarbledAnswer] {
        let scene = scene().await;
        for step in STEPS {
            scene.pair.link.lose(step, 1, loss);
        }
        scene.drain(25_000).await;
        scene.side.heal();
        let report = scene.drained().await;
        let counts = report.sessions.counts;
        assert_eq!(counts.moved + counts.parked + counts.remaining, scene.sessions() + counts.arrived, "{report:#?}");
        assert!(scene.pair.link.lost() >= 4, "{loss:?}: {} were garbled", scene.pair.link.lost());
        scene.serve_by(&[&scene.pair.a, &scene.pair.b]);
        let ended = scene.close(&format!("{loss:?}")).await;
        nobody_was_reset(&format!("{loss:?}"), &ended);
    }
}

#[tokio::test]
async fn a_link_that_delays_everything_by_turns_reorders_and_loses_nothing() {
    let scene = scene().await;
    // Every other post waits, so later ones overtake it; some wait longer than a freeze may last.
    scene.pair.link.delay(&[0, 120, 0, 400, 30]);
    scene.drain(25_000).await;
    scene.side.heal();
    let report = scene.drained().await;
    let counts = report.sessions.counts;
    assert_eq!(counts.moved + counts.parked + counts.remaining, scene.sessions() + counts.arrived, "{report:#?}");
    assert!(counts.moved > 0, "delays up to a freeze's limit do not stop a drain: {report:#?}");
    scene.serve_by(&[&scene.pair.a, &scene.pair.b]);
    let ended = scene.close("delays").await;
    nobody_was_reset("delays", &ended);
}
