//! `containerd.services.containers.v1.Containers` as it is today: what containers are to be, durably.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use theca_controller::node::Node;
use theca_controller::node::store::ContainerRecord;
use theca_proto::containerd::services::containers::v1::containers_server::Containers;
use theca_proto::containerd::services::containers::v1::{
    CreateContainerRequest, CreateContainerResponse, DeleteContainerRequest, GetContainerRequest,
    GetContainerResponse, ListContainerMessage, ListContainersRequest, ListContainersResponse,
    UpdateContainerRequest, UpdateContainerResponse,
};
use tonic::{Request, Status};

use crate::call::{Answer, answer, fits, id, open};
use crate::convert::records;
use crate::status::node::refusal;

/// The service.
#[derive(Clone)]
pub struct ContainerStore {
    node: Node,
}

impl ContainerStore {
    /// In front of `node`.
    pub fn new(node: &Node) -> Self {
        Self { node: node.clone() }
    }
}

#[tonic::async_trait]
impl Containers for ContainerStore {
    type ListStreamStream = Pin<Box<dyn Stream<Item = Result<ListContainerMessage, Status>> + Send>>;

    async fn get(&self, request: Request<GetContainerRequest>) -> Answer<GetContainerResponse> {
        let (namespace, request) = open(request)?;
        let kept = self.node.container_record(&namespace, &id(&request.id)?).map_err(refusal)?;
        answer(GetContainerResponse { container: Some(records::container_wire(&kept)) })
    }

    async fn list(&self, request: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        let (namespace, request) = open(request)?;
        let kept = self.node.container_records(&namespace, &request.filters).map_err(refusal)?;
        answer(ListContainersResponse {
            containers: fits(kept.iter().map(|kept| records::container_wire(kept)))?,
        })
    }

    async fn list_stream(&self, request: Request<ListContainersRequest>) -> Answer<Self::ListStreamStream> {
        let (namespace, request) = open(request)?;
        let kept = self.node.container_records(&namespace, &request.filters).map_err(refusal)?;
        let message = |record: Arc<ContainerRecord>| {
            Ok(ListContainerMessage { container: Some(records::container_wire(&record)) })
        };
        answer(Box::pin(stream::iter(kept.into_iter().map(message))))
    }

    async fn create(&self, request: Request<CreateContainerRequest>) -> Answer<CreateContainerResponse> {
        let (namespace, request) = open(request)?;
        let record = records::container(request.container).map_err(refusal)?;
        let kept = self.node.create_container_record(&namespace, record).await.map_err(refusal)?;
        answer(CreateContainerResponse { container: Some(records::container_wire(&kept)) })
    }

    async fn update(&self, request: Request<UpdateContainerRequest>) -> Answer<UpdateContainerResponse> {
        let (namespace, request) = open(request)?;
        let record = records::container(request.container).map_err(refusal)?;
        let paths = records::paths(request.update_mask);
        let kept = self.node.update_container_record(&namespace, record, paths).await.map_err(refusal)?;
        answer(UpdateContainerResponse { container: Some(records::container_wire(&kept)) })
    }

    async fn delete(&self, request: Request<DeleteContainerRequest>) -> Answer<()> {
        let (namespace, request) = open(request)?;
        self.node.delete_container_record(&namespace, &id(&request.id)?).await.map_err(refusal)?;
        answer(())
    }
}
