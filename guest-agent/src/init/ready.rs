//! Telling the host that the guest is ready.

use std::io;

use prost::Message;
use theca_proto::ports;
use theca_proto::theca::agent::v1::Ready;
use tokio::io::AsyncWriteExt;
use tokio_vsock::{VMADDR_CID_HOST, VsockAddr, VsockStream};

use super::phases::Phases;
use crate::server::kernel;

/// Dials the host and says so. The connection is to be kept.
pub async fn announce(mut phases: Phases) -> io::Result<VsockStream> {
    let mut host = VsockStream::connect(VsockAddr::new(VMADDR_CID_HOST, ports::READY)).await?;
    phases.reached("ready");
    let ready = Ready {
        agent_version: kernel::VERSION.to_owned(),
        kernel_release: kernel::release(),
        phases: phases.into_wire(),
    };
    host.write_all(&ready.encode_length_delimited_to_vec()).await?;
    Ok(host)
}
