//! What thecad serves: every generation at two endpoints. `theca_proto::generations` tells why two.
//!
//! The bounds of a message are set here, once for all services. A request that is too large is refused when its length is
//! read, before its bytes are.

use theca_controller::node::Node;
use theca_proto::containerd::services::containers::v1::containers_server::ContainersServer;
use theca_proto::containerd::services::sandbox::v1::{
    controller_server::ControllerServer, store_server::StoreServer,
};
use theca_proto::containerd::services::tasks::v1::tasks_server::TasksServer;
use theca_proto::containerd::v1::execution_service_server::ExecutionServiceServer;
use theca_proto::generations::containerd::services as older;
use theca_proto::types::api_server::ApiServer;
use tonic::service::Routes;
use tower::util::MapResponseLayer;

use crate::api2015::Api2015;
use crate::containers::ContainerStore;
use crate::containers_2017::ContainerStore2017;
use crate::execution::Execution;
use crate::sandbox_controller::SandboxController;
use crate::sandbox_controller_2022::SandboxController2022;
use crate::sandbox_store::SandboxStore;
use crate::tasks::TaskService;
use crate::too_large;

/// Largest message taken, in bytes: containerd's own bound.
pub const MAX_REQUEST: usize = 16 << 20;
/// Largest message answered, in bytes.
pub const MAX_ANSWER: usize = 16 << 20;

/// The main endpoint: what has several forms, in today's.
pub fn today(node: &Node) -> Routes {
    let store = StoreServer::new(SandboxStore::new(node)).max_decoding_message_size(MAX_REQUEST);
    let controller =
        ControllerServer::new(SandboxController::new(node)).max_decoding_message_size(MAX_REQUEST);
    let containers = ContainersServer::new(ContainerStore::new(node)).max_decoding_message_size(MAX_REQUEST);
    let routes = common(node)
        .add_service(store.max_encoding_message_size(MAX_ANSWER))
        .add_service(controller.max_encoding_message_size(MAX_ANSWER))
        .add_service(containers.max_encoding_message_size(MAX_ANSWER));
    in_our_words(routes)
}

/// The endpoint for older clients: sandboxes in the form of 2022, the container store in that of 2017.
pub fn generations(node: &Node) -> Routes {
    use older::containers::v1::containers_server::ContainersServer;
    use older::sandbox::v1::{controller_server::ControllerServer, store_server::StoreServer};

    let store = StoreServer::new(SandboxStore::new(node)).max_decoding_message_size(MAX_REQUEST);
    let controller =
        ControllerServer::new(SandboxController2022::new(node)).max_decoding_message_size(MAX_REQUEST);
    let containers =
        ContainersServer::new(ContainerStore2017::new(node)).max_decoding_message_size(MAX_REQUEST);
    let routes = common(node)
        .add_service(store.max_encoding_message_size(MAX_ANSWER))
        .add_service(controller.max_encoding_message_size(MAX_ANSWER))
        .add_service(containers.max_encoding_message_size(MAX_ANSWER));
    in_our_words(routes)
}

/// What has one form.
fn common(node: &Node) -> Routes {
    let api = ApiServer::new(Api2015::new(node)).max_decoding_message_size(MAX_REQUEST);
    let execution = ExecutionServiceServer::new(Execution::new(node)).max_decoding_message_size(MAX_REQUEST);
    let tasks = TasksServer::new(TaskService::new(node)).max_decoding_message_size(MAX_REQUEST);
    Routes::new(api.max_encoding_message_size(MAX_ANSWER))
        .add_service(execution.max_encoding_message_size(MAX_ANSWER))
        .add_service(tasks.max_encoding_message_size(MAX_ANSWER))
}

fn in_our_words(routes: Routes) -> Routes {
    let renamed = |response| too_large::renamed(response, MAX_REQUEST);
    Routes::from(routes.into_axum_router().layer(MapResponseLayer::new(renamed)))
}

#[cfg(test)]
#[path = "services_test.rs"]
mod tests;
