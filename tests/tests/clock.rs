//! The guest's wall clock, when a VM has stood still.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use theca_proto::generations::containerd::services::sandbox::v1::controller_client::ControllerClient;
use theca_proto::generations::containerd::services::sandbox::v1::{
    ControllerPauseRequest, ControllerResumeRequest,
};
use theca_tests::client::{open, origin};
use theca_tests::{Bundle, Theca, Thecad, eventually};
use tokio::runtime;

/// Steps the clock that all containers of the guest have, to the year 2001, and tells it again and again.
const STEP: &str = "date -s @1000000000 > /dev/null; while sleep 0.2; do date +%s; done";

/// Between two readings of the clocks, on a machine in software too.
const SLACK: u64 = 2;

#[test]
fn a_clock_that_is_wrong_in_the_guest_is_right_once_it_goes_on() {
    let theca = Theca::empty();
    let thecad = Thecad::start(&theca);
    let client = thecad.client();
    client.create_sandbox("pod", 64).unwrap();
    client.start_sandbox("pod").unwrap();
    let mut bundle = Bundle::new(&["sh", "-c", STEP]);
    for set in ["bounding", "effective", "permitted"] {
        let set = bundle.config["process"]["capabilities"][set].as_array_mut().unwrap();
        set.push(json!("CAP_SYS_TIME"));
    }
    let output = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    client.keep("c", "pod", &bundle.config).unwrap();
    client.create_to("c", None, output.path()).unwrap();
    client.start("c").unwrap();
    let told = || {
        let text = std::fs::read_to_string(output.path()).unwrap();
        text.lines().last().and_then(|line| line.parse::<u64>().ok())
    };
    eventually("the guest to be in 2001", || told().is_some_and(|now| now < 1_100_000_000));

    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let named = open(&theca.state().join("thecad-2022.sock")).await.unwrap();
        let mut controller = ControllerClient::with_origin(named, origin());
        controller.pause(ControllerPauseRequest { sandbox_id: "pod".into() }).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        controller.resume(ControllerResumeRequest { sandbox_id: "pod".into() }).await.unwrap();
    });
    eventually("the guest's clock to be the host's", || {
        let host = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        told().is_some_and(|guest| guest.abs_diff(host) <= SLACK)
    });
    client.shutdown_sandbox("pod").unwrap();
    drop(client);
    thecad.stop();
}
