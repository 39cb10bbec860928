//! A guest's end that somebody wants sooner than it was asked for, while it lasts.

mod support;

use std::time::{Duration, Instant};

use support::{Client, Container, Guest};
use theca_proto::containerd::services::tasks::v1::kill_request::PidOrAll;
use theca_proto::containerd::services::tasks::v1::*;
use theca_proto::theca::agent::v1::*;
use tokio::task::JoinHandle;
use tonic::Code;

/// Far beyond what these tests take.
const PATIENT: u32 = 600_000;

/// A container that does not listen to SIGTERM, in a guest that has begun to shut down.
async fn deaf(guest: &Guest) -> (Client, JoinHandle<()>) {
    let mut client = guest.client().await;
    let deaf = Container::sh("trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done");
    let (_, mut io) = client.create("c", &deaf).await.unwrap();
    client.start("c").await.unwrap();
    io.expect("ready").await;
    let mut agent = client.agent.clone();
    let shutdown =
        tokio::spawn(async move { drop(agent.shutdown(ShutdownRequest { timeout_ms: PATIENT }).await) });
    io.expect("asked").await;
    // Its output is read on, or it would stop at it.
    tokio::spawn(async move { tokio::io::copy(&mut io.stdout, &mut tokio::io::sink()).await });
    (client, shutdown)
}

#[tokio::test]
async fn a_shutdown_is_cut_short_by_a_kill() {
    let guest = Guest::start();
    let (mut client, shutdown) = deaf(&guest).await;
    let asked = Instant::now();
    let late = client.create_silent("d", &Container::sh("true")).await.unwrap_err();
    assert_eq!(late.code(), Code::Unavailable, "nothing begins any more: {late}");
    client.tasks.get(GetTaskRequest { container_id: "c".into() }).await.unwrap();
    client.kill("c", libc::SIGKILL, PidOrAll::All(true)).await.unwrap();
    shutdown.await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert_eq!(guest.cgroups(), [""; 0]);
}

#[tokio::test]
async fn a_shutdown_is_cut_short_by_one_with_less_patience() {
    let guest = Guest::start();
    let (mut client, shutdown) = deaf(&guest).await;
    let asked = Instant::now();
    client.agent.shutdown(ShutdownRequest { timeout_ms: 100 }).await.unwrap();
    shutdown.await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert_eq!(guest.cgroups(), [""; 0]);
}
