//! `theca version`.

use serde_json::json;

use crate::host::kernel;
use crate::keeper::{keeper_program, kernel_and_initrd};
use crate::output::{self, Table, listing::Format};

/// Flags of `version`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// table, json or a template
    #[arg(short, long, default_value = "table")]
    format: String,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let part = |found: Result<std::path::PathBuf, _>| match found {
        Ok(path) => path.display().to_string(),
        Err::<_, crate::keeper::ProgramError>(_) => "missing".to_owned(),
    };
    let guest = kernel_and_initrd();
    let kernel = guest.as_ref().map_or_else(|_| "missing".into(), |(kernel, _)| kernel.display().to_string());
    let initrd = guest.as_ref().map_or_else(|_| "missing".into(), |(_, initrd)| initrd.display().to_string());
    let release = guest.as_ref().ok().and_then(|(kernel, _)| kernel::release(kernel).ok().flatten());
    let release = release.unwrap_or_else(|| "unknown".into());
    let (version, keeper) = (env!("CARGO_PKG_VERSION"), part(keeper_program()));
    let arch = std::env::consts::ARCH;
    let value = json!({"Version": version, "Arch": arch, "Keeper": keeper, "Kernel": kernel,
        "KernelRelease": release, "Initrd": initrd});
    match args.format.parse::<Format>()? {
        Format::Table => {
            let mut table = Table::new(&["theca", version]);
            table.row(["arch".into(), arch.into()]);
            table.row(["keeper".into(), keeper]);
            table.row(["kernel".into(), kernel]);
            table.row(["kernel release".into(), release]);
            table.row(["initrd".into(), initrd]);
            table.lines().iter().try_for_each(|line| output::line(line))?;
        }
        Format::Json => output::line(&value.to_string())?,
        format => output::listing::print(&format, &[value], || Table::new(&[]))?,
    }
    Ok(0)
}
