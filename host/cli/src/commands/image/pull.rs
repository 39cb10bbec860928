//! `theca image pull`, and the pull that `run` does for an image that is missing.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::{Context, bail};
use theca_image::registry::{Credentials, PullOptions};
use theca_image::{Image, Reference, Store};

use super::work::watched;
use crate::container::Roots;
use crate::output;

/// Flags of `image pull`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only the id, no progress
    #[arg(short, long)]
    quiet: bool,
    /// User and password at the registry
    #[arg(long, value_name = "USER:PASSWORD", env = "THECA_REGISTRY_CREDS", hide_env_values = true)]
    creds: Option<String>,
    /// User at the registry; the password is read with --password-stdin
    #[arg(short, long, requires = "password_stdin", conflicts_with = "creds")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Credentials in the form of docker's config.json [default: ~/.docker/config.json, if it is there]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// false takes any certificate, or none [default: false for registries on this machine's loopback]
    #[arg(long, value_name = "BOOL")]
    tls_verify: Option<bool>,
    /// Certificates (PEM) to trust besides the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The image's name
    name: Reference,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let mut options = default_options();
    options.credentials = credentials(&args)?;
    options.auth_file = args.authfile.or(options.auth_file);
    options.tls_verify = args.tls_verify;
    options.ca_file = args.ca_file;
    let quiet = args.quiet;
    let roots = Roots::from_env();
    let image = fetch_quietly(&roots, args.name.clone(), options, quiet).await?;
    if !quiet {
        output::warn(&format!("pulled {}", args.name.familiar()));
    }
    output::line(&image.id.to_string())?;
    Ok(0)
}

/// What holds when no flag says otherwise.
pub fn default_options() -> PullOptions {
    let config = env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = config.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".docker")));
    let auth_file = folder.map(|folder| folder.join("config.json")).filter(|path| path.is_file());
    PullOptions { auth_file, ..PullOptions::default() }
}

/// Fetches an image, with progress on standard error.
pub async fn fetch(roots: &Roots, name: Reference, options: PullOptions) -> anyhow::Result<Image> {
    fetch_quietly(roots, name, options, false).await
}

async fn fetch_quietly(
    roots: &Roots,
    name: Reference,
    options: PullOptions,
    quiet: bool,
) -> anyhow::Result<Image> {
    let data = roots.data().to_owned();
    watched(quiet, move |progress| {
        // Unpacking keeps its thread busy, so this thread gets a runtime of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let store = Store::open(&data)?;
        let pull = store.pull(&name, &options, progress);
        runtime.block_on(pull).with_context(|| format!("failed to pull {}", name.familiar()))
    })
    .await
}

fn credentials(args: &Args) -> anyhow::Result<Option<Credentials>> {
    if let Some(user) = &args.username {
        let mut password = String::new();
        io::stdin()
            .read_to_string(&mut password)
            .context("failed to read the password from standard input")?;
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        return Ok(Some(Credentials { user: user.clone(), password }));
    }
    let Some(text) = &args.creds else { return Ok(None) };
    // A file keeps a secret out of the list of processes.
    let text = match text.strip_prefix('@') {
        Some(path) => {
            fs::read_to_string(path).with_context(|| format!("failed to read credentials from {path}"))?
        }
        None => text.clone(),
    };
    match text.trim_end().split_once(':') {
        Some((user, password)) => {
            Ok(Some(Credentials { user: user.to_owned(), password: password.to_owned() }))
        }
        None => bail!("--creds has no password; write USER:PASSWORD, or @FILE with that in it"),
    }
}
