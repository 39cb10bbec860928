//! Generates messages for every `.proto` here, tonic stubs for the gRPC services and ttrpc stubs for those that
//! containerd speaks over ttrpc. Pure Rust: no `protoc` is needed.

#[path = "build/ttrpc_stubs.rs"]
mod ttrpc_stubs;

use std::error::Error;

use prost_build::{Config, Service, ServiceGenerator};

const FILES: &[&str] = &[
    "containerd/services/tasks/v1/tasks.proto",
    "containerd/task/v2/task.proto",
    "containerd/task/v3/task.proto",
    "containerd/types/introspection.proto",
    "io/containerd/cgroups/v2/metrics.proto",
    "theca/agent/v1/agent.proto",
    "theca/keeper/v1/keeper.proto",
];

/// Packages whose services travel over ttrpc rather than gRPC.
const TTRPC_PACKAGES: &[&str] = &["containerd.task.v2", "containerd.task.v3", "theca.keeper.v1"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=containerd");
    println!("cargo:rerun-if-changed=io");
    println!("cargo:rerun-if-changed=theca");
    println!("cargo:rerun-if-changed=build");
    let descriptors = protox::compile(FILES, ["."])?;
    let mut config = Config::new();
    config
        .bytes(["."])
        .service_generator(Box::new(ByTransport {
            grpc: tonic_prost_build::configure().build_transport(false).service_generator(),
            ttrpc: ttrpc_stubs::Generator,
        }))
        .include_file("packages.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

/// Sends each service to the generator of its transport.
struct ByTransport {
    grpc: Box<dyn ServiceGenerator>,
    ttrpc: ttrpc_stubs::Generator,
}

impl ServiceGenerator for ByTransport {
    fn generate(&mut self, service: Service, out: &mut String) {
        if TTRPC_PACKAGES.contains(&service.package.as_str()) {
            self.ttrpc.generate(service, out);
        } else {
            self.grpc.generate(service, out);
        }
    }

    fn finalize(&mut self, out: &mut String) {
        self.grpc.finalize(out);
    }

    fn finalize_package(&mut self, package: &str, out: &mut String) {
        if !TTRPC_PACKAGES.contains(&package) {
            self.grpc.finalize_package(package, out);
        }
    }
}
