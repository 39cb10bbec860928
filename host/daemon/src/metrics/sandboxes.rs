//! Figures of each sandbox and of the containers in it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use prost::Message;
use theca_controller::id::Namespace;
use theca_controller::node::Node;
use theca_controller::node::sandbox::{SandboxMetrics, SandboxStatus, Standing};
use theca_proto::io::containerd::cgroups::v2::Metrics;
use tokio::time::timeout;
use tracing::debug;

use super::text::Text;

/// A guest that answers later than this is left out of a scrape. Prometheus itself waits for ten seconds.
const PATIENCE: Duration = Duration::from_secs(4);
/// Sandboxes that are asked at the same time.
const AT_ONCE: usize = 16;

/// A sandbox with its counters, if it gave them.
struct Looked {
    namespace: Arc<Namespace>,
    status: SandboxStatus,
    metrics: Option<SandboxMetrics>,
}

impl Looked {
    fn labels(&self) -> [(&str, &str); 2] {
        [("namespace", self.namespace.as_str()), ("sandbox", self.status.id.as_str())]
    }
}

/// Asks every sandbox and writes what they say.
pub async fn write(text: &mut Text, node: &Node) {
    let all = look(node).await;
    let name = "theca_sandbox_state";
    text.heading(name, "gauge", "Sandboxes, each with the state that it is in.");
    for one in &all {
        let [namespace, sandbox] = one.labels();
        text.sample(name, &[namespace, sandbox, ("state", state(one.status.standing))], 1);
    }
    let name = "theca_sandbox_containers";
    text.heading(name, "gauge", "Containers in the sandbox.");
    for one in &all {
        text.sample(name, &one.labels(), one.status.containers.len());
    }
    for figure in FIGURES {
        text.heading(figure.name, figure.kind, figure.help);
        for one in &all {
            if let Some(metrics) = &one.metrics {
                text.sample(figure.name, &one.labels(), (figure.of)(metrics));
            }
        }
    }
    write_containers(text, &all);
}

async fn look(node: &Node) -> Vec<Looked> {
    let mut all = Vec::new();
    for namespace in node.namespaces() {
        match node.sandboxes(&namespace).await {
            Ok(sandboxes) => {
                let namespace = Arc::new(namespace);
                all.extend(sandboxes.into_iter().map(|status| (Arc::clone(&namespace), status)));
            }
            Err(error) => debug!(%namespace, %error, "sandboxes are left out of a scrape"),
        }
    }
    let asked = stream::iter(all).map(|(namespace, status)| async move {
        let metrics = match status.standing {
            Standing::Ready | Standing::Paused => {
                let asked = timeout(PATIENCE, node.sandbox_metrics(&namespace, &status.id));
                asked.await.ok().and_then(Result::ok)
            }
            Standing::Created | Standing::Stopped => None,
        };
        Looked { namespace, status, metrics }
    });
    asked.buffered(AT_ONCE).collect().await
}

fn state(standing: Standing) -> &'static str {
    match standing {
        Standing::Created => "created",
        Standing::Ready => "ready",
        Standing::Paused => "paused",
        Standing::Stopped => "stopped",
    }
}

/// A figure that every running sandbox has.
struct Figure {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    of: fn(&SandboxMetrics) -> f64,
}

const FIGURES: &[Figure] = &[
    Figure {
        name: "theca_sandbox_vmm_resident_bytes",
        kind: "gauge",
        help: "Resident memory of the sandbox's VMM on the host, guest memory included.",
        of: |metrics| metrics.vmm_resident_bytes as f64,
    },
    Figure {
        name: "theca_sandbox_vmm_cpu_seconds_total",
        kind: "counter",
        help: "Processor time of the sandbox's VMM on the host, its guest's included.",
        of: |metrics| metrics.vmm_cpu_usec as f64 / 1e6,
    },
    Figure {
        name: "theca_sandbox_guest_used_bytes",
        kind: "gauge",
        help: "Memory in use in the guest.",
        of: |metrics| metrics.guest_used_bytes as f64,
    },
    Figure {
        name: "theca_sandbox_memory_bytes",
        kind: "gauge",
        help: "Memory that the guest has.",
        of: |metrics| (metrics.resources.memory_mib << 20) as f64,
    },
    Figure {
        name: "theca_sandbox_vcpus",
        kind: "gauge",
        help: "Processors that the guest has.",
        of: |metrics| f64::from(metrics.resources.vcpus),
    },
];

/// Of a container's cgroup: a figure if there is one.
type OfContainer = (&'static str, &'static str, &'static str, fn(&Metrics) -> Option<f64>);

const OF_CONTAINERS: &[OfContainer] = &[
    ("theca_container_cpu_seconds_total", "counter", "Processor time of the container.", |metrics| {
        metrics.cpu.as_ref().map(|cpu| cpu.usage_usec as f64 / 1e6)
    }),
    ("theca_container_memory_bytes", "gauge", "Memory that the container uses.", |metrics| {
        metrics.memory.as_ref().map(|memory| memory.usage as f64)
    }),
    ("theca_container_pids", "gauge", "Processes and threads of the container.", |metrics| {
        metrics.pids.as_ref().map(|pids| pids.current as f64)
    }),
];

fn write_containers(text: &mut Text, all: &[Looked]) {
    let mut decoded = Vec::new();
    for one in all {
        for (container, sample) in one.metrics.iter().flat_map(|metrics| &metrics.containers) {
            // The guest wrote it.
            match Metrics::decode(sample.metrics.value.as_slice()) {
                Ok(metrics) => decoded.push((one.labels(), container, metrics)),
                Err(error) => debug!(%container, %error, "a container's counters make no sense"),
            }
        }
    }
    for (name, kind, help, of) in OF_CONTAINERS {
        text.heading(name, kind, help);
        for ([namespace, sandbox], container, metrics) in &decoded {
            if let Some(value) = of(metrics) {
                text.sample(name, &[*namespace, *sandbox, ("container", container.as_str())], value);
            }
        }
    }
}
