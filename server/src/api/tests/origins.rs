//! Web pages, which can have a visitor's browser send requests to localhost: none changes anything, call by call.

use super::*;
use std::collections::BTreeSet;

/// Every path of the private listener, as the router's own text has them: a call that is added is tried here, too.
fn paths() -> BTreeSet<String> {
    let sources = [include_str!("../mod.rs"), include_str!("../../peer/wire.rs")];
    let quoted = |text: &'static str| text.split('"').skip(1).step_by(2).filter(|word| word.starts_with('/'));
    let paths: BTreeSet<String> = sources.into_iter().flat_map(quoted).map(str::to_owned).collect();
    for known in ["/v1/drain", "/v1/publish", "/v1/sessions/{id}/state", "/peer/v1/hello", "/healthz/live", "/metrics"]
    {
        assert!(paths.contains(known), "{known} is not found among {paths:?}");
    }
    paths.into_iter().filter(|path| !["/v1/", "/healthz/"].contains(&path.as_str()) && !path.contains(' ')).collect()
}

/// The methods that a path takes, by what it says of a method that it does not take.
async fn methods(bench: &Bench, path: &str) -> Vec<String> {
    let answer = bench.call("PATCH", path).await;
    assert_eq!(answer.status, 405, "PATCH {path}: {answer:?}");
    answer.headers[header::ALLOW].to_str().expect("ASCII").split(',').map(|method| method.trim().to_owned()).collect()
}

/// What browsers say of a page of elsewhere: of another site, of another port of this machine, of nowhere.
const FOREIGN: [(&str, &str); 6] = [
    ("origin", "https://evil.example"),
    ("origin", "http://127.0.0.1:3000"),
    ("origin", "null"),
    ("sec-fetch-site", "cross-site"),
    ("sec-fetch-site", "same-site"),
    ("sec-fetch-site", "something new"),
];

#[tokio::test]
async fn a_web_page_of_elsewhere_can_make_no_call() {
    let bench = bench(&[]).await;
    let cell = bench.session(1, Some("ann"), &["desk"]);
    let mut tried = 0;
    for path in paths() {
        let path = path.replace("{id}", &id(1)).replace("{name}", "news");
        for method in methods(&bench, &path).await {
            for (name, value) in FOREIGN {
                // A simple request: no content type, no body, nothing that a browser would ask leave for.
                let asked = request(&method, &path).header(name, value).body(Body::empty()).expect("a good request");
                let answer = bench.send(asked).await;
                tried += 1;
                if path.starts_with("/healthz/") {
                    assert!(
                        ["GET", "HEAD"].contains(&method.as_str()),
                        "{path} takes {method}: it must change nothing"
                    );
                    continue;
                }
                assert_eq!(answer.status, 403, "{method} {path} with {name}: {value}: {answer:?}");
                if method != "HEAD" {
                    answer.says(403, "another origin");
                }
            }
        }
    }
    assert!(tried > 100, "all calls were tried: {tried}");
    assert_eq!(bench.get("/v1/drain").await.ok(200)["phase"], "serving", "nothing began");
    assert!(cell.lock().session.is_owner(), "nobody was evicted");
}

#[tokio::test]
async fn programs_people_and_the_listeners_own_pages_call_as_before() {
    let bench = bench(&[]).await;
    let with = |headers: &[(&'static str, &'static str)]| {
        let mut request = request("POST", "/v1/drain/plan");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).expect("a good request")
    };
    for headers in [
        &[][..],
        &[("user-agent", "curl/8.5.0"), ("accept", "*/*")],
        // The `fetch` of Node.
        &[("user-agent", "node"), ("sec-fetch-mode", "cors")],
        &[("origin", "http://127.0.0.1:8081"), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
    ] {
        bench.send(with(headers)).await.ok(200);
    }
}
