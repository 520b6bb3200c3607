//! The page and what it needs: its own files, the SDK, and where the hub is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use serde_json::json;

use crate::Kitchen;

/// How many files of the SDK are served at most.
const FILES_MAX: usize = 256;
/// How many bytes one file of the SDK may have.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

/// The page may load from its own origin only, and connect to any hub.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";

/// `GET /`
pub(crate) async fn index() -> Response {
    file(HTML, include_str!("../page/index.html"))
}

/// `GET /style.css`
pub(crate) async fn style() -> Response {
    file(CSS, include_str!("../page/style.css"))
}

/// `GET /js/…`: the modules of the page.
pub(crate) async fn module(UrlPath(name): UrlPath<String>) -> Response {
    match name.as_str() {
        "app.js" => file(JS, include_str!("../page/app.js")),
        "board.js" => file(JS, include_str!("../page/board.js")),
        "drain.js" => file(JS, include_str!("../page/drain.js")),
        _ => (StatusCode::NOT_FOUND, format!("the page has no module {name}\n")).into_response(),
    }
}

/// `GET /config.json`: which kitchen this is, and where its hub is.
pub(crate) async fn config(State(kitchen): State<Kitchen>) -> Response {
    let config = json!({ "kitchen": kitchen.settings.name, "hub": kitchen.settings.hub_url });
    ([("cache-control", "no-store")], Json(config)).into_response()
}

/// `GET /sdk/…`
pub(crate) async fn sdk(State(kitchen): State<Kitchen>, UrlPath(path): UrlPath<String>) -> Response {
    match kitchen.sdk.files.get(&path) {
        Some((kind, body)) => file(kind, body.clone()),
        None => {
            let why = format!("the SDK has no file {path}; is --sdk the built directory, client-sdk-js/dist?\n");
            (StatusCode::NOT_FOUND, why).into_response()
        }
    }
}

fn file(kind: &'static str, body: impl Into<Bytes>) -> Response {
    let headers = [
        ("content-type", kind),
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        // A page of yesterday with the modules of today would be a riddle.
        ("cache-control", "no-cache"),
    ];
    (headers, body.into()).into_response()
}

/// The built SDK, read once at the start: what is not in here is not served, whatever a path says.
#[derive(Clone, Debug, Default)]
pub struct Sdk {
    files: BTreeMap<String, (&'static str, Bytes)>,
}

/// Why the SDK cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SdkError {
    /// The directory or a file in it cannot be read.
    #[error("cannot read the SDK at {}: {why}; build it first (npm run build in client-sdk-js)", path.display())]
    Unreadable {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// The directory is not a built SDK.
    #[error("{} has no index.js; name the built directory, client-sdk-js/dist", path.display())]
    NoIndex {
        /// The directory.
        path: PathBuf,
    },
    /// Too much to be a built SDK.
    #[error("{} is not a built SDK: {what}", path.display())]
    TooMuch {
        /// The directory or file.
        path: PathBuf,
        /// Which limit it is over.
        what: String,
    },
}

impl Sdk {
    /// Reads the modules and source maps of a built SDK.
    ///
    /// # Errors
    /// [`SdkError`] when the directory cannot be read, is not a built SDK, or is too large to be one.
    pub fn read(directory: &Path) -> Result<Self, SdkError> {
        let mut sdk = Self::default();
        sdk.read_directory(directory, "")?;
        if !sdk.files.contains_key("index.js") {
            return Err(SdkError::NoIndex { path: directory.to_owned() });
        }
        Ok(sdk)
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) -> Result<(), SdkError> {
        let unreadable = |why| SdkError::Unreadable { path: directory.to_owned(), why };
        for entry in std::fs::read_dir(directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let kind = entry.file_type().map_err(unreadable)?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                self.read_directory(&entry.path(), &format!("{name}/"))?;
            } else if let Some(kind) = served_as(&name) {
                let bytes = read_file(&entry.path())?;
                self.files.insert(name, (kind, bytes));
            }
            if self.files.len() > FILES_MAX {
                let what = format!("more than {FILES_MAX} files");
                return Err(SdkError::TooMuch { path: directory.to_owned(), what });
            }
        }
        Ok(())
    }
}

/// As what a file of the SDK is served; `None`: not at all.
fn served_as(name: &str) -> Option<&'static str> {
    match Path::new(name).extension()?.to_str()? {
        "js" | "mjs" => Some(JS),
        "map" => Some(JSON),
        _ => None,
    }
}

fn read_file(path: &Path) -> Result<Bytes, SdkError> {
    let unreadable = |why| SdkError::Unreadable { path: path.to_owned(), why };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_MAX_BYTES {
        let what = format!("{bytes} bytes, at most {FILE_MAX_BYTES} are served");
        return Err(SdkError::TooMuch { path: path.to_owned(), what });
    }
    std::fs::read(path).map(Bytes::from).map_err(unreadable)
}
