//! Settings from flags, environment and file, checked once: what comes out of here can be used as it is.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Gid;
use theca_controller::node::Limits;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::args::{Args, Settings};

/// Read if there is one and no other is named.
const DEFAULT_FILE: &str = "/etc/theca/thecad.toml";
/// Groups by name. Read here, since a static program cannot ask the C library's name services.
const GROUPS: &str = "/etc/group";
/// No setting of a time is longer: a day.
const LONGEST: u64 = 24 * 60 * 60;

/// Why thecad cannot run as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file makes no sense.
    #[error("{} is not usable", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A path that would depend on where thecad is started.
    #[error("{setting} is {}: use an absolute path", path.display())]
    Relative {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// Two sockets at one place.
    #[error("{} is to be two sockets: give each a path of its own", .0.display())]
    SameSocket(PathBuf),
    /// No such group.
    #[error("no group is called {0}: make it (`groupadd --system {0}`) or name another")]
    UnknownGroup(String),
    /// Figures of what runs here are for this machine alone.
    #[error("metrics = {0:?} is not usable: use a loopback address such as 127.0.0.1:9464, or unix:/a/path")]
    Metrics(String),
    /// Not a filter.
    #[error(
        "log = {0:?} is not usable: use error, warn, info, debug or trace, also by target: info,theca_api=debug"
    )]
    Log(String),
    /// Not a usable time.
    #[error("{setting} = {seconds} is not usable: use 1 to {LONGEST} seconds")]
    Time {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        seconds: u64,
    },
    /// A guest would be taken for hung before it was asked.
    #[error("hung_after must be longer than heartbeat ({0:?})")]
    HungBeforeAsked(Duration),
}

/// Where Prometheus scrapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrapeAddress {
    /// A unix socket, for the same people as the others.
    Unix(PathBuf),
    /// A loopback address.
    Loopback(SocketAddr),
}

/// How thecad is set up.
#[derive(Debug)]
pub struct Config {
    /// What outlives the machine's next start.
    pub root: PathBuf,
    /// What does not.
    pub state: PathBuf,
    /// Today's endpoint.
    pub socket: PathBuf,
    /// The older generations' endpoint.
    pub generations_socket: PathBuf,
    /// Whose members may connect, beside root.
    pub group: Option<Gid>,
    /// Where to scrape, if at all.
    pub metrics: Option<ScrapeAddress>,
    /// What is logged.
    pub log: Targets,
    /// Bounds in time.
    pub limits: Limits,
}

impl Config {
    /// Reads the file that `args` name, or the default one, and checks all.
    pub fn read(args: Args) -> Result<Self, ConfigError> {
        let file = match &args.config {
            Some(path) => read(path)?,
            None => match read(Path::new(DEFAULT_FILE)) {
                Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    Settings::default()
                }
                other => other?,
            },
        };
        Self::check(args.settings.or(file))
    }

    fn check(settings: Settings) -> Result<Self, ConfigError> {
        let state = absolute("state", settings.state, || "/run/theca".into())?;
        let socket = absolute("socket", settings.socket, || state.join("thecad.sock"))?;
        let generations_socket =
            absolute("generations_socket", settings.generations_socket, || state.join("thecad-2022.sock"))?;
        let metrics = settings.metrics.as_deref().map(scrape_address).transpose()?;
        let mut sockets = vec![&generations_socket];
        if let Some(ScrapeAddress::Unix(path)) = &metrics {
            sockets.push(path);
        }
        if sockets.contains(&&socket) || sockets[1..].contains(&&generations_socket) {
            let same = if sockets.contains(&&socket) { socket } else { generations_socket };
            return Err(ConfigError::SameSocket(same));
        }
        let defaults = Limits::default();
        let limits = Limits {
            start: time("start_timeout", settings.start_timeout, defaults.start)?,
            stop: time("stop_timeout", settings.stop_timeout, defaults.stop)?,
            heartbeat: time("heartbeat", settings.heartbeat, defaults.heartbeat)?,
            hung: time("hung_after", settings.hung_after, defaults.hung)?,
        };
        if limits.hung <= limits.heartbeat {
            return Err(ConfigError::HungBeforeAsked(limits.heartbeat));
        }
        let log = settings.log.unwrap_or_else(|| "info".into());
        Ok(Self {
            root: absolute("root", settings.root, || "/var/lib/theca".into())?,
            group: settings.group.map(group).transpose()?,
            log: filter(&log).ok_or(ConfigError::Log(log))?,
            state,
            socket,
            generations_socket,
            metrics,
            limits,
        })
    }
}

fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text =
        fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|source| ConfigError::Malformed { path: path.to_owned(), source: Box::new(source) })
}

fn absolute(
    setting: &'static str,
    given: Option<PathBuf>,
    default: impl FnOnce() -> PathBuf,
) -> Result<PathBuf, ConfigError> {
    // An empty variable of the environment is as good as none.
    match given.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) if path.is_relative() => Err(ConfigError::Relative { setting, path }),
        Some(path) => Ok(path),
        None => Ok(default()),
    }
}

fn time(setting: &'static str, given: Option<u64>, default: Duration) -> Result<Duration, ConfigError> {
    match given {
        None => Ok(default),
        Some(seconds @ 1..=LONGEST) => Ok(Duration::from_secs(seconds)),
        Some(seconds) => Err(ConfigError::Time { setting, seconds }),
    }
}

/// A bare word is meant as a level, though a target may be written so too.
fn filter(text: &str) -> Option<Targets> {
    let usable = |word: &str| word.contains('=') || word.trim().parse::<LevelFilter>().is_ok();
    if text.split(',').all(usable) { text.parse().ok() } else { None }
}

fn scrape_address(text: &str) -> Result<ScrapeAddress, ConfigError> {
    let wrong = || ConfigError::Metrics(text.to_owned());
    if let Some(path) = text.strip_prefix("unix:") {
        let path = PathBuf::from(path);
        return if path.is_absolute() { Ok(ScrapeAddress::Unix(path)) } else { Err(wrong()) };
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(ScrapeAddress::Loopback(address)),
        _ => Err(wrong()),
    }
}

fn group(name: String) -> Result<Gid, ConfigError> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let groups =
        fs::read_to_string(GROUPS).map_err(|source| ConfigError::Read { path: GROUPS.into(), source })?;
    find_group(&groups, &name).ok_or(ConfigError::UnknownGroup(name))
}

/// group(5): `name:password:number:members`.
fn find_group(groups: &str, name: &str) -> Option<Gid> {
    let mut lines = groups.lines().map(|line| line.split(':'));
    let mut line = lines.find(|line| line.clone().next() == Some(name))?;
    line.nth(2)?.parse().ok().map(Gid::from_raw)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn config(flags: &str, file: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thecad.toml");
        fs::write(&path, file).unwrap();
        let line = ["thecad", "--config", path.to_str().unwrap()];
        let args = <Args as clap::Parser>::try_parse_from(line.into_iter().chain(flags.split_whitespace()));
        Config::read(args.unwrap()).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{error}: {cause}")
        })
    }

    #[test]
    fn flags_agree_with_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_nobody_sets_has_a_default_below_the_state_folder() {
        let config = config("--state /tmp/state", "").unwrap();
        assert_eq!(config.socket, Path::new("/tmp/state/thecad.sock"));
        assert_eq!(config.generations_socket, Path::new("/tmp/state/thecad-2022.sock"));
        assert_eq!((config.group, config.metrics), (None, None));
        assert_eq!(config.limits.stop, Duration::from_secs(10));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = "metrics = '127.0.0.1:9464' # for Prometheus\ngroup = '27'\nstop_timeout = 3\n";
        let config = config("--metrics unix:/run/metrics.sock --hung-after 20", file).unwrap();
        assert_eq!(config.metrics, Some(ScrapeAddress::Unix("/run/metrics.sock".into())));
        assert_eq!(config.group, Some(Gid::from_raw(27)));
        assert_eq!(config.limits.stop, Duration::from_secs(3));
        assert_eq!(config.limits.hung, Duration::from_secs(20));
    }

    #[test]
    fn what_is_not_usable_is_named_with_what_would_be() {
        for (flags, file, expected) in [
            ("", "colour = 'red'", "unknown field `colour`"),
            ("", "group = 'no-such-group'", "groupadd --system no-such-group"),
            ("--socket thecad.sock", "", "socket is thecad.sock: use an absolute path"),
            ("--metrics 0.0.0.0:9464", "", "use a loopback address"),
            ("--metrics unix:relative", "", "use a loopback address"),
            ("--socket /s --generations-socket /s", "", "/s is to be two sockets"),
            ("--socket /s --metrics unix:/s", "", "/s is to be two sockets"),
            ("--generations-socket /s --metrics unix:/s", "", "/s is to be two sockets"),
            ("--stop-timeout 0", "", "stop_timeout = 0 is not usable"),
            ("--heartbeat 60", "", "hung_after must be longer than heartbeat (60s)"),
            ("--log loud", "", "log = \"loud\" is not usable"),
            ("--log info,theca_api=loud", "", "theca_api=loud"),
        ] {
            let error = config(flags, file).unwrap_err();
            assert!(error.contains(expected), "{flags} {file}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let args = Args { config: Some("/nonexistent/thecad.toml".into()), settings: Settings::default() };
        assert!(matches!(Config::read(args), Err(ConfigError::Read { .. })));
    }

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let groups = "root:x:0:\ntheca-admin:x:7:\ntheca:x:998:one,two\nbroken\n";
        assert_eq!(find_group(groups, "theca"), Some(Gid::from_raw(998)));
        assert_eq!(find_group(groups, "one"), None);
        assert_eq!(find_group(groups, "broken"), None);
    }
}
