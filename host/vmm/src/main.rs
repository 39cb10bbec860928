//! The virtual machine monitor of one sandbox: `theca-vmm --control-fd N`.
//!
//! It is started by a keeper, which opens everything and passes it over the socket at descriptor N. Nothing here opens a
//! path.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use theca_vmm::control::Service;
use theca_vmm::{jail, sys};
use theca_vmm_protocol::Channel;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("theca-vmm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let started = Instant::now();
    sys::jail::share_one_heap();
    let control = control_socket()?;
    jail::enter(&control)?;
    let mut service = Service::new(Channel::from_socket(control), started)?;
    let served = service.run();
    // The VM ends with the process: the kernel takes it apart faster, and without a system call.
    std::mem::forget(service);
    Ok(served?)
}

/// The descriptor named on the command line.
fn control_socket() -> anyhow::Result<OwnedFd> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--version"] => {
            println!("theca-vmm {}", env!("CARGO_PKG_VERSION"));
            std::process::exit(0);
        }
        ["--control-fd", number] => {
            let number = number.parse().with_context(|| format!("{number} is no descriptor number"))?;
            sys::jail::inherit(number)
                .with_context(|| format!("descriptor {number} is not an open control socket"))
        }
        _ => bail!("usage: theca-vmm --control-fd N (started by containerd-shim-theca-v2, not by hand)"),
    }
}
