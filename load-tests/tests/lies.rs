//! Servers that do wrong: each wrong must be found, by the message and the client that it was done to.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// What a server does with what it should send back, or to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Nothing wrong.
    None,
    /// Sends each back twice.
    Doubles,
    /// Every second one is lost, and the others come twice: the sum is right.
    LosesAndDoubles,
    /// Sends it to whoever came next.
    Mixes,
    /// Sends the beginning of it.
    Cuts,
    /// Says that it was sent in the future.
    Foretells,
    /// Sends nothing back.
    KeepsSilent,
    /// Ends each connection when it is open.
    Ends,
}

/// Messages that wait for one client; with more some are lost, and the test says so.
const WAITING_MAX: usize = 4_096;

type Clients = Arc<Mutex<Vec<Sender<String>>>>;

/// A server, `ws://` and `http://` address.
async fn server(lie: Lie) -> (String, String) {
    let clients = Clients::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let calls = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addresses = (
        format!("ws://{}", listener.local_addr().expect("an address")),
        format!("http://{}/publish", calls.local_addr().expect("an address")),
    );
    let everybody = clients.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(lie, stream, clients.clone()));
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = calls.accept().await {
            tokio::spawn(publish(lie, stream, everybody.clone()));
        }
    });
    addresses
}

async fn serve(lie: Lie, stream: TcpStream, clients: Clients) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    if lie == Lie::Ends {
        return;
    }
    let (give, mut take) = channel(WAITING_MAX);
    let own = {
        let mut clients = clients.lock().expect("no panic");
        clients.push(give);
        clients.len() - 1
    };
    let mut nth = 0;
    loop {
        tokio::select! {
            text = take.recv() => {
                let Some(text) = text else { return };
                if socket.send(Message::text(text)).await.is_err() { return }
            }
            message = socket.next() => {
                let Some(Ok(message)) = message else { return };
                let Message::Text(text) = message else { continue };
                nth += 1;
                let clients = clients.lock().expect("no panic");
                let (to, answers) = answers(lie, text.as_str(), nth, own, clients.len());
                answers.into_iter().for_each(|answer| drop(clients[to].try_send(answer)));
            }
        }
    }
}

fn answers(lie: Lie, text: &str, nth: u32, own: usize, clients: usize) -> (usize, Vec<String>) {
    let same = text.to_owned();
    match lie {
        Lie::None | Lie::Ends => (own, vec![same]),
        Lie::Doubles => (own, vec![same.clone(), same]),
        Lie::LosesAndDoubles if nth.is_multiple_of(2) => (own, Vec::new()),
        Lie::LosesAndDoubles => (own, vec![same.clone(), same]),
        Lie::Mixes => ((own + 1) % clients, vec![same]),
        Lie::Cuts => (own, vec![text.chars().take(30).collect()]),
        Lie::Foretells => {
            let rest = text.splitn(3, ' ').nth(2).unwrap_or_default();
            (own, vec![format!("e 9999999999999999999 {rest}")])
        }
        Lie::KeepsSilent => (own, Vec::new()),
    }
}

/// Takes one call, and gives its text to everybody, or as it lies.
async fn publish(lie: Lie, mut stream: TcpStream, clients: Clients) {
    let mut bytes = Vec::new();
    let text = loop {
        let mut part = [0; 4_096];
        let Ok(length @ 1..) = stream.read(&mut part).await else { return };
        bytes.extend_from_slice(&part[..length]);
        let request = String::from_utf8_lossy(&bytes).into_owned();
        let length = request
            .to_ascii_lowercase()
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.lines().next()?.parse().ok());
        if let (Some((_, body)), Some(length)) = (request.split_once("\r\n\r\n"), length)
            && body.len() >= length
        {
            break body.to_owned();
        }
    };
    for (nth, client) in clients.lock().expect("no panic").iter().enumerate() {
        let times = if lie == Lie::LosesAndDoubles { nth % 2 * 2 } else { 1 };
        (0..times).for_each(|_| drop(client.try_send(text.clone())));
    }
    drop(stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await);
}

/// Exit code, the last line on stdout, and stderr.
async fn run(line: &str) -> (Option<i32>, Value, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate-load"))
        .args(line.split(' '))
        .args(["--dialect", "plain"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_secs(60), child).await.expect("the run ends by itself").expect("it starts");
    let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_str(&last).unwrap_or_default(), stderr)
}

#[tokio::test]
async fn each_wrong_answer_is_found_and_named() {
    let lies = [
        (Lie::Doubles, "came twice"),
        (Lie::LosesAndDoubles, "are missing"),
        (Lie::Mixes, "another client's"),
        (Lie::Cuts, "was cut"),
        (Lie::Foretells, "never sent"),
        (Lie::KeepsSilent, "not one message came back"),
        (Lie::Ends, "ended the connection"),
    ];
    // They mostly wait for answers that do not come.
    let told = lies.map(|(lie, expected)| async move {
        let (hub, _) = server(lie).await;
        let line = format!(
            "relay --hub {hub} --sessions 4 --payload 64 --rate 100 --time 500ms --warm-up 200ms --give-up-after 20s"
        );
        let (code, last, stderr) = run(&line).await;
        assert_eq!(code, Some(1), "{lie:?}: {last}\n{stderr}");
        assert!(stderr.contains(expected), "{lie:?}: expected \"{expected}\" in:\n{stderr}");
    });
    futures_util::future::join_all(told).await;
}

#[tokio::test]
async fn an_honest_server_is_told_even_for_very_few_messages() {
    let (hub, publish) = server(Lie::None).await;
    for line in [
        format!("relay --hub {hub} --sessions 4 --rate 100 --time 500ms --warm-up 200ms"),
        format!("relay --hub {hub} --sessions 2 --time 300ms --warm-up 200ms"),
        format!("broadcast --hub {hub} --publish-url {publish} --clients 20 --rounds 2 --every 300ms"),
    ] {
        let (code, last, stderr) = run(&line).await;
        let only = |why: &Value| {
            why.as_str()
                .is_some_and(|why| ["lag", "late", "steal", "sent again"].iter().any(|known| why.contains(known)))
        };
        let lame = last["refused"].as_array().is_some_and(|refused| refused.iter().all(only));
        assert!(code == Some(0) || lame, "{line}: {last}\n{stderr}");
    }
}

#[tokio::test]
async fn a_broadcast_that_some_get_twice_and_some_never_is_no_whole_one() {
    let (hub, publish) = server(Lie::LosesAndDoubles).await;
    let line = format!(
        "broadcast --hub {hub} --publish-url {publish} --clients 20 --rounds 2 --every 300ms --give-up-after 20s"
    );
    let (code, last, stderr) = run(&line).await;
    assert_eq!(code, Some(1), "{last}\n{stderr}");
    assert!(stderr.contains("came twice") && stderr.contains("missing"), "{stderr}");
}

#[tokio::test]
async fn what_cannot_work_is_told_before_anything_is_measured() {
    let (hub, _) = server(Lie::None).await;
    let directory = tempfile::tempdir().expect("a directory");
    let nowhere = directory.path().join("no/such/x.json");
    let drain = "drain --hub ws://127.0.0.1:1 --private http://127.0.0.1:1 --app none";
    for (line, code, expected) in [
        (format!("relay --hub {hub} --time 30s --give-up-after 5s"), 1, "--give-up-after comes after 5s"),
        (format!("relay --hub {hub} --json {}", nowhere.display()), 1, "--json"),
        (format!("relay --hub {hub} --time 600y"), 2, "at most 7 days"),
        (format!("idle --hub {hub} --max-growth nan"), 2, "a number from 0"),
    ] {
        let (ended, _, stderr) = run(&line).await;
        assert_eq!(ended, Some(code), "{line}: {stderr}");
        assert!(stderr.contains(expected), "{line}: expected \"{expected}\" in:\n{stderr}");
    }
    for (more, expected) in [("--push-rate nan", "or 0"), ("--window 9s", "--start"), ("--talking 5", "--start")] {
        let program =
            Command::new(env!("CARGO_BIN_EXE_tidegate-load")).args(format!("{drain} {more}").split(' ')).output();
        let output = program.await.expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(expected), "{more}: {stderr}");
    }
}
