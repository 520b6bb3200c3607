//! The unit: checked by systemd's own tool, and its commands run as its user. No init system is booted: a script in the
//! place of `systemctl` reads the unit's own lines and does what they say.

use crate::fleet::shipped;
use tidegate_tests::{Lab, Machine, lab};

/// Reads what it does from the unit; knows the verbs that our pages use.
pub(crate) const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
verb=$1; shift
[ "${1:-}" = --now ] && shift
[ "$verb" = daemon-reload ] && exit 0
name=${1%.service}
unit=/etc/systemd/system/$name.service
[ -e "$unit" ] || { echo "Unit $name.service not found." >&2; exit 5; }
value() { sed -n "s/^$1=//p" "$unit" | tail -n 1; }
user=$(value User); user=${user:-root}
group=$(value Group); group=${group:-$user}
as() {
    [ "$1" = exec ] && shift && exec setpriv --reuid="$user" --regid="$group" --init-groups --no-new-privs "$@"
    setpriv --reuid="$user" --regid="$group" --init-groups --no-new-privs "$@"
}
gone() { [ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"; }
start() {
    state=$(value StateDirectory)
    if [ -n "$state" ]; then
        install -d -m "$(value StateDirectoryMode)" -o "$user" -g "$group" "/var/lib/$state"
        cd "$(value WorkingDirectory)"
    fi
    limit=$(value LimitNOFILE)
    # No more than the machine of the tests lets anybody have.
    [ -z "$limit" ] || ulimit -n "$limit" 2>/dev/null || ulimit -n "$(ulimit -Hn)"
    # Unquoted: the unit's line is split at its spaces, as systemd does. The caller's streams are let go of.
    (exec >>"/var/log/$name.log" 2>&1 </dev/null; as exec $(value ExecStart)) &
    echo $! >"/run/$name.pid"
}
stop() {
    [ -e "/run/$name.pid" ] || return 0
    pid=$(cat "/run/$name.pid"); rm "/run/$name.pid"
    before=$(value ExecStop)
    [ -z "$before" ] || as ${before#-} >>"/var/log/$name.stop.log" 2>&1 </dev/null || true
    gone "$pid" || kill -TERM "$pid"
    limit=$(value TimeoutStopSec); left=$(( ${limit%s} * 10 ))
    until gone "$pid"; do
        [ "$left" -gt 0 ] || { echo "$name did not stop within $limit" >&2; kill -KILL "$pid"; exit 1; }
        left=$((left - 1)); sleep 0.1
    done
}
case $verb in
enable|start) start ;;
stop) stop ;;
restart) stop; start ;;
*) echo "systemctl $verb: not known here" >&2; exit 1 ;;
esac
"#;

/// Lets a machine obey `systemctl` as far as our pages use it.
pub(crate) fn with_systemctl(machine: &Machine) {
    machine.replace_program("/usr/bin/systemctl", SYSTEMCTL);
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    if !lab("systemd::systemd_finds_nothing_wrong_with_the_unit") {
        return;
    }
    let machine = Lab::start().machine("a", "10.0.1.11");
    machine.must("useradd --system --home-dir /var/lib/tidegate --shell /usr/sbin/nologin tidegate");
    let unit = shipped("systemd/tidegate.service");
    machine.write("/etc/systemd/system/tidegate.service", 0o644, &unit);
    let said = machine.sh("systemd-analyze verify --man=no /etc/systemd/system/tidegate.service 2>&1");
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.trim().is_empty(), "systemd-analyze verify: {}: {text}", said.status);

    // The same tool, the same call: it does find what is wrong.
    machine.write(
        "/etc/systemd/system/wrong.service",
        0o644,
        &unit.replace("/usr/local/bin/tidegate serve", "/nowhere serve"),
    );
    let said = machine.sh("systemd-analyze verify --man=no /etc/systemd/system/wrong.service 2>&1");
    assert!(!said.status.success(), "a unit whose program is missing is refused");
}

#[tokio::test]
async fn the_units_commands_run_as_its_user_and_a_restart_keeps_everybody() {
    if !lab("systemd::the_units_commands_run_as_its_user_and_a_restart_keeps_everybody") {
        return;
    }
    let machine = Lab::start().machine("a", "10.0.1.11");
    with_systemctl(&machine);
    let unit = shipped("systemd/tidegate.service");
    // The commands that the unit's own head gives.
    let user = unit.lines().find_map(|line| line.strip_prefix("# User: ")).expect("the unit says how to make its user");
    machine.must(user);
    let _kitchen = crate::fleet::kitchen(&machine).await;
    machine.write("/etc/systemd/system/tidegate.service", 0o644, &unit);
    machine.write(
        "/etc/tidegate/tidegate.toml",
        0o644,
        "app = \"ws://127.0.0.1:3000\"\ndata-dir = \"/var/lib/tidegate\"\n",
    );
    machine.must("systemctl daemon-reload; systemctl enable --now tidegate");
    crate::fleet::ready(&machine.address).await;
    let owner = machine.must("stat -c '%U:%G %a' /var/lib/tidegate; ps -o user= -p $(cat /run/tidegate.pid)");
    assert_eq!(owner.split_whitespace().collect::<Vec<_>>(), ["tidegate:tidegate", "700", "tidegate"], "{owner}");

    let crowd = tidegate_tests::Crowd::connect(&format!("ws://{}:8080/ledger", machine.address), 5).await;
    crowd.all_at_work().await;
    machine.must("systemctl restart tidegate");
    crowd.all_at_work().await;
    crowd.audit().await;
    let drained = machine.must("cat /var/log/tidegate.stop.log");
    assert!(drained.contains("parked 5"), "ExecStop told the users and parked them: {drained}");
}
