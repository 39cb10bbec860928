//! Reads messages that another implementation wrote and writes them back: `tests/python/offline/test_wire.py` compares.
//!
//! A line on standard input is `ENDPOINT MESSAGE HEX`, where the endpoint is `today` or `generations`, the message a full
//! name and the rest its encoding. The answer is a line: the encoding of what was decoded, or `!` and why there is none.
//! What our types do not know, or know by another number or type, does not come back.

use std::io::{BufRead, Write};

use prost::Message;
use theca_proto::containerd::services::{
    containers::v1 as containers, sandbox::v1 as sandbox, tasks::v1 as tasks,
};
use theca_proto::containerd::v1::{self as execution, services::shim, types as task_types};
use theca_proto::generations::containerd::services::{
    containers::v1 as older_containers, sandbox::v1 as older_sandbox,
};
use theca_proto::io::containerd::cgroups::v2 as cgroups;
use theca_proto::{runtime::v1 as cri, theca::options::v1 as options, types as api};

type Again = fn(&[u8]) -> Result<Vec<u8>, prost::DecodeError>;

fn again<M: Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
    M::decode(bytes).map(|message| message.encode_to_vec())
}

/// A table of messages by full name.
macro_rules! messages {
    ($($package:literal = $module:ident: $($message:ident)*;)*) => {
        &[$($((concat!($package, ".", stringify!($message)), again::<$module::$message> as Again),)*)*]
    };
}

const SHARED: &[(&str, Again)] = messages! {
    "types" = api:
        AddProcessRequest AddProcessResponse CreateCheckpointRequest CreateCheckpointResponse CreateContainerRequest
        CreateContainerResponse DeleteCheckpointRequest DeleteCheckpointResponse Event EventsRequest
        ListCheckpointRequest ListCheckpointResponse SignalRequest SignalResponse StateRequest StateResponse Stats
        StatsRequest UpdateContainerRequest UpdateContainerResponse;
    "containerd.v1" = execution:
        CreateContainerRequest CreateContainerResponse DeleteContainerRequest DeleteProcessRequest GetContainerRequest
        GetContainerResponse GetProcessRequest GetProcessResponse ListContainersRequest ListContainersResponse
        ListProcessesRequest ListProcessesResponse PauseContainerRequest ResumeContainerRequest SignalProcessRequest
        StartContainerRequest StartProcessRequest StartProcessResponse UpdateContainerRequest;
    "containerd.v1.types" = task_types: Event;
    "containerd.v1.services.shim" = shim:
        CheckpointRequest CloseStdinRequest CreateRequest CreateResponse DeleteRequest DeleteResponse EventsRequest
        ExecRequest ExecResponse ExitRequest KillRequest PauseRequest ProcessesRequest ProcessesResponse PtyRequest
        ResumeRequest StartRequest StateRequest StateResponse;
    "containerd.services.tasks.v1" = tasks:
        CheckpointTaskRequest CheckpointTaskResponse CreateTaskRequest CreateTaskResponse DeleteProcessRequest
        DeleteResponse DeleteTaskRequest ExecProcessRequest ExecProcessResponse GetTaskRequest GetTaskResponse
        KillRequest ListProcessesRequest ListProcessesResponse ListTasksRequest ListTasksResponse PauseTaskRequest
        ResizePtyRequest ResumeTaskRequest StartTaskRequest;
    "io.containerd.cgroups.v2" = cgroups: Metrics;
    "runtime.v1" = cri: PodSandboxConfig;
    "theca.options.v1" = options: SandboxOptions;
};

/// The one whose Rust name is not its published one.
const RENAMED: &[(&str, Again)] =
    &[("containerd.services.tasks.v1.CloseIORequest", again::<tasks::CloseIoRequest>)];

const TODAY: &[(&str, Again)] = messages! {
    "containerd.services.containers.v1" = containers:
        CreateContainerRequest CreateContainerResponse DeleteContainerRequest GetContainerRequest GetContainerResponse
        ListContainerMessage ListContainersRequest ListContainersResponse UpdateContainerRequest UpdateContainerResponse;
    "containerd.services.sandbox.v1" = sandbox:
        ControllerCreateRequest ControllerCreateResponse ControllerMetricsRequest ControllerMetricsResponse
        ControllerPlatformRequest ControllerPlatformResponse ControllerShutdownRequest ControllerShutdownResponse
        ControllerStartRequest ControllerStartResponse ControllerStatusRequest ControllerStatusResponse
        ControllerStopRequest ControllerStopResponse ControllerUpdateRequest ControllerUpdateResponse
        ControllerWaitRequest ControllerWaitResponse StoreCreateRequest StoreCreateResponse StoreDeleteRequest
        StoreDeleteResponse StoreGetRequest StoreGetResponse StoreListRequest StoreListResponse StoreUpdateRequest
        StoreUpdateResponse;
};

const GENERATIONS: &[(&str, Again)] = messages! {
    "containerd.services.containers.v1" = older_containers:
        CreateContainerRequest CreateContainerResponse DeleteContainerRequest GetContainerRequest GetContainerResponse
        ListContainersRequest ListContainersResponse UpdateContainerRequest UpdateContainerResponse;
    "containerd.services.sandbox.v1" = older_sandbox:
        ControllerPauseRequest ControllerPauseResponse ControllerPingRequest ControllerPingResponse
        ControllerResumeRequest ControllerResumeResponse ControllerShutdownRequest ControllerShutdownResponse
        ControllerStartRequest ControllerStartResponse ControllerStatusRequest ControllerStatusResponse
        ControllerWaitRequest ControllerWaitResponse StoreCreateRequest StoreCreateResponse StoreDeleteRequest
        StoreDeleteResponse StoreGetRequest StoreGetResponse StoreListRequest StoreListResponse StoreUpdateRequest
        StoreUpdateResponse;
};

fn main() -> std::io::Result<()> {
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        match answer(&line?) {
            Ok(bytes) => writeln!(answers, "{}", hex(&bytes))?,
            Err(reason) => writeln!(answers, "!{reason}")?,
        }
        answers.flush()?;
    }
    Ok(())
}

fn answer(line: &str) -> Result<Vec<u8>, String> {
    let [endpoint, name, encoded] = line.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("{line:?} is not ENDPOINT MESSAGE HEX"));
    };
    let own = match endpoint {
        "today" => TODAY,
        "generations" => GENERATIONS,
        _ => return Err(format!("no endpoint is called {endpoint}")),
    };
    let mut known = SHARED.iter().chain(RENAMED).chain(own);
    let (_, again) = known.find(|(known, _)| *known == name).ok_or(format!("{name} is unknown"))?;
    again(&unhex(encoded)?).map_err(|error| error.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).map_err(|error| error.to_string())?;
            u8::from_str_radix(pair, 16).map_err(|error| format!("{pair:?}: {error}"))
        })
        .collect()
}
