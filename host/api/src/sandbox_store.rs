//! `containerd.services.sandbox.v1.Store`: what sandboxes are to be, durably. Its form of 2022 is a service of its own with
//! the same messages, so one macro answers both.

use theca_controller::node::Node;
use theca_proto::containerd::services::sandbox::v1 as today;
use theca_proto::generations::containerd::services::sandbox::v1 as of_2022;
use tonic::Request;

use crate::call::{Answer, answer, fits, id, open};
use crate::convert::records;
use crate::status::node::refusal;

/// The service.
#[derive(Clone)]
pub struct SandboxStore {
    node: Node,
}

impl SandboxStore {
    /// In front of `node`.
    pub fn new(node: &Node) -> Self {
        Self { node: node.clone() }
    }
}

macro_rules! serve {
    ($form:ident) => {
        #[tonic::async_trait]
        impl $form::store_server::Store for SandboxStore {
            async fn create(
                &self,
                request: Request<$form::StoreCreateRequest>,
            ) -> Answer<$form::StoreCreateResponse> {
                let (namespace, request) = open(request)?;
                let record = records::sandbox(request.sandbox).map_err(refusal)?;
                let kept = self.node.create_sandbox_record(&namespace, record).await.map_err(refusal)?;
                answer($form::StoreCreateResponse { sandbox: Some(records::sandbox_wire(&kept)) })
            }

            async fn update(
                &self,
                request: Request<$form::StoreUpdateRequest>,
            ) -> Answer<$form::StoreUpdateResponse> {
                let (namespace, request) = open(request)?;
                let record = records::sandbox(request.sandbox).map_err(refusal)?;
                let kept = self.node.update_sandbox_record(&namespace, record, request.fields).await;
                let sandbox = records::sandbox_wire(&*kept.map_err(refusal)?);
                answer($form::StoreUpdateResponse { sandbox: Some(sandbox) })
            }

            async fn delete(
                &self,
                request: Request<$form::StoreDeleteRequest>,
            ) -> Answer<$form::StoreDeleteResponse> {
                let (namespace, request) = open(request)?;
                let id = id(&request.sandbox_id)?;
                self.node.delete_sandbox_record(&namespace, &id).await.map_err(refusal)?;
                answer($form::StoreDeleteResponse {})
            }

            async fn list(
                &self,
                request: Request<$form::StoreListRequest>,
            ) -> Answer<$form::StoreListResponse> {
                let (namespace, request) = open(request)?;
                let kept = self.node.sandbox_records(&namespace, &request.filters).map_err(refusal)?;
                let list = fits(kept.iter().map(|kept| records::sandbox_wire(kept)))?;
                answer($form::StoreListResponse { list })
            }

            async fn get(&self, request: Request<$form::StoreGetRequest>) -> Answer<$form::StoreGetResponse> {
                let (namespace, request) = open(request)?;
                let id = id(&request.sandbox_id)?;
                let kept = self.node.sandbox_record(&namespace, &id).map_err(refusal)?;
                answer($form::StoreGetResponse { sandbox: Some(records::sandbox_wire(&kept)) })
            }
        }
    };
}

serve!(today);
serve!(of_2022);
