//! Calls by method: how many, how they ended, how long they took. The names are those that gRPC's own exporters use.
//!
//! Methods are known from the start, so that what a client writes into a path makes no figure of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tonic::Code;
use tracing::debug;

use super::text::Text;
use crate::descriptors::ServiceNames;

/// Upper bounds of the histogram, in seconds: from an answer out of memory to a sandbox that boots slowly.
const BOUNDS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];
/// gRPC's codes, by number, as its exporters spell them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The calls of one endpoint.
#[derive(Debug)]
pub struct Calls {
    endpoint: &'static str,
    methods: BTreeMap<String, Arc<Method>>,
    /// Of everything that is no method.
    other: Arc<Method>,
}

#[derive(Debug, Default)]
struct Method {
    service: String,
    name: String,
    started: AtomicU64,
    ended: [AtomicU64; CODES.len()],
    /// By the first of [`BOUNDS`] that a call kept; those that kept none last.
    took: [AtomicU64; BOUNDS.len() + 1],
    took_us: AtomicU64,
}

impl Calls {
    /// No calls yet, of these services and of health and reflection.
    pub fn new(endpoint: &'static str, services: &[ServiceNames]) -> Self {
        let method = |service: &str, name: &str| {
            let method = Method { service: service.into(), name: name.into(), ..Method::default() };
            (format!("/{service}/{name}"), Arc::new(method))
        };
        let served = services
            .iter()
            .flat_map(|service| service.methods.iter().map(|name| method(&service.service, name)));
        let beside = [
            ("grpc.health.v1.Health", "Check"),
            ("grpc.health.v1.Health", "Watch"),
            ("grpc.health.v1.Health", "List"),
            ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
            ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
        ];
        let methods = served.chain(beside.map(|(service, name)| method(service, name))).collect();
        let (_, other) = method("other", "other");
        Self { endpoint, methods, other }
    }

    /// A call of `path` begins.
    pub fn begin(&self, path: &str) -> Call {
        let method = Arc::clone(self.methods.get(path).unwrap_or(&self.other));
        method.started.fetch_add(1, Relaxed);
        Call { method: Some(method), began: Instant::now() }
    }

    fn called(&self) -> impl Iterator<Item = &Method> {
        let all = self.methods.values().chain([&self.other]).map(Arc::as_ref);
        all.filter(|method| method.started.load(Relaxed) > 0)
    }
}

/// One call. Dropped without an end, it was cancelled by its client.
#[derive(Debug)]
pub struct Call {
    method: Option<Arc<Method>>,
    began: Instant,
}

impl Call {
    /// It has ended. Only the first end counts.
    pub fn end(&mut self, code: Code) {
        let Some(method) = self.method.take() else { return };
        let took = self.began.elapsed();
        if let Some(ended) = method.ended.get(code as usize) {
            ended.fetch_add(1, Relaxed);
        }
        let bucket = BOUNDS.iter().position(|bound| took <= Duration::from_secs_f64(*bound));
        method.took[bucket.unwrap_or(BOUNDS.len())].fetch_add(1, Relaxed);
        method.took_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
        debug!(service = method.service, method = method.name, ?code, ?took, "call");
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// Writes the figures of all endpoints.
pub fn write(text: &mut Text, endpoints: &[Arc<Calls>]) {
    let all = || endpoints.iter().flat_map(|calls| calls.called().map(|method| (calls.endpoint, method)));
    let name = "grpc_server_started_total";
    text.heading(name, "counter", "Calls that began.");
    for (endpoint, method) in all() {
        text.sample(name, &method.labels(endpoint), method.started.load(Relaxed));
    }
    let name = "grpc_server_handled_total";
    text.heading(name, "counter", "Calls that ended, by code.");
    for (endpoint, method) in all() {
        for (code, ended) in CODES.iter().zip(&method.ended) {
            let ended = ended.load(Relaxed);
            if ended > 0 {
                let [endpoint, service, name_] = method.labels(endpoint);
                text.sample(name, &[endpoint, service, name_, ("grpc_code", code)], ended);
            }
        }
    }
    let name = "grpc_server_handling_seconds";
    text.heading(name, "histogram", "How long calls took, streams to their end.");
    for (endpoint, method) in all() {
        method.write_histogram(text, name, endpoint);
    }
}

impl Method {
    fn labels<'a>(&'a self, endpoint: &'a str) -> [(&'a str, &'a str); 3] {
        [("endpoint", endpoint), ("grpc_service", &self.service), ("grpc_method", &self.name)]
    }

    fn write_histogram(&self, text: &mut Text, name: &str, endpoint: &str) {
        let [endpoint, service, method] = self.labels(endpoint);
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (bound, count) in bounds.zip(&self.took) {
            total += count.load(Relaxed);
            text.sample(&format!("{name}_bucket"), &[endpoint, service, method, ("le", &bound)], total);
        }
        let seconds = self.took_us.load(Relaxed) as f64 / 1e6;
        text.sample(&format!("{name}_sum"), &[endpoint, service, method], seconds);
        text.sample(&format!("{name}_count"), &[endpoint, service, method], total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls() -> Arc<Calls> {
        let tasks = ServiceNames { service: "x.Tasks".into(), methods: vec!["Get".into(), "List".into()] };
        Arc::new(Calls::new("today", &[tasks]))
    }

    fn written(calls: &Arc<Calls>) -> String {
        let mut text = Text::default();
        write(&mut text, &[Arc::clone(calls)]);
        text.finish()
    }

    #[test]
    fn a_call_is_counted_once_by_its_method_and_its_first_code() {
        let calls = calls();
        let mut call = calls.begin("/x.Tasks/Get");
        call.end(Code::NotFound);
        call.end(Code::Ok);
        drop(call);
        let text = written(&calls);
        let labels = r#"endpoint="today",grpc_service="x.Tasks",grpc_method="Get""#;
        assert!(text.contains(&format!("grpc_server_started_total{{{labels}}} 1\n")), "{text}");
        let handled = format!("grpc_server_handled_total{{{labels},grpc_code=\"NotFound\"}} 1\n");
        assert!(text.contains(&handled) && text.matches("grpc_code=").count() == 1, "{text}");
        let all = format!("grpc_server_handling_seconds_bucket{{{labels},le=\"+Inf\"}} 1\n");
        assert!(text.contains(&all), "{text}");
        assert!(!text.contains("List"), "{text}");
    }

    #[test]
    fn a_call_whose_client_has_gone_is_cancelled_and_paths_make_no_figures() {
        let calls = calls();
        for number in 0..3 {
            drop(calls.begin(&format!("/x.Tasks/Guess{number}")));
        }
        let text = written(&calls);
        assert!(text.contains(r#"grpc_method="other",grpc_code="Canceled"} 3"#), "{text}");
        assert!(!text.contains("Guess"), "{text}");
    }
}
