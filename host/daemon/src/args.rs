//! The command line. Every setting of the configuration file is a flag too, and a flag wins.

use std::path::PathBuf;

use clap::Parser;
use serde::Deserialize;

/// Serve sandboxes and containers, each sandbox in a microVM of its own, over five generations of containerd's API
#[derive(Debug, Default, Parser)]
#[command(name = "thecad", version)]
pub struct Args {
    /// Read settings from this file, in TOML [default: /etc/theca/thecad.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
}

/// Settings as they are given, by flags or by a file. What is left out has a default, in `config.rs`.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where records and images are kept [default: /var/lib/theca]
    #[arg(long, env = "THECA_ROOT", hide_env_values = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Where running sandboxes have their sockets and logs [default: /run/theca]
    #[arg(long, env = "THECA_STATE", hide_env_values = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The main socket [default: thecad.sock in the state folder]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The socket for clients of 2022 and before [default: thecad-2022.sock in the state folder]
    #[arg(long, value_name = "PATH")]
    pub generations_socket: Option<PathBuf>,
    /// Group, by name or number, whose members may connect; they are as powerful as root then [default: root alone may]
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Where Prometheus may scrape: a loopback address with a port, or `unix:` and a path [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<String>,
    /// What to log: error, warn, info, debug or trace, also by target, such as info,theca_api=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Seconds that a sandbox may take to start [default: 150]
    #[arg(long, value_name = "SECONDS")]
    pub start_timeout: Option<u64>,
    /// Seconds that a sandbox may take to stop before it is forced, when its client names none [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u64>,
    /// Seconds between two looks whether a guest still answers [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub heartbeat: Option<u64>,
    /// Seconds after which a guest that does not answer is taken for hung and ended [default: 45]
    #[arg(long, value_name = "SECONDS")]
    pub hung_after: Option<u64>,
}

impl Settings {
    /// These settings, and those of `other` where they say nothing.
    pub fn or(self, other: Self) -> Self {
        Self {
            root: self.root.or(other.root),
            state: self.state.or(other.state),
            socket: self.socket.or(other.socket),
            generations_socket: self.generations_socket.or(other.generations_socket),
            group: self.group.or(other.group),
            metrics: self.metrics.or(other.metrics),
            log: self.log.or(other.log),
            start_timeout: self.start_timeout.or(other.start_timeout),
            stop_timeout: self.stop_timeout.or(other.stop_timeout),
            heartbeat: self.heartbeat.or(other.heartbeat),
            hung_after: self.hung_after.or(other.hung_after),
        }
    }
}
