//! What somebody else put into the data directory: links that lead out of it, and files that are not the hub's.

use super::{DataDir, DataDirError};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

async fn open(path: &Path) -> Result<DataDir, DataDirError> {
    DataDir::open(path, Duration::ZERO, 1, &mut |bytes| bytes.fill(0x5a)).await
}

/// A file beside the directory, which must not be touched.
const PRECIOUS: &str = "somebody's letters";

#[tokio::test]
async fn a_link_in_the_place_of_any_file_leads_nowhere() {
    for name in [
        "lock",
        "hub-id",
        "hub-id.next",
        "incarnation",
        "incarnation.next",
        "key",
        "key.next",
        "sessions.log",
        "last-report.json",
        "last-report.json.next",
    ] {
        let temp = tempfile::tempdir().expect("a directory");
        let (path, precious) = (temp.path().join("data"), temp.path().join("precious"));
        fs::write(&precious, PRECIOUS).expect("writes");
        drop(open(&path).await.expect("a hub was here"));
        drop(fs::remove_file(path.join(name)));
        symlink(&precious, path.join(name)).expect("a link can be planted");
        let done = open(&path).await.and_then(|data| {
            data.read_or_create_secret("key", 32, &mut |bytes| bytes.fill(7))?;
            data.report_file().write("{}")?;
            data.report_file().read().map(|_| data)
        });
        match done {
            // A link in the place of what is written anew just goes.
            Ok(data) if name.ends_with(".next") || name == "last-report.json" || name == "sessions.log" => {
                let created = data.disk().create("sessions.log");
                assert_eq!(created.is_err(), name == "sessions.log", "{name}: {created:?}");
            }
            Ok(_) => panic!("{name}: a link was followed"),
            Err(error) => assert!(error.to_string().contains("it is a symbolic link"), "{name}: {error}"),
        }
        assert_eq!(fs::read_to_string(&precious).expect("it is there"), PRECIOUS, "{name}");
    }
}

#[tokio::test]
async fn a_second_name_of_somebodys_file_is_not_written_to() {
    let temp = tempfile::tempdir().expect("a directory");
    let (path, precious) = (temp.path().join("data"), temp.path().join("precious"));
    fs::write(&precious, PRECIOUS).expect("writes");
    fs::create_dir(&path).expect("makes it");
    fs::hard_link(&precious, path.join("lock")).expect("a second name");
    let error = open(&path).await.map(|_| ()).expect_err("the lock is another file").to_string();
    assert!(error.contains("lock is damaged: expected a file with one name"), "{error}");
    assert_eq!(fs::read_to_string(&precious).expect("it is there"), PRECIOUS);
}

#[tokio::test]
async fn files_that_everybody_may_use_are_closed_to_them() {
    let temp = tempfile::tempdir().expect("a directory");
    drop(open(temp.path()).await.expect("opens"));
    let id = temp.path().join("hub-id");
    fs::set_permissions(&id, fs::Permissions::from_mode(0o666)).expect("sets it");
    drop(open(temp.path()).await.expect("opens again"));
    assert_eq!(fs::metadata(&id).expect("it is there").mode() & 0o777, 0o600);
}
