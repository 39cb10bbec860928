//! `theca sandbox run`: a container of an image in a sandbox that runs, left to itself. It shares network and IPC with the others
//! there, as in a pod. Its record goes with the sandbox.

use std::collections::HashMap;

use prost_types::Any;
use theca_proto::containerd::services::containers::v1::{Container, container::Runtime};
use theca_proto::containerd::v1::types::Mount;
use theca_proto::type_url;

use super::create::RUNTIME;
use crate::commands::image::find_or_pull;
use crate::container::{ContainerId, Roots};
use crate::daemon::Daemon;
use crate::output;
use crate::spec::{self, Namespaces, Wish, capabilities};

/// The label of records that this command keeps, and that `sandbox rm` therefore forgets.
pub const LABEL: &str = "io.theca.sandbox-run";
/// As `theca run` has when nothing is said.
const SHM_BYTES: u64 = 64 << 20;

/// Flags of `sandbox run`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The container's id [default: made up]
    #[arg(long, value_name = "ID")]
    name: Option<String>,
    /// See and signal the processes of the sandbox's other containers that do so too
    #[arg(long)]
    share_pid: bool,
    /// The sandbox, which has been started
    #[arg(value_name = "SANDBOX")]
    sandbox: String,
    /// The image, and the command to run instead of its own
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "IMAGE [COMMAND]"
    )]
    image_and_command: Vec<String>,
}

/// Runs the command: prints the container's id.
pub async fn run(args: Args, daemon: &Daemon) -> anyhow::Result<u8> {
    let Some((reference, command)) = args.image_and_command.split_first() else {
        anyhow::bail!("no image: name one behind the sandbox");
    };
    let id = match args.name {
        Some(name) => name,
        None => ContainerId::random()?.short().to_owned(),
    };
    let image = find_or_pull(&Roots::from_env(), reference, false).await?;
    let wish = Wish {
        command: command.to_vec(),
        namespaces: Namespaces::Pod { processes: args.share_pid },
        hostname: id.clone(),
        shm_bytes: SHM_BYTES,
        capabilities: capabilities::select(&[], &[])?,
        ..Wish::default()
    };
    let spec = spec::generate(&image.config().cloned().unwrap_or_default(), &wish)?;
    let container = Container {
        id: id.clone(),
        labels: HashMap::from([(LABEL.to_owned(), "true".to_owned())]),
        image: reference.clone(),
        runtime: Some(Runtime { name: RUNTIME.into(), options: None }),
        spec: Some(Any { type_url: type_url::OCI_SPEC.into(), value: serde_json::to_vec(&spec)? }),
        sandbox: args.sandbox,
        ..Container::default()
    };
    let disk = Mount {
        r#type: "erofs".into(),
        source: image.erofs.display().to_string(),
        target: String::new(),
        options: vec!["ro".into()],
    };
    daemon.run(container, disk).await?;
    output::line(&id)?;
    Ok(0)
}
