//! `theca inspect`: all that is known of containers, in docker's shape where it has one.

use anyhow::Context;
use oci_spec::runtime::{Process, Spec};
use serde_json::{Value, json};

use super::{ps, running};
use crate::container::settle::Settled;
use crate::container::{Phase, Roots, Shelf, Source};
use crate::error::FAILED;
use crate::keeper::Keeper;
use crate::output::{self, Template, time};
use crate::spec::limits::CPU_PERIOD_US;

/// Billionths in one.
const NANOS: u64 = 1_000_000_000;

/// Flags of `inspect`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// json, or a template such as '{{.State.Status}}'
    #[arg(short, long, default_value = "json")]
    format: String,
    /// The containers' names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let (mut all, mut code) = (Vec::new(), 0);
    for name in &args.containers {
        let described = match running::look_up(&shelf, name).await {
            Ok(settled) => describe(&shelf, &settled).await,
            Err(error) => Err(error),
        };
        match described {
            Ok(value) => all.push(value),
            Err(error) => {
                output::warn(&format!("{error:#}"));
                code = FAILED;
            }
        }
    }
    if args.format == "json" {
        output::line(&serde_json::to_string_pretty(&all)?)?;
        return Ok(code);
    }
    let template = Template::parse(&args.format)?;
    for value in &all {
        output::line(&template.render(value)?)?;
    }
    Ok(code)
}

async fn describe(shelf: &Shelf, settled: &Settled) -> anyhow::Result<Value> {
    let record = &settled.record;
    let folder = shelf.folder(&record.id);
    let spec = std::fs::read(folder.bundle().join("config.json")).ok();
    let spec: Spec = spec
        .map(|text| serde_json::from_slice(&text).context("the container's config.json is damaged"))
        .transpose()?
        .unwrap_or_default();
    let process = spec.process().clone().unwrap_or_default();
    let pid = match &settled.live {
        Some((keeper, _)) => keeper.state().await?.pid,
        None => 0,
    };
    let sandbox = match &settled.live {
        Some((keeper, _)) => sandbox(keeper).await?,
        None => Value::Null,
    };
    let oom_killed = match (&settled.live, &record.phase) {
        (Some((keeper, _)), _) => keeper.oom_killed().await,
        (None, Phase::Exited(exit)) => exit.oom_killed,
        (None, _) => false,
    };
    let settings = &record.settings;
    Ok(json!({
        "Id": record.id.as_str(),
        "Name": record.name.as_str(),
        "Created": time::rfc3339(record.created_ms),
        "Path": record.command.first(),
        "Args": record.command.get(1..),
        "State": state(settled, pid, oom_killed),
        "Image": match &record.source {
            Source::Image { id, .. } => id.clone(),
            other => other.shown(),
        },
        "ImageName": record.source.shown(),
        "Config": config(settled, &spec, &process),
        "HostConfig": {
            "AutoRemove": settings.auto_remove,
            "NetworkMode": "none",
            "ReadonlyRootfs": spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false),
            "Memory": settings.memory_mib << 20,
            "NanoCpus": nano_cpus(settings.vcpus, &spec),
            "LogConfig": {"Type": "cri", "Path": folder.log()},
        },
        "LogPath": folder.log(),
        "BundlePath": folder.bundle(),
        "Sandbox": sandbox,
    }))
}

/// Processor time that the container may have, in billionths of a processor: all of its VM's, or the quota of them.
fn nano_cpus(vcpus: u32, spec: &Spec) -> u64 {
    let all = u64::from(vcpus) * NANOS;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let Some(cpu) = resources.and_then(|resources| resources.cpu().as_ref()) else { return all };
    // No quota is -1 or left out, as in cgroups.
    let Some(quota) = cpu.quota().and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0)
    else {
        return all;
    };
    let period = cpu.period().filter(|period| *period > 0).unwrap_or(CPU_PERIOD_US);
    let nanos = u128::from(quota) * u128::from(NANOS) / u128::from(period);
    u64::try_from(nanos).unwrap_or(u64::MAX).min(all)
}

fn state(settled: &Settled, pid: u32, oom_killed: bool) -> Value {
    let record = &settled.record;
    let state = ps::state(settled);
    let (exit_code, finished, error) = match &record.phase {
        Phase::Exited(exit) => (exit.status, Some(exit.finished_ms), exit.error.clone()),
        _ => (0, None, None),
    };
    json!({
        "Status": state,
        "Running": matches!(state, "running" | "paused"),
        "Paused": state == "paused",
        "OOMKilled": oom_killed,
        "Pid": pid,
        "ExitCode": exit_code,
        "Error": error.unwrap_or_default(),
        "StartedAt": record.started_ms().map(time::rfc3339),
        "FinishedAt": finished.map(time::rfc3339),
    })
}

fn config(settled: &Settled, spec: &Spec, process: &Process) -> Value {
    let settings = &settled.record.settings;
    let user = process.user();
    json!({
        "Hostname": spec.hostname(),
        "User": user.username().clone().unwrap_or_else(|| format!("{}:{}", user.uid(), user.gid())),
        "Tty": settings.terminal,
        "OpenStdin": settings.open_stdin,
        "Env": process.env(),
        "Cmd": settled.record.command,
        "WorkingDir": process.cwd(),
        "Labels": settled.record.labels,
        "StopSignal": settings.stop_signal,
        "StopTimeout": settings.stop_timeout,
    })
}

/// The VM around a running container, as its keeper tells it.
async fn sandbox(keeper: &Keeper) -> anyhow::Result<Value> {
    let info = keeper.info().await?;
    let phases: Vec<Value> =
        info.phases.iter().map(|phase| json!({"name": phase.name, "at_us": phase.at_us})).collect();
    Ok(json!({
        "keeper_pid": info.keeper_pid,
        "vmm_pid": info.vmm_pid,
        "vcpus": info.vcpus,
        "memory_mib": info.memory_mib,
        "kernel_release": info.kernel_release,
        "agent_version": info.agent_version,
        "phases": phases,
        "guest_used_bytes": info.guest_used_bytes,
        "agent_resident_bytes": info.agent_resident_bytes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_the_quota_or_all_that_the_vm_has() {
        for (vcpus, cpu, expected) in [
            (2, json!({}), 2_000_000_000),
            (1, json!({"cpu": {"quota": 50_000, "period": 100_000}}), 500_000_000),
            (2, json!({"cpu": {"quota": 150_000}}), 1_500_000_000),
            (2, json!({"cpu": {"quota": -1, "period": 100_000}}), 2_000_000_000),
            (2, json!({"cpu": {"quota": 20_000, "period": 0}}), 200_000_000),
            (1, json!({"cpu": {"quota": i64::MAX, "period": 1}}), 1_000_000_000),
        ] {
            let spec = json!({"ociVersion": "1.2.0", "linux": {"resources": cpu}});
            let spec: Spec = serde_json::from_value(spec).unwrap();
            assert_eq!(nano_cpus(vcpus, &spec), expected, "{vcpus} {cpu}");
        }
    }
}
