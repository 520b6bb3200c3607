use crate::agent::Agent;
use crate::hub::{Hub, Reply, problem, report, serving, status};
use serde_json::json;
use std::net::TcpListener;

/// An address at which nobody listens.
fn nobody() -> String {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    format!("http://{}", free.expect("a loopback port is free"))
}

#[test]
fn nobody_listening_is_a_warning_for_there_is_nothing_to_drain() {
    let url = nobody();
    let run = Agent::event("BeforeBlockTraffic", &url).run().expect(0);
    run.says(&["warning: ", &url, "nothing listens there"]);
}

#[test]
fn each_command_says_what_is_true_for_it_when_nobody_listens() {
    let url = nobody();
    let expected = [
        ("drain", "so there is nothing to drain"),
        ("plan", "so there are no sessions to plan for"),
        ("status", "so there is no status"),
        ("report", "so no report can be read"),
        ("cancel", "so no drain is under way"),
    ];
    for (command, words) in expected {
        let run = Agent::shell(&[command], &url).run().expect(0);
        let said = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("warning: ") && said.contains(words), "{command}: {run:#?}");
        assert!(!said.contains("nothing to do"), "{command}: {run:#?}");
        Agent::shell(&[command, "--require-hub"], &url).run().expect(5).says(&["--require-hub is set"]);
    }
}

#[test]
fn nobody_listening_exits_5_where_a_hub_is_required() {
    Agent::event("BeforeBlockTraffic", &nobody())
        .setting("require_hub = true")
        .run()
        .expect(5)
        .says(&["--require-hub"]);
}

#[test]
fn a_hub_that_accepts_and_never_answers_exits_5_and_the_failed_undoing_is_told() {
    let hub = Hub::scripted(|_| Reply::Silence);
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(5);
    let run = run.says(&["it accepts and does not answer within 800 ms", "NOT undone"]);
    let said = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("it does so by itself after 1m"), "{run:#?}");
    assert_eq!(hub.count("DELETE", "/v1/drain"), 1, "the drain may have begun, so it is called off");
}

#[test]
fn what_is_asked_for_and_its_undoing_carry_one_name_for_a_hub_that_hears_them_in_the_wrong_order() {
    let names = |hub: &Hub| -> Vec<String> {
        let asked = hub.asked();
        asked.iter().map(|asked| asked.header("tidegate-attempt").unwrap_or_default().to_owned()).collect()
    };
    let hub = Hub::scripted(|_| Reply::Silence);
    Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(5);
    let first = names(&hub);
    assert!(first.len() == 2 && first[0] == first[1] && first[0].len() == 32, "{first:?}");
    let other = Hub::scripted(|_| Reply::Silence);
    Agent::event("BeforeBlockTraffic", &other.url()).run().expect(5);
    assert_ne!(names(&other)[0], first[0], "each run has a name of its own");
}

#[test]
fn an_answer_that_stops_in_the_middle_of_its_body_exits_5() {
    let hub =
        Hub::scripted(|_| Reply::Bytes(b"HTTP/1.1 202 Accepted\r\nContent-Length: 900\r\n\r\n{\"phase\":".to_vec()));
    Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(5).says(&["vanished in the middle"]);
}

#[test]
fn a_wrong_token_exits_5_and_nothing_is_undone_for_nothing_began() {
    let hub = Hub::scripted(|_| problem(401, "bearer token needed"));
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(5);
    run.says(&["401", "--token-file"]);
    assert_eq!(hub.asked().len(), 1, "{:#?}", hub.asked());
}

#[test]
fn a_hub_that_refuses_exits_6_with_its_words() {
    let hub = Hub::scripted(|_| problem(409, "the data directory is full"));
    Agent::event("BeforeBlockTraffic", &hub.url())
        .run()
        .expect(6)
        .says(&["refused with 409: the data directory is full"]);
    assert_eq!(hub.count("DELETE", "/v1/drain"), 0);
}

#[test]
fn a_policy_that_the_hub_calls_impossible_exits_2() {
    let hub = Hub::scripted(|_| problem(422, "deadline_ms 300000: at most 60000 here"));
    Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(2).says(&["deadline_ms 300000: at most 60000 here"]);
}

#[test]
fn a_hub_killed_in_the_middle_exits_5_with_the_last_numbers() {
    let hub = Hub::scripted(|asked| match asked.method.as_str() {
        "POST" => Reply::Json(202, status("releasing", 1, 6)),
        _ => Reply::Die,
    });
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(5);
    run.says(&["vanished in the middle", "releasing: 6 of 10 left (moved 4)", "NOT undone", "nothing listens there"]);
}

#[test]
fn a_hub_restarted_in_the_middle_exits_5_for_its_drain_is_gone() {
    let mut question = 0;
    let hub = Hub::scripted(move |asked| {
        question += 1;
        match (asked.method.as_str(), asked.path.as_str(), question) {
            ("POST", ..) => Reply::Json(202, status("releasing", 1, 6)),
            (_, "/v1/drain/report", _) => problem(404, "no report"),
            (_, _, 2) => Reply::HangUp,
            _ => Reply::Json(200, serving()),
        }
    });
    let agent = Agent::event("BeforeBlockTraffic", &hub.url()).setting("settle = \"100ms\"");
    agent.run().expect(5).says(&["it was restarted"]);
}

#[test]
fn a_connection_that_breaks_for_a_moment_is_bridged() {
    let mut question = 0;
    let hub = Hub::scripted(move |asked| {
        question += 1;
        match (asked.path.as_str(), question) {
            ("/v1/drain/report", _) => Reply::Json(200, report("drained", 0)),
            (_, 1) => Reply::Json(202, status("releasing", 1, 6)),
            (_, 2 | 3) => Reply::HangUp,
            _ => Reply::Json(200, status("drained", 2, 0)),
        }
    });
    Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(0).says(&["drained in 4.2 s"]);
}

#[test]
fn something_that_is_not_a_hub_exits_5() {
    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>".to_vec();
    let noise = b"SSH-2.0-OpenSSH_9.2\r\n".to_vec();
    let foreign = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"phase\":\"odd\"}".to_vec();
    let moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec();
    for bytes in [page, noise, foreign, moved] {
        let hub = Hub::scripted(move |_| Reply::Bytes(bytes.clone()));
        Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(5).says(&["not a Tidegate hub"]);
    }
}

#[test]
fn an_app_or_a_public_listener_at_the_hubs_address_exits_5_and_says_what_it_may_be() {
    for (head, body) in [
        ("426 Upgrade Required", "Upgrade Required"),
        ("404 Not Found", "<html>nothing here"),
        ("501 Not Implemented", ""),
        ("503 Service Unavailable", "busy"),
        ("200 OK", "{\"ok\":true}"),
    ] {
        let length = body.len();
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        let hub = Hub::scripted(move |_| Reply::Bytes(answer.clone().into_bytes()));
        let run = Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(5);
        let run = run.says(&["not a Tidegate hub"]);
        assert!(!run.stdout.contains("refused"), "{head}: {run:#?}");
    }
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let mut endless = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..80 {
        endless.extend_from_slice(b"8000\r\n");
        endless.extend(std::iter::repeat_n(b' ', 0x8000));
        endless.extend_from_slice(b"\r\n");
    }
    let hub = Hub::scripted(move |_| Reply::Bytes(endless.clone()));
    Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(5).says(&["more than 1048576 bytes"]);
}

#[test]
fn words_from_the_hub_cannot_paint_the_terminal_or_break_the_line() {
    let hub = Hub::scripted(|_| problem(500, "\u{1b}[31mred\r\nnext\u{7} line"));
    Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(6).says(&["[31mred"]);
}

#[test]
fn a_hub_that_holds_says_why() {
    let mut held = status("held", 1, 6);
    held["why"] = json!("the canary is not back");
    let hub = Hub::draining(vec![held, status("drained", 2, 0)], report("drained", 0));
    let run = Agent::event("BeforeBlockTraffic", &hub.url()).run().expect(0);
    run.says(&["because the canary is not back", "waiting for 00000000… busy: typing for 1.2 s"]);
}
