//! Ends that take their time: of a guest, while somebody wants it sooner; of a process, while its output is on its way.

mod support;

use std::time::{Duration, Instant};

use support::{Client, Container, Guest};
use theca_proto::containerd::services::tasks::v1::kill_request::PidOrAll;
use theca_proto::containerd::services::tasks::v1::*;
use theca_proto::theca::agent::v1::*;
use tokio::io::AsyncReadExt;
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
    assert_eq!(late.code(), Code::FailedPrecondition, "nothing begins any more: {late}");
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

#[tokio::test]
async fn what_a_process_wrote_is_known_to_be_with_the_host_though_others_hold_its_output() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    client.create_silent("c", &Container::sh("sleep 1000; exit")).await.unwrap();
    client.start("c").await.unwrap();
    // More than pipe and connection hold, while nobody reads. The sleep goes on with the same output.
    let line = "sleep 1000 & head -c 4000000 /dev/zero & wait $!; exit 3";
    let (pid, mut io) = client.exec("c", "e", Client::shell(line), false).await.unwrap();
    let mut agent = client.agent.clone();
    let wait = WaitRequest { container_id: "c".into(), pid, output: true };
    let written = tokio::spawn(async move { agent.wait(wait).await.unwrap().into_inner().exit_status });
    let mut read = 0;
    let mut buffer = vec![0; 1 << 16];
    while read < 4_000_000 {
        // The last of it may lie in the connection.
        assert!(read > 3_000_000 || !written.is_finished(), "{read} bytes were read");
        read += tokio::time::timeout(Duration::from_secs(20), io.stdout.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), written).await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn kill_does_not_wait_for_an_exec_that_the_container_holds_up() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    // Stops whatever comes into it, but for itself and its sleep.
    let jailer = "echo ready; while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p -le 2 ] || kill -STOP $p; done; done";
    let (_, mut io) = client.create("c", &Container::sh(&format!("sleep 1000 & {jailer}"))).await.unwrap();
    client.start("c").await.unwrap();
    io.expect("ready").await;
    // One of them is seen before it has become its program.
    let mut turns = 0..500;
    let mut held = loop {
        let turn = turns.next().expect("none is seen");
        let mut client = client.clone();
        let mut exec = tokio::spawn(async move {
            client.exec("c", &format!("e{turn}"), Client::shell("exec sleep 1000"), false).await.map(drop)
        });
        match tokio::time::timeout(Duration::from_secs(3), &mut exec).await {
            Ok(started) => started.unwrap().unwrap(),
            Err(_) => break exec,
        }
    };
    let get = client.tasks.get(GetTaskRequest { container_id: "c".into() });
    tokio::time::timeout(Duration::from_secs(5), get).await.expect("it waits for the exec").unwrap();
    let kill = client.kill("c", libc::SIGKILL, PidOrAll::All(true));
    tokio::time::timeout(Duration::from_secs(5), kill).await.expect("it waits for the exec").unwrap();
    assert_eq!(client.wait("c", 0).await, 137);
    let held = tokio::time::timeout(Duration::from_secs(20), &mut held).await.unwrap();
    let error = held.unwrap().unwrap_err();
    assert!(matches!(error.code(), Code::FailedPrecondition | Code::NotFound), "{error}");
    client.delete("c").await.unwrap();
    assert_eq!((guest.cgroups(), guest.mounts()), (vec![], vec![]));
}
