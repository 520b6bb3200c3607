//! The command line as typed. Values stay texts here: `settings` gives them their meaning, together
//! with those from the environment and the file, so that all three are judged by the same rules.

use crate::lifecycle::Task;
use crate::settings::Given;
use clap::{Parser, Subcommand};

/// Asks a Tidegate hub to drain, watches it, and turns the result into an exit code.
///
/// Without a command it does what LIFECYCLE_EVENT asks, as AWS CodeDeploy sets it:
/// BeforeBlockTraffic and ApplicationStop drain; AfterBlockTraffic pushes or parks the rest now;
/// ValidateService and BeforeAllowTraffic give the hub back; any other event is one line and exit 0.
#[derive(Debug, Parser)]
#[command(name = "tidegate-hook", version, after_long_help = MORE, after_help = "More, with examples: --help", disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Empty the hub: start a drain, or join the one under way, and wait for its end
    Drain,
    /// Show the stages that a drain would have; exit 3 if there is no time or no room for it
    Plan,
    /// Show where the hub stands
    Status,
    /// Let a drain go on that a gate holds, after a look
    Continue,
    /// Call the drain off, or serve again after one
    Cancel,
    /// Show how the last drain ended
    Report,
}

/// What is common to all commands.
#[derive(Debug, clap::Args)]
struct Options {
    /// The hub's private address [default: http://127.0.0.1:8081]
    #[arg(long, global = true, value_name = "URL")]
    hub: Option<String>,
    /// Bearer token of the private API: the first line of this file
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<String>,
    /// For https: trust the certificates in this PEM file, and no others
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<String>,
    /// The hub's --data-dir: when nothing listens, only the hub that has this one counts as running elsewhere
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where the address of the last success is kept [default: /var/lib/tidegate-hook/last-hub]
    #[arg(long, global = true, value_name = "FILE")]
    state_file: Option<String>,
    /// Settings file [default: /etc/tidegate/hook.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<String>,
    /// One JSON object per line on stdout
    #[arg(long, global = true)]
    json: bool,

    /// How long before anyone is moved [default: 15s]
    #[arg(long, global = true, value_name = "DUR", help_heading = "Policy of the drain")]
    notice: Option<String>,
    /// Over how long the moves are spread [default: 60s]
    #[arg(long, global = true, value_name = "DUR", help_heading = "Policy of the drain")]
    window: Option<String>,
    /// How long to wait for the last ones [default: 10s]
    #[arg(long, global = true, value_name = "DUR", help_heading = "Policy of the drain")]
    settle: Option<String>,
    /// When it ends, whatever happens [default: 5m]
    #[arg(long, global = true, value_name = "DUR", help_heading = "Policy of the drain")]
    deadline: Option<String>,
    /// The same for AfterBlockTraffic [default: 1m, or --deadline if that is less]
    #[arg(long, global = true, value_name = "DUR", help_heading = "Policy of the drain")]
    rest_deadline: Option<String>,
    /// Most moves under way at once [default: 256]
    #[arg(long, global = true, value_name = "N", help_heading = "Policy of the drain")]
    max_in_flight: Option<String>,
    /// Shares of the stages in percent, the canary first [default: 1,9,30,60]
    #[arg(long, global = true, value_name = "N,N,…", help_heading = "Policy of the drain")]
    stages: Option<String>,
    /// Share of a stage that must be back before the next one opens [default: 90]
    #[arg(long, global = true, value_name = "N", help_heading = "Policy of the drain")]
    gate_back_percent: Option<String>,
    /// How long that is waited for before the stragglers are pushed
    #[arg(long, global = true, value_name = "DUR", help_heading = "Policy of the drain")]
    gate_wait: Option<String>,
    /// If no client of a stage comes to another hub: hold, recall or continue [default: hold]
    #[arg(long, global = true, value_name = "WHAT", help_heading = "Policy of the drain")]
    on_gate: Option<String>,
    /// What users read
    #[arg(long, global = true, value_name = "TEXT", help_heading = "Policy of the drain")]
    text: Option<String>,
    /// The same by language, as JSON: {"de":"…"}
    #[arg(long, global = true, value_name = "JSON", help_heading = "Policy of the drain")]
    texts: Option<String>,
    /// Why, for programs and logs [default: deployment, under CodeDeploy]
    #[arg(long, global = true, value_name = "WORD", help_heading = "Policy of the drain")]
    reason: Option<String>,
    /// If the trigger is gone for the lease: continue or recall [default: recall under CodeDeploy]
    #[arg(long, global = true, value_name = "WHAT", help_heading = "Policy of the drain")]
    on_orphan: Option<String>,
    /// After how long without a question the trigger counts as gone [default: 1m]
    #[arg(long, global = true, value_name = "DUR", help_heading = "Policy of the drain")]
    lease: Option<String>,

    /// Agree that sessions are parked here although other hubs are known: when none takes them, or none has room
    #[arg(long, global = true, help_heading = "Policy of the drain")]
    allow_park: bool,

    /// Exit 3 if anyone was forced, cut, unconfirmed or is left at the deadline
    #[arg(long, global = true, help_heading = "Judgement and patience")]
    strict: bool,
    /// Exit 5 instead of a warning if nothing listens at the hub's address, also when no hub runs here
    #[arg(long, global = true, help_heading = "Judgement and patience")]
    require_hub: bool,
    /// Never tell the hub to serve again when the drain fails: for preStop and ExecStop
    #[arg(long, global = true, help_heading = "Judgement and patience")]
    no_recall: bool,
    /// End at the latest after this, whatever the hub does [default: deadline + settle]
    #[arg(long, global = true, value_name = "DUR", help_heading = "Judgement and patience")]
    give_up_after: Option<String>,
    /// Limit for one connection [default: 2s]
    #[arg(long, global = true, value_name = "DUR", help_heading = "Judgement and patience")]
    connect_timeout: Option<String>,
    /// Limit for one answer, beyond the time that the hub is asked to wait [default: 5s]
    #[arg(long, global = true, value_name = "DUR", help_heading = "Judgement and patience")]
    answer_timeout: Option<String>,
}

impl Args {
    /// The command, as a task; `None` leaves it to the lifecycle event.
    pub(crate) fn task(&self) -> Option<Task> {
        self.command.map(|command| match command {
            Command::Drain => Task::Drain,
            Command::Plan => Task::Plan,
            Command::Status => Task::Status,
            Command::Continue => Task::Continue,
            Command::Cancel => Task::Cancel,
            Command::Report => Task::Report,
        })
    }

    /// The settings file, if one was named.
    pub(crate) fn config(&self) -> Option<&str> {
        self.options.config.as_deref()
    }

    /// The flags that were typed, by the name of their setting.
    pub(crate) fn given(&self) -> Given {
        let o = &self.options;
        let on = |flag: bool| flag.then(|| "true".to_owned());
        let typed = [
            ("hub", o.hub.clone()),
            ("token_file", o.token_file.clone()),
            ("ca_file", o.ca_file.clone()),
            ("data_dir", o.data_dir.clone()),
            ("state_file", o.state_file.clone()),
            ("json", on(o.json)),
            ("notice", o.notice.clone()),
            ("window", o.window.clone()),
            ("settle", o.settle.clone()),
            ("deadline", o.deadline.clone()),
            ("rest_deadline", o.rest_deadline.clone()),
            ("max_in_flight", o.max_in_flight.clone()),
            ("stages", o.stages.clone()),
            ("gate_back_percent", o.gate_back_percent.clone()),
            ("gate_wait", o.gate_wait.clone()),
            ("on_gate", o.on_gate.clone()),
            ("text", o.text.clone()),
            ("texts", o.texts.clone()),
            ("reason", o.reason.clone()),
            ("on_orphan", o.on_orphan.clone()),
            ("lease", o.lease.clone()),
            ("allow_park", on(o.allow_park)),
            ("strict", on(o.strict)),
            ("require_hub", on(o.require_hub)),
            ("no_recall", on(o.no_recall)),
            ("give_up_after", o.give_up_after.clone()),
            ("connect_timeout", o.connect_timeout.clone()),
            ("answer_timeout", o.answer_timeout.clone()),
        ];
        typed.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// The second half of `--help`.
const MORE: &str = r#"Settings:
  Flags, then TIDEGATE_<NAME> (TIDEGATE_HUB, TIDEGATE_GIVE_UP_AFTER, …), then the settings file, then
  the defaults. The file is TOML with the same names: /etc/tidegate/hook.toml, or --config, or
  TIDEGATE_HOOK_CONFIG. Durations: 500ms, 15s, 1m30s.

      hub        = "https://10.0.0.7:8081"
      token-file = "/etc/tidegate/token"
      deadline   = "10m"
      strict     = true
      texts      = { de = "Kurze Pause, bitte den Satz beenden." }

Examples:
  tidegate-hook plan --deadline 2m         what would happen, and does it fit
  tidegate-hook drain                      empty this hub, with a progress bar on a terminal
  tidegate-hook drain --strict --notice 30s --text "We are back in a moment."
  tidegate-hook status --json              one JSON object
  tidegate-hook continue                   go on, after a look at the gate that holds the drain
  tidegate-hook cancel                     call it off; who has moved stays moved
  tidegate-hook                            in a CodeDeploy script: all it needs
  tidegate-hook drain --deadline 20s --no-recall --allow-park    Kubernetes preStop, systemd ExecStop

Exit codes:
    0  drained, or nothing to drain, or no hub runs here (with a warning)
    2  wrong usage, or a policy that is impossible
    3  --strict: somebody was forced, cut, unconfirmed or is left; plan: it does not fit
    4  somebody else called the drain off
    5  the hub accepts and does not answer, answers 401, or vanished in the middle; what answers is no
       hub; nothing listens there, but a hub runs elsewhere on this machine, or --require-hub is set
    6  the hub refused; or there is no report; or `continue` where no gate holds a drain
    7  the hub asks first: it would park sessions although other hubs are known; --allow-park agrees
    8  a gate failed: clients did not arrive at the other hubs, and the drain was called off
  143  SIGTERM (130: Ctrl-C). The drain lives in the hub and goes on, unless CodeDeploy runs us

Who wants the hub drained:
  Under CodeDeploy each call says for whom: APPLICATION_NAME/DEPLOYMENT_GROUP_NAME. The hub stays drained
  as long as any group claims it: BeforeAllowTraffic ends its own group's claim, whatever the deployment;
  ValidateService too, unless its deployment sent BeforeBlockTraffic. `cancel` ends all claims, and
  triggers that wait end with 4 and name who did it. `status` lists them.

Under CodeDeploy:
  Let the `timeout` in appspec.yml be at least 30 s more than --give-up-after: nothing tells us that
  limit. If a drain fails, the hub is told to serve again, for the instance stays in the load balancer
  (not after BlockTraffic, and not with --no-recall). This can take up to 2 s more.

JSON, one object per line:
  drain               {"event":"start"…}, {"event":"status", …}, {"event":"note","text"},
                      {"event":"report","report":{…}}, and as the last line always
                      {"event":"end","exit":0,"result":"done","text":[…]}
  status, cancel      the status as the hub sent it        plan, report   the same
                      and if there is no answer, only the end object
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_are_taken_before_and_after_the_command() {
        let before = Args::try_parse_from(["tidegate-hook", "--notice", "3s", "drain"]).unwrap();
        let after = Args::try_parse_from(["tidegate-hook", "drain", "--notice", "3s"]).unwrap();
        assert_eq!(before.given(), after.given());
        assert_eq!(before.given()["notice"], "3s");
        assert_eq!(after.task(), Some(Task::Drain));
    }

    #[test]
    fn every_setting_has_a_flag_and_every_flag_a_setting() {
        let command = Args::command();
        let flags: Vec<String> = command
            .get_arguments()
            .filter_map(|arg| arg.get_long())
            .filter(|long| !["help", "version", "config"].contains(long))
            .map(|long| long.replace('-', "_"))
            .collect();
        assert_eq!(flags, crate::settings::KEYS);
    }
}
