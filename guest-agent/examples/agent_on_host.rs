//! The agent's services on this machine instead of in a guest: `agent_on_host FOLDER CGROUP`.
//!
//! For tests, which run it as root. Sockets are `FOLDER/agent.sock` and `FOLDER/streams.sock`; disks are looked for in
//! `FOLDER/dev` and `FOLDER/block`; containers get cgroups below CGROUP. It has mounts of its own, which end with it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use theca_agent::cgroup::Tree;
use theca_agent::config::Config;
use theca_agent::container::Sandbox;
use theca_agent::reaper::Reaper;
use theca_agent::server::{self, streams::Streams};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    theca_agent::setup::run_if_asked();
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(folder), Some(cgroups)) = (args.next(), args.next()) else {
        return Err("usage: agent_on_host FOLDER CGROUP".into());
    };
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)?;
    // What containers leave behind comes to this process, as it comes to pid 1 in a guest.
    nix::sys::prctl::set_child_subreaper(true)?;
    let config = Config {
        program: CString::new(std::env::current_exe()?.as_os_str().as_bytes())?,
        run: folder.join("run"),
        cgroups: cgroups.clone(),
        dev: folder.join("dev"),
        sys_block: folder.join("block"),
    };
    let tree = Tree::set_up(&cgroups)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let reaper = Reaper::default();
        tokio::spawn(reaper.clone().run());
        let streams = Streams::default();
        let raw = UnixListener::bind(folder.join("streams.sock"))?;
        tokio::spawn(server::serve_streams(streams.clone(), UnixListenerStream::new(raw)));
        let sandbox = Arc::new(Sandbox::new(config, reaper, streams, tree));
        let calls = UnixListener::bind(folder.join("agent.sock"))?;
        server::serve(sandbox, UnixListenerStream::new(calls), Duration::from_millis(100)).await?;
        Ok(())
    })
}
