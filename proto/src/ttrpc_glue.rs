//! What every generated ttrpc stub shares: prost messages in and out of the ttrpc crate's frames.

use std::collections::HashMap;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prost::Message;
use ttrpc::r#async::{Client, MethodHandler, Service, StreamHandler, TtrpcContext};
use ttrpc::{Code, Error, Request, Response};

use crate::ttrpc_stream::{self, ClientStream, ServerStream};

/// What a ttrpc method answers.
pub type Answer<T> = Result<T, Error>;

/// Largest request: a ttrpc frame without what names the call.
const MOST: usize = ttrpc::proto::MESSAGE_LENGTH_MAX - 4096;

/// An error that reaches the caller as `code` and `message`.
pub fn status(code: Code, message: impl Into<String>) -> Error {
    Error::RpcStatus(ttrpc::get_status(code, message.into()))
}

/// The same with one more message in the status, of type `url`: for programs, where the text is for people.
pub fn status_with(code: Code, message: impl Into<String>, url: &str, detail: &impl Message) -> Error {
    let mut status = ttrpc::get_status(code, message.into());
    status.details.push(ttrpc::proto::Any {
        type_url: url.to_owned(),
        value: detail.encode_to_vec(),
        ..Default::default()
    });
    Error::RpcStatus(status)
}

/// The detail of type `url` in a status. One that does not parse is none: the other side may be of another version.
pub fn detail<T: Message + Default>(status: &ttrpc::Status, url: &str) -> Option<T> {
    let detail = status.details.iter().find(|detail| detail.type_url.rsplit('/').next() == Some(url))?;
    T::decode(detail.value.as_slice()).ok()
}

/// The methods of one service, ready for [`ttrpc::r#async::Server::register_service`].
pub struct ServiceTable {
    name: &'static str,
    methods: HashMap<String, Box<dyn MethodHandler + Send + Sync>>,
    streams: HashMap<String, Arc<dyn StreamHandler + Send + Sync>>,
}

impl ServiceTable {
    /// An empty table for the service called `name` on the wire.
    pub fn new(name: &'static str) -> Self {
        Self { name, methods: HashMap::new(), streams: HashMap::new() }
    }

    /// Adds a method that takes one message and answers one.
    pub fn unary<Input, Output, Call, Pending>(&mut self, method: &str, call: Call)
    where
        Input: Message + Default + 'static,
        Output: Message + 'static,
        Call: Fn(Input) -> Pending + Send + Sync + 'static,
        Pending: Future<Output = Answer<Output>> + Send + 'static,
    {
        let handler = Unary { path: format!("/{}/{method}", self.name), call, input: PhantomData };
        self.methods.insert(method.to_owned(), Box::new(handler));
    }

    /// Adds a method that streams both ways. The stream ends when `call` returns.
    pub fn duplex<Output, Input, Call, Pending>(&mut self, method: &str, call: Call)
    where
        Output: Message + Default + 'static,
        Input: Message + Default + 'static,
        Call: Fn(ServerStream<Output, Input>) -> Pending + Send + Sync + 'static,
        Pending: Future<Output = Answer<()>> + Send + 'static,
    {
        self.streams.insert(method.to_owned(), ttrpc_stream::handler(call));
    }

    /// The form in which the ttrpc server takes it.
    pub fn into_services(self) -> HashMap<String, Service> {
        let service = Service { methods: self.methods, streams: self.streams };
        HashMap::from([(self.name.to_owned(), service)])
    }
}

struct Unary<Call, Input> {
    path: String,
    call: Call,
    input: PhantomData<fn(Input)>,
}

#[async_trait]
impl<Input, Output, Call, Pending> MethodHandler for Unary<Call, Input>
where
    Input: Message + Default + 'static,
    Output: Message + 'static,
    Call: Fn(Input) -> Pending + Send + Sync + 'static,
    Pending: Future<Output = Answer<Output>> + Send + 'static,
{
    async fn handler(&self, _context: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        let answer = match Input::decode(request.payload.as_slice()) {
            Ok(input) => (self.call)(input).await,
            Err(error) => {
                let text = format!("{}: the request is malformed: {error}", self.path);
                Err(status(Code::INVALID_ARGUMENT, text))
            }
        };
        let mut response = Response::default();
        match answer {
            Ok(output) => {
                response.set_status(ttrpc::get_status(Code::OK, String::new()));
                response.payload = output.encode_to_vec();
            }
            Err(Error::RpcStatus(status)) => response.set_status(status),
            Err(other) => response.set_status(ttrpc::get_status(Code::UNKNOWN, other)),
        }
        Ok(response)
    }
}

/// Calls methods over one connection; clones share it.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    timeout: Option<Duration>,
}

impl Caller {
    /// Calls over `client` that wait as long as the answer takes.
    pub fn new(client: Client) -> Self {
        Self { client, timeout: None }
    }

    /// The same connection with a bound on each call. What is not answered in time is `DEADLINE_EXCEEDED`, which is not to
    /// be taken for a connection that broke: the other side may be slow and well.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { client: self.client.clone(), timeout: Some(timeout) }
    }

    /// Calls `method` of `service`.
    pub async fn call<Input, Output>(&self, service: &str, method: &str, input: Input) -> Answer<Output>
    where
        Input: Message,
        Output: Message + Default,
    {
        let payload = input.encode_to_vec();
        if payload.len() > MOST {
            let text = format!(
                "{service}/{method}: the request has {} bytes, and at most {MOST} can be sent",
                payload.len()
            );
            return Err(status(Code::RESOURCE_EXHAUSTED, text));
        }
        let request =
            Request { service: service.to_owned(), method: method.to_owned(), payload, ..Default::default() };
        let response = match self.timeout {
            None => self.client.request(request).await?,
            Some(timeout) => {
                tokio::time::timeout(timeout, self.client.request(request)).await.map_err(|_| {
                    let text = format!("{service}/{method} was not answered within {timeout:?}");
                    status(Code::DEADLINE_EXCEEDED, text)
                })??
            }
        };
        Output::decode(response.payload.as_slice())
            .map_err(|error| Error::Others(format!("{service}/{method}: the answer is malformed: {error}")))
    }

    /// Opens a stream both ways to `method` of `service`. A bound on calls does not bound it.
    pub async fn duplex<Output, Input>(
        &self,
        service: &str,
        method: &str,
    ) -> Answer<ClientStream<Output, Input>>
    where
        Output: Message + Default,
        Input: Message + Default,
    {
        let request =
            Request { service: service.to_owned(), method: method.to_owned(), ..Default::default() };
        Ok(ClientStream::new(self.client.new_stream(request, true, true).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theca::keeper::v1 as keeper;
    use crate::theca::keeper::v1::keeper_ttrpc::{self, Keeper, KeeperClient};
    use crate::theca::keeper::v1::{
        AttachRequest, AttachResponse, InfoRequest, InfoResponse, KernelLogRequest, KernelLogResponse,
    };

    struct OneSandbox;

    #[async_trait]
    impl Keeper for OneSandbox {
        async fn attach(&self, request: AttachRequest) -> Answer<AttachResponse> {
            Err(status(Code::NOT_FOUND, format!("no process in {:.100}", request.id)))
        }
        async fn kernel_log(&self, _: KernelLogRequest) -> Answer<KernelLogResponse> {
            Ok(KernelLogResponse { data: "Linux".into() })
        }
        async fn info(&self, _: InfoRequest) -> Answer<InfoResponse> {
            Ok(InfoResponse { vcpus: 2, ..Default::default() })
        }
        async fn processes(&self, _: keeper::ProcessesRequest) -> Answer<keeper::ProcessesResponse> {
            not_here()
        }
        async fn events(&self, _: keeper::EventsRequest) -> Answer<keeper::EventsResponse> {
            not_here()
        }
        async fn open_shim(&self, _: keeper::OpenShimRequest) -> Answer<keeper::OpenShimResponse> {
            not_here()
        }
        async fn ready(&self, _: keeper::ReadyRequest) -> Answer<keeper::InfoResponse> {
            not_here()
        }
        async fn ping(&self, _: keeper::PingRequest) -> Answer<keeper::PingResponse> {
            not_here()
        }
        async fn pause(&self, _: keeper::PauseRequest) -> Answer<keeper::PauseResponse> {
            not_here()
        }
        async fn resume(&self, _: keeper::ResumeRequest) -> Answer<keeper::ResumeResponse> {
            not_here()
        }
        async fn set_allowance(
            &self,
            _: keeper::SetAllowanceRequest,
        ) -> Answer<keeper::SetAllowanceResponse> {
            not_here()
        }
        async fn metrics(&self, _: keeper::MetricsRequest) -> Answer<keeper::MetricsResponse> {
            not_here()
        }
        async fn shutdown(&self, _: keeper::ShutdownRequest) -> Answer<keeper::ShutdownResponse> {
            not_here()
        }
    }

    fn not_here<T>() -> Answer<T> {
        Err(status(Code::UNIMPLEMENTED, "this test's keeper does not do that"))
    }

    #[tokio::test]
    async fn a_server_that_is_slow_is_not_taken_for_one_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeper.sock");
        let _silent = tokio::net::UnixListener::bind(&path).unwrap();
        let client = Client::connect(&format!("unix://{}", path.display())).await.unwrap();
        let keeper = KeeperClient::new(Caller::new(client).with_timeout(Duration::from_millis(50)));
        let Err(Error::RpcStatus(status)) = keeper.info(InfoRequest {}).await else {
            panic!("expected a status")
        };
        assert_eq!(status.code(), Code::DEADLINE_EXCEEDED);
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_is_refused_and_the_connection_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix://{}/keeper.sock", folder.path().display());
        let services = keeper_ttrpc::serve(Arc::new(OneSandbox)).into_services();
        let mut server = ttrpc::r#async::Server::new().bind(&address).unwrap().register_service(services);
        server.start().await.unwrap();
        let keeper = KeeperClient::new(Caller::new(Client::connect(&address).await.unwrap()));
        for (bytes, code) in [(MOST - 10, Code::NOT_FOUND), (MOST, Code::RESOURCE_EXHAUSTED)] {
            let error = keeper.attach(AttachRequest { id: "x".repeat(bytes), ..Default::default() }).await;
            let Err(Error::RpcStatus(status)) = error else {
                panic!("{bytes}: expected a status, got {error:?}")
            };
            assert_eq!(status.code(), code, "{bytes}: {}", &status.message()[..100]);
        }
        assert_eq!(keeper.info(InfoRequest {}).await.unwrap().vcpus, 2);
        server.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn a_client_reads_what_a_server_answers_and_its_errors() {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix://{}/keeper.sock", folder.path().display());
        let services = keeper_ttrpc::serve(Arc::new(OneSandbox)).into_services();
        let mut server = ttrpc::r#async::Server::new().bind(&address).unwrap().register_service(services);
        server.start().await.unwrap();
        let keeper = KeeperClient::new(Caller::new(Client::connect(&address).await.unwrap()));

        assert_eq!(keeper.info(InfoRequest {}).await.unwrap().vcpus, 2);
        assert_eq!(keeper.kernel_log(KernelLogRequest {}).await.unwrap().data, "Linux");
        let error = keeper.attach(AttachRequest { id: "web".into(), ..Default::default() }).await;
        let Err(Error::RpcStatus(status)) = error else { panic!("expected a status, got {error:?}") };
        assert_eq!((status.code(), status.message()), (Code::NOT_FOUND, "no process in web"));
        server.shutdown().await.unwrap();
    }
}
