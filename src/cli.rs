//! The command line: its words and their help, what each prints and the code the process ends with. What the words do is
//! done elsewhere: `config`, `bouncer`, `control`, `auth`.

mod clients;
mod export;
mod init;
mod moving;
mod passwd;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{self, Config, Findings, Level, LogLevel, Purpose};
use crate::{bouncer, control, doctor};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done = 0,
    /// At run time; for `check`: there are warnings.
    Failed = 1,
    /// `check`: something does not work.
    Broken = 2,
    /// EX_USAGE
    Usage = 64,
    /// EX_UNAVAILABLE: no daemon answers.
    NoDaemon = 69,
    /// EX_CONFIG
    Refused = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

const ABOUT: &str = "\
An IRC bouncer: it stays on IRC for you, over IPv6 and IPv4, and each of your clients gets exactly what it missed";

const LONG_ABOUT: &str = "\
An IRC bouncer: it stays on IRC for you, over IPv6 and IPv4, and each of your clients gets exactly what it missed.

carom keeps one connection to each of your IRC networks and listens for your clients. Begin with config.example.toml and \
`carom run`: its first start makes a certificate and your password and prints what you need. Then attach with any IRC \
client, as user/network.";

const AFTER: &str = "\
Exit codes:
   0  done
   1  failed at run time; check: there are warnings
   2  check: something does not work
  64  wrong usage
  69  no daemon answers (ctl)
  75  another instance has the data folder (run)
  78  configuration missing or refused

Without --config the file is $CAROM_CONFIG, else $XDG_CONFIG_HOME/carom/carom.toml, else /etc/carom/carom.toml.
The manual: carom(1), carom.toml(5).";

#[derive(Parser)]
#[command(name = "carom", version, about = ABOUT, long_about = LONG_ABOUT, after_help = AFTER, max_term_width = 100)]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run in the foreground, with the log on standard error
    ///
    /// Ends on SIGTERM or SIGINT after saying QUIT on every network; SIGHUP reads the certificate again. A password made
    /// at first start is the only thing printed on standard output.
    #[command(after_help = RUN_EXAMPLES)]
    Run(ConfigFile),

    /// Write a first configuration; what is not given is asked
    ///
    /// The file has mode 0600 and is checked before it is written. In the end it tells the settings of WeeChat, irssi,
    /// HexChat and Halloy. With --yes nothing is asked: what is not given has its default, and the password is made up and
    /// printed.
    #[command(after_help = init::EXAMPLES)]
    Init(init::Init),

    /// Judge the configuration, and this host's and its networks' IPv6 and IPv4
    ///
    /// Tells everything that is wrong with the file, each with line, key and what to do about it; then looks at kernel,
    /// listeners, addresses, routes, tunnels, firewall, names and every server of every network, over each family by
    /// itself. Changes nothing, logs in nowhere and needs no privileges; root sees the firewall's rules too. Exits with
    /// 78 when `run` would refuse the file, else with 2 for errors, 1 for warnings, 0 for neither.
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Print the findings as JSON, for programs
        ///
        /// {"findings": [{"level", "topic", "message", "remedy", "file", "line", "key"}]}
        #[arg(long)]
        json: bool,
        /// Judge the file alone, and exit with 0 or 78 only
        #[arg(long)]
        offline: bool,
    },

    /// Read a password and print its hash, for `password` in the file
    ///
    /// On a terminal it is asked for twice and not shown. Otherwise one line is read from standard input, and the hash
    /// alone is printed. A password has 1 to 512 bytes of UTF-8.
    #[command(after_help = PASSWD_EXAMPLES)]
    Passwd,

    /// Turn another bouncer's configuration into ours, and its logs into history
    ///
    /// What cannot be carried over is told with the reason. Passwords keep working: their hashes are taken along. carom
    /// must not run on the database that the logs are brought into.
    #[command(after_help = moving::EXAMPLES)]
    Import(moving::Import),

    /// Say WORDS to the running daemon: the same words as `/msg *carom WORDS` in IRC
    ///
    /// They are taken as the shell gives them, without a second round of quoting. Exits with 0 when done, 1 when refused,
    /// 64 when not understood, 69 when no daemon answers.
    #[command(after_help = CTL_EXAMPLES)]
    Ctl {
        #[command(flatten)]
        config: ConfigFile,
        /// Print the answer as JSON, for programs
        ///
        /// {"rows": [...], "lines": [...], "code": 0}
        #[arg(long)]
        json: bool,
        /// What to say; `help` lists what there is
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },

    /// Write a copy of the database to FILE, while carom runs or not
    ///
    /// The copy is the database as it was at one moment, whatever is stored meanwhile, and has the same tables. It is whole
    /// or not there: it gets its name when it is on the disk. A file that is there already is not overwritten.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export {
        #[command(flatten)]
        config: ConfigFile,
        /// The copy
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

const RUN_EXAMPLES: &str = "\
Examples:
  carom run --config carom.toml
  CAROM_CONFIG=/etc/carom/carom.toml carom run";

const CHECK_EXAMPLES: &str = "\
Examples:
  carom check --config carom.toml
  carom check --offline
  carom check --json | jq -r '.findings[].message'";

const PASSWD_EXAMPLES: &str = "\
Examples:
  carom passwd
  pass show irc/bouncer | carom passwd";

const CTL_EXAMPLES: &str = "\
Examples:
  carom ctl help
  carom ctl network status
  carom ctl --json network status | jq -r '.rows[].state'";

const EXPORT_EXAMPLES: &str = "\
Examples:
  carom export --config carom.toml --output backup.db
  carom export --output /backup/carom-$(date +%F).db";

#[derive(Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
}

/// The command line, for the test that holds the manual to it.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Does what the arguments say; `main` is nothing else.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that cannot be written has nobody to read it.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done.into(),
                _ => Exit::Usage.into(),
            };
        }
    };
    match cli.command {
        Command::Run(config) => run(&config.path()),
        Command::Check {
            config,
            json,
            offline,
        } => check(&config.path(), json, offline).into(),
        Command::Init(wanted) => init::init(wanted).into(),
        Command::Passwd => passwd::passwd().into(),
        Command::Import(wanted) => moving::import(&wanted),
        Command::Ctl {
            config,
            json,
            words,
        } => ctl(&config.path(), json, &words),
        Command::Export { config, output } => export::export(&config.path(), &output).into(),
    }
}

impl ConfigFile {
    fn path(self) -> PathBuf {
        self.path
            .unwrap_or_else(|| default_path(|name| env::var_os(name), Path::is_file))
    }
}

/// Where the configuration of the system's service is.
const SYSTEM_FILE: &str = "/etc/carom/carom.toml";

/// Where its control socket is: systemd tells $RUNTIME_DIRECTORY to the service, but not to us.
const SYSTEM_SOCKET: &str = "/run/carom/control.sock";

/// Where the configuration is when nobody says. The folder of the user's own files counts only if the file is there.
fn default_path(
    variable: impl Fn(&str) -> Option<std::ffi::OsString>,
    exists: impl Fn(&Path) -> bool,
) -> PathBuf {
    let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(path) = path("CAROM_CONFIG") {
        return path;
    }
    path("XDG_CONFIG_HOME")
        .filter(|folder| folder.is_absolute())
        .or_else(|| path("HOME").map(|home| home.join(".config")))
        .map(|folder| folder.join("carom/carom.toml"))
        .filter(|path| exists(path))
        .unwrap_or_else(|| SYSTEM_FILE.into())
}

/// Writes to standard output; a reader that is gone wants no more.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Writes to standard error, if anybody reads it.
fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

// -- run

fn run(path: &Path) -> ExitCode {
    let (config, warnings) = match config::load(path, Purpose::Run) {
        Ok(loaded) => loaded,
        Err(findings) => {
            let _ = write!(io::stderr(), "{findings}");
            return Exit::Refused.into();
        }
    };
    let set_level = start_log(&config.log);
    for warning in warnings.iter() {
        tracing::warn!("{}", warning.without_level());
    }
    match start(config, set_level) {
        Ok(Ok(())) => Exit::Done.into(),
        Ok(Err(failure)) => {
            tracing::error!("{}", failure.message);
            ExitCode::from(failure.code)
        }
        Err(error) => {
            tracing::error!("{error:#}");
            Exit::Failed.into()
        }
    }
}

fn start(
    config: Config,
    set_level: bouncer::SetLevel,
) -> anyhow::Result<Result<(), bouncer::Failure>> {
    // One thread for all networks and clients, this one: a line's way from task to task wakes nobody, which costs a third
    // less CPU and time than two threads do, and what reading the file took of memory is used again. Hashing, the disk and
    // names have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the threads")?;
    Ok(runtime.block_on(bouncer::run(config, set_level)))
}

/// Starts the log. How much it tells can be changed by what is returned.
fn start_log(log: &config::Log) -> bouncer::SetLevel {
    let (level, handle) = reload::Layer::new(filter(log.level));
    // Errors of the log itself have nowhere to go: reporting them on a closed standard error would end the process.
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(level);
    match (log.json, has_journal()) {
        (true, _) => registry.with(layer.json()).init(),
        (false, true) => registry.with(layer.without_time()).init(),
        (false, false) => registry.with(layer).init(),
    }
    Box::new(move |level| {
        // It fails when there is no log any more.
        _ = handle.reload(filter(level));
    })
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Whether standard error is the journal of systemd, which keeps its own time (systemd.exec(5), `JOURNAL_STREAM`).
fn has_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

// -- check

fn check(path: &Path, json: bool, offline: bool) -> Exit {
    let (refused, findings) = match config::load(path, Purpose::Check) {
        Ok((_, warnings)) if offline => (false, warnings),
        Ok((config, warnings)) => match examine(&config, warnings) {
            Ok(findings) => (false, findings),
            Err(error) => {
                complain(format_args!("error: {error:#}"));
                return Exit::Failed;
            }
        },
        Err(findings) => (true, findings),
    };
    if json {
        say(findings.to_json());
    } else {
        let _ = write!(io::stdout(), "{findings}");
        say(format_args!(
            "{}: {}",
            path.display(),
            verdict(refused, &findings)
        ));
    }
    match (refused, findings.worst()) {
        (true, _) => Exit::Refused,
        (false, _) if offline => Exit::Done,
        (false, Some(Level::Error)) => Exit::Broken,
        (false, Some(Level::Warning)) => Exit::Failed,
        (false, Some(Level::Info) | None) => Exit::Done,
    }
}

/// What there is to say of the file, and of the host.
fn examine(config: &Config, mut findings: Findings) -> anyhow::Result<Findings> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the threads")?;
    let found = runtime.block_on(doctor::examine(config));
    // A look-up that still waits must not be waited for.
    runtime.shutdown_background();
    findings.append(found.context("starting the threads")?);
    Ok(findings)
}

fn verdict(refused: bool, findings: &Findings) -> String {
    let count = |level, name: &str| match findings.count(level) {
        0 => None,
        1 => Some(format!("1 {name}")),
        n => Some(format!("{n} {name}s")),
    };
    let counts: Vec<_> = [
        count(Level::Error, "error"),
        count(Level::Warning, "warning"),
    ]
    .into_iter()
    .flatten()
    .collect();
    match (refused, counts.is_empty()) {
        (true, _) => format!("refused, {}", counts.join(", ")),
        (false, true) => "good".into(),
        (false, false) => format!("can be used, {}", counts.join(", ")),
    }
}

// -- ctl

fn ctl(path: &Path, json: bool, words: &[String]) -> ExitCode {
    let socket = match config::control_socket(path) {
        Ok(Some(socket)) => socket,
        Ok(None) => {
            complain(format_args!(
                "error: {}: server.control is \"\", so there is no socket to talk to (remove the key)",
                path.display()
            ));
            return Exit::NoDaemon.into();
        }
        Err(findings) => {
            let _ = write!(io::stderr(), "{findings}");
            return Exit::Refused.into();
        }
    };
    let system = Path::new(SYSTEM_SOCKET);
    let use_system = path == Path::new(SYSTEM_FILE) && !socket.exists() && system.exists();
    let socket = if use_system { system.into() } else { socket };
    let answer = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| {
            let mut printed = Printed::new(json);
            let said = control::converse(&socket, words, json, |part| printed.part(part));
            let code = runtime.block_on(said)?;
            printed.end(code);
            Ok(code)
        });
    match answer {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(format_args!(
                "error: no daemon answers on {}: {error} (start it with `carom run`, or name its file with --config)",
                socket.display()
            ));
            Exit::NoDaemon.into()
        }
    }
}

/// The answer of the daemon, printed as it comes.
struct Printed {
    json: bool,
    rows: usize,
    lines: Vec<String>,
}

impl Printed {
    fn new(json: bool) -> Self {
        Self {
            json,
            rows: 0,
            lines: Vec::new(),
        }
    }

    fn part(&mut self, part: control::Part) {
        match part {
            control::Part::Line(line) if self.json => self.lines.push(line),
            control::Part::Line(line) => say(line),
            control::Part::Row(row) => {
                let before = if self.rows == 0 { "{\"rows\": [" } else { "," };
                self.rows += 1;
                say(format_args!("{before}{}", serde_json::Value::Object(row)));
            }
        }
    }

    fn end(self, code: u8) {
        if self.json {
            let before = if self.rows == 0 { "{\"rows\": [" } else { "" };
            let lines = serde_json::Value::from(self.lines);
            say(format_args!(
                "{before}], \"lines\": {lines}, \"code\": {code}}}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_words_of_ctl_may_look_like_options() {
        let arguments = [
            "carom", "ctl", "--config", "x.toml", "network", "create", "-name", "--json",
        ];
        let Command::Ctl {
            config,
            json,
            words,
        } = Cli::parse_from(arguments).command
        else {
            panic!("not ctl");
        };
        assert!(!json);
        assert_eq!(config.path(), PathBuf::from("x.toml"));
        assert_eq!(words, ["network", "create", "-name", "--json"]);
    }

    #[test]
    fn the_file_is_looked_for_in_three_places() {
        let find = |variables: &[(&str, &str)], exists| {
            let variable = |name: &str| {
                variables
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| v.into())
            };
            default_path(variable, |_| exists)
        };
        let home = ("HOME", "/home/apw");
        let xdg = ("XDG_CONFIG_HOME", "/x");
        assert_eq!(
            find(&[home, xdg, ("CAROM_CONFIG", "a.toml")], true),
            Path::new("a.toml")
        );
        assert_eq!(
            find(&[home, xdg, ("CAROM_CONFIG", "")], true),
            Path::new("/x/carom/carom.toml")
        );
        let own = Path::new("/home/apw/.config/carom/carom.toml");
        assert_eq!(find(&[home], true), own);
        assert_eq!(
            find(&[home, xdg], false),
            Path::new("/etc/carom/carom.toml")
        );
    }

    #[test]
    fn passwords_have_1_to_512_bytes() {
        assert!(passwd::judge(b"").is_err());
        assert!(passwd::judge(b"x").is_ok());
        assert!(passwd::judge(&[b'x'; 512]).is_ok());
        assert!(passwd::judge(&[b'x'; 513]).is_err());
    }
}
