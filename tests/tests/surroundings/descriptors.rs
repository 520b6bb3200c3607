//! How many sessions a hub holds: what it says, and not one more.

use serde_json::json;
use tidegate_tests::{Heard, Hub, RawClient, Setup, Surroundings, wait_until};

fn open_files(soft: u64, hard: u64) -> Surroundings {
    Surroundings { open_files: Some([soft, hard]), ..Surroundings::default() }
}

async fn room(hub: &Hub) -> u64 {
    hub.api.get("/v1/hub").await.json()["limits"]["sessions"].as_u64().expect("the hub says how many it holds")
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised_to_the_hard_one_and_the_log_says_what_came_of_it() {
    let hub = Setup::new("A").start_into(open_files(128, 1_024)).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", hub.pid())).expect("it runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("Linux says it");
    assert_eq!(line.split_whitespace().nth(3), Some("1024"), "{line}");
    assert_eq!(room(&hub).await, 704, "three quarters of them, less what newcomers need");
    wait_until("the log says why it is not more", || async {
        let said = hub.stderr();
        let about = said.iter().find(|line| line.contains("capacity is cut by the limit of open files"));
        match about {
            Some(line) if ["704", "1024", "128", "19000"].iter().all(|number| line.contains(number)) => Ok(()),
            _ => Err(said.join("\n")),
        }
    })
    .await;
}

/// Says hello until the hub has no room; gives those who were welcomed.
async fn fill(hub: &Hub, tries: usize) -> Vec<RawClient> {
    let mut welcomed = Vec::new();
    for _ in 0..tries {
        let offered = [("sec-websocket-protocol", "tidegate.v1")];
        let Ok(mut client) = RawClient::try_open(&hub.url("/connect"), &offered).await else { continue };
        client.frame(&json!({"type": "hello"})).await;
        match client.next().await {
            Heard::Frame(frame) if frame["type"] == "welcome" => welcomed.push(client),
            Heard::Frame(frame) => assert_eq!((&frame["type"], &frame["why"]), (&json!("retry"), &json!("full"))),
            other => panic!("a newcomer is welcomed, or told to retry; the hub sent {other:?}"),
        }
    }
    welcomed
}

#[tokio::test]
async fn a_hub_holds_as_many_sessions_as_it_says_and_not_one_more() {
    for (flag, files) in [(Some(60_u64), [4_096, 4_096]), (None, [96, 96])] {
        let setup = Setup::new("A");
        let setup = flag.into_iter().fold(setup, |setup, sessions| setup.flag("--limit-sessions", sessions));
        let hub = setup.start_into(open_files(files[0], files[1])).await;
        let room = room(&hub).await;
        assert!(flag.is_none_or(|sessions| sessions == room) && room < 96, "{room}");
        let mut welcomed = fill(&hub, room as usize + 15).await;
        assert_eq!(welcomed.len() as u64, room, "with {flag:?} and {files:?} descriptors");
        assert_eq!(hub.api.publish(&json!({"all": true}), "to everybody").await, room);
        // Whoever is here can come back although it is full, and the others can be reached.
        for client in &mut welcomed {
            assert_eq!(client.expect_text().await, "to everybody");
        }
    }
}
