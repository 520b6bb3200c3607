//! Whose the data directory is: users, groups and modes as a Kubernetes volume, an NFS mount or a careless hand gives
//! them. As root with a real other user; as anybody else with what one user can set up alone.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use tidegate_tests::{Exit, Program, Setup, Signal, binary};

/// A user and a group that nobody has.
const USER: u32 = 61_234;
const GROUP: u32 = 61_235;

/// A directory above the data that every user may pass through, and the arguments of a hub on it.
struct Place {
    top: TempDir,
    data: PathBuf,
}

impl Place {
    fn new() -> Self {
        let top = tempfile::tempdir().expect("a directory");
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).expect("sets it");
        let data = top.path().join("volume");
        fs::create_dir(&data).expect("makes it");
        Self { top, data }
    }

    /// As the volume of a pod with `fsGroup`: it belongs to root, and its group has the rights.
    fn of_root_for_the_group(mode: u32) -> Self {
        let place = Self::new();
        chown(&place.data, Some(0), Some(GROUP)).expect("root may give it away");
        fs::set_permissions(&place.data, fs::Permissions::from_mode(mode)).expect("sets it");
        place
    }

    /// A hub on this directory, as the other user in that group.
    fn hub_of_the_group(&self) -> Program {
        let setup = Setup::new("of the group");
        let ids = [format!("--reuid={USER}"), format!("--regid={GROUP}"), "--clear-groups".to_owned()];
        let program = self.copy_of_the_program();
        let args: Vec<String> = ids.into_iter().chain([program]).chain(setup.args_on(&self.data)).collect();
        Program::start_at("a hub of the group", Path::new("setpriv"), &args, &[])
    }

    /// Where the other user may run it: the build's own directory may be closed to everybody else.
    fn copy_of_the_program(&self) -> String {
        let copy = self.top.path().join("tidegate");
        fs::copy(binary("tidegate"), &copy).expect("room for a copy");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("sets it");
        copy.display().to_string()
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

async fn ready_and_stopped(hub: Program) -> Exit {
    let line = hub.first_line().await;
    assert!(line.contains("\"ready\""), "{line} {:?}", hub.stderr());
    hub.signal(Signal::Term);
    let exit = hub.exit().await;
    assert_eq!(exit.code, Some(0), "{:?}", exit.stderr);
    exit
}

#[tokio::test]
async fn a_volume_of_roots_that_gives_rights_by_its_group_will_do_and_nobody_else_can_read_what_is_in_it() {
    // What one user can set up alone is the second start below.
    if is_root() {
        // 2775 is what `fsGroup` makes of a new file system, 2770 of one that was closed before.
        for mode in [0o2770, 0o2775] {
            let place = Place::of_root_for_the_group(mode);
            for run in 1..=2 {
                let exit = ready_and_stopped(place.hub_of_the_group()).await;
                assert!(
                    exit.stderr.iter().any(|line| line.contains("cannot be changed")),
                    "run {run}: {:?}",
                    exit.stderr
                );
            }
            assert_eq!(fs::metadata(&place.data).expect("it is there").mode() & 0o7777, mode, "it is root's as before");
            for file in fs::read_dir(&place.data).expect("lists") {
                let meta = file.expect("lists").metadata().expect("it is there");
                assert_eq!((meta.uid(), meta.mode() & 0o777), (USER, 0o600));
            }
        }
    }
    let place = Place::new();
    fs::set_permissions(&place.data, fs::Permissions::from_mode(0o2770)).expect("sets it");
    let setup = Setup::new("alone");
    let hub = Program::start("a hub alone", "tidegate", &setup.args_on(&place.data), &[]);
    ready_and_stopped(hub).await;
    assert_eq!(fs::metadata(&place.data).expect("it is there").mode() & 0o777, 0o700, "its own is closed");
}

#[tokio::test]
async fn a_directory_that_everybody_may_write_in_is_refused_with_what_would_do_and_that_does() {
    if !is_root() {
        // A directory of one's own is closed instead of refused: `a_volume_of_roots_…` has that.
        return;
    }
    let mut place = Place::of_root_for_the_group(0o2777);
    let exit = place.hub_of_the_group().exit().await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let told = exit.stderr.join("\n");
    let would_do = place.data.join("hub");
    assert!(told.contains("everybody may write in it (mode 2777)"), "{told}");
    assert!(told.contains(&format!("such as {}", would_do.display())), "{told}");
    place.data = would_do;
    ready_and_stopped(place.hub_of_the_group()).await;
}

#[tokio::test]
async fn a_key_or_a_link_that_somebody_put_there_stops_the_start_and_is_named() {
    let place = Place::new();
    let precious = place.top.path().join("precious");
    fs::write(&precious, "letters").expect("writes");
    let setup = Setup::new("alone");
    let start = || Program::start("a hub alone", "tidegate", &setup.args_on(&place.data), &[]);
    ready_and_stopped(start()).await;
    fs::remove_file(place.data.join("lock")).expect("it was there");
    std::os::unix::fs::symlink(&precious, place.data.join("lock")).expect("a link");
    let exit = start().exit().await;
    let told = exit.stderr.join("\n");
    assert_eq!(exit.code, Some(1), "{told}");
    assert!(told.contains("lock is damaged: expected a plain file, and it is a symbolic link"), "{told}");
    assert_eq!(fs::read_to_string(&precious).expect("it is there"), "letters");
    fs::remove_file(place.data.join("lock")).expect("the link");
    if is_root() {
        chown(place.data.join("cluster.key"), Some(USER), None).expect("root may give it away");
        let exit = start().exit().await;
        let told = exit.stderr.join("\n");
        assert_eq!(exit.code, Some(1), "{told}");
        assert!(told.contains("cluster.key is damaged") && told.contains(&format!("it is user {USER}'s")), "{told}");
    }
}

#[test]
fn the_tools_that_these_tests_need_are_here() {
    let found = Command::new("setpriv").arg("--version").stdout(Stdio::null()).status();
    assert!(
        !is_root() || found.is_ok_and(|status| status.success()),
        "setpriv of util-linux is needed to be another user"
    );
}
