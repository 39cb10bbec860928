//! `theca sandbox create`: a record in thecad's store, and the sandbox itself.

use prost::Message;
use prost_types::Any;
use theca_proto::containerd::types::{Sandbox, sandbox::Runtime};
use theca_proto::theca::options::v1::SandboxOptions;
use theca_proto::type_url;

use crate::container::ContainerId;
use crate::daemon::Daemon;
use crate::output::{self, size};
use crate::plan::pairs;
use crate::spec::limits::MOST_CPUS;

/// The runtime's name, as containerd has it.
pub const RUNTIME: &str = "io.containerd.theca.v2";

/// Flags of `sandbox create`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Id of the sandbox; one is made up otherwise
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Processors of the VM
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_CPUS)))]
    cpus: u32,
    /// Memory of the VM, for all of the sandbox's containers and the guest's kernel
    #[arg(short, long, value_name = "SIZE", default_value = "256m")]
    memory: String,
    /// Attach a label
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Words to add to the guest kernel's command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    kernel_cmdline: String,
}

/// Runs the command: prints the id.
pub async fn run(args: Args, daemon: &Daemon) -> anyhow::Result<u8> {
    let record = record(args)?;
    daemon.keep_record(record.clone()).await?;
    if let Err(error) = daemon.create(record.clone()).await {
        // The first failure is the one to tell.
        let _ = daemon.forget_record(&record.sandbox_id).await;
        return Err(error.into());
    }
    output::line(&record.sandbox_id)?;
    Ok(0)
}

fn record(args: Args) -> anyhow::Result<Sandbox> {
    let sandbox_id = match args.id {
        Some(id) => id,
        None => ContainerId::random()?.short().to_owned(),
    };
    let options = SandboxOptions {
        vcpus: args.cpus,
        memory_bytes: size::parse(&args.memory)?,
        kernel_args: args.kernel_cmdline.split_whitespace().map(str::to_owned).collect(),
    };
    let options = Any { type_url: type_url::CLIENT_SANDBOX_OPTIONS.into(), value: options.encode_to_vec() };
    Ok(Sandbox {
        sandbox_id,
        runtime: Some(Runtime { name: RUNTIME.into(), options: Some(options) }),
        labels: pairs(&args.label, "--label", false)?.into_iter().collect(),
        ..Sandbox::default()
    })
}

/// The size that a sandbox of [`create`](self) was given.
pub fn options(record: &Sandbox) -> Option<SandboxOptions> {
    let options = record.runtime.as_ref()?.options.as_ref()?;
    let ours = options.type_url.ends_with(type_url::CLIENT_SANDBOX_OPTIONS);
    ours.then(|| SandboxOptions::decode(options.value.as_slice()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            id: Some("pod".into()),
            cpus: 2,
            memory: "512m".into(),
            label: vec!["team=a".into()],
            kernel_cmdline: "quiet debug".into(),
        }
    }

    #[test]
    fn a_record_has_what_the_sandbox_is_made_of() {
        let record = record(args()).unwrap();
        assert_eq!((record.sandbox_id.as_str(), record.labels["team"].as_str()), ("pod", "a"));
        let options = options(&record).unwrap();
        assert_eq!((options.vcpus, options.memory_bytes), (2, 512 << 20));
        assert_eq!(options.kernel_args, ["quiet", "debug"]);
    }

    #[test]
    fn an_id_is_made_up_where_none_is_given() {
        let record = record(Args { id: None, ..args() }).unwrap();
        assert_eq!(record.sandbox_id.len(), 12);
    }
}
