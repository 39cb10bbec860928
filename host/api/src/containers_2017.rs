//! `containerd.services.containers.v1.Containers` as it was in June 2017: the same records, with one filter to a List.

use theca_controller::node::Node;
use theca_controller::node::fields::FieldError;
use theca_controller::node::store::ContainerRecord;
use theca_proto::generations::containerd::services::containers::v1::containers_server::Containers;
use theca_proto::generations::containerd::services::containers::v1::{
    CreateContainerRequest, CreateContainerResponse, DeleteContainerRequest, GetContainerRequest,
    GetContainerResponse, ListContainersRequest, ListContainersResponse, UpdateContainerRequest,
    UpdateContainerResponse,
};
use tonic::Request;

use crate::call::{Answer, answer, fits, id, open};
use crate::convert::records;
use crate::status::node::refusal;

/// The service.
#[derive(Clone)]
pub struct ContainerStore2017 {
    node: Node,
}

impl ContainerStore2017 {
    /// In front of `node`.
    pub fn new(node: &Node) -> Self {
        Self { node: node.clone() }
    }
}

#[tonic::async_trait]
impl Containers for ContainerStore2017 {
    async fn get(&self, request: Request<GetContainerRequest>) -> Answer<GetContainerResponse> {
        let (namespace, request) = open(request)?;
        let kept = self.node.container_record(&namespace, &id(&request.id)?).map_err(refusal)?;
        answer(GetContainerResponse { container: Some(records::container_2017_wire(&kept)) })
    }

    async fn list(&self, request: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        let (namespace, request) = open(request)?;
        let kept = self.node.container_records(&namespace, &[request.filter]).map_err(refusal)?;
        let containers = fits(kept.iter().map(|kept| records::container_2017_wire(kept)))?;
        answer(ListContainersResponse { containers })
    }

    async fn create(&self, request: Request<CreateContainerRequest>) -> Answer<CreateContainerResponse> {
        let (namespace, request) = open(request)?;
        let record = records::container_2017(request.container).map_err(refusal)?;
        let kept = self.node.create_container_record(&namespace, record).await.map_err(refusal)?;
        answer(CreateContainerResponse { container: Some(records::container_2017_wire(&kept)) })
    }

    async fn update(&self, request: Request<UpdateContainerRequest>) -> Answer<UpdateContainerResponse> {
        let (namespace, request) = open(request)?;
        let record = records::container_2017(request.container).map_err(refusal)?;
        let mut paths = records::paths(request.update_mask);
        if paths.is_empty() {
            let kept = self.node.container_record(&namespace, &record.id).map_err(refusal)?;
            if runtime(&kept) != runtime(&record) {
                let fixed = FieldError::Fixed { what: "container", field: "runtime's name" };
                return Err(refusal(fixed.into()));
            }
            // What this form does not know stays.
            paths = ["labels", "spec", "image", "rootfs"].map(str::to_owned).to_vec();
        }
        let kept = self.node.update_container_record(&namespace, record, paths).await.map_err(refusal)?;
        answer(UpdateContainerResponse { container: Some(records::container_2017_wire(&kept)) })
    }

    async fn delete(&self, request: Request<DeleteContainerRequest>) -> Answer<()> {
        let (namespace, request) = open(request)?;
        self.node.delete_container_record(&namespace, &id(&request.id)?).await.map_err(refusal)?;
        answer(())
    }
}

/// The name of the container's runtime, which never changes.
fn runtime(record: &ContainerRecord) -> &str {
    record.runtime.as_ref().map_or("", |runtime| runtime.name.as_str())
}
