//! Generates messages for every `.proto` that the features ask for, tonic stubs for the gRPC services and ttrpc stubs for
//! those that containerd speaks over ttrpc. Pure Rust: no `protoc` is needed.

#[path = "build/interfaces.rs"]
mod interfaces;
#[path = "build/ttrpc_stubs.rs"]
mod ttrpc_stubs;

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_build::{Config, Service, ServiceGenerator};

fn main() -> Result<(), Box<dyn Error>> {
    for folder in interfaces::FOLDERS {
        println!("cargo:rerun-if-changed={folder}");
    }
    println!("cargo:rerun-if-changed=build");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo has not set OUT_DIR")?);

    let files = interfaces::spoken();
    config().include_file("packages.rs").compile_fds(protox::compile(&files, ["."])?)?;
    if enabled("DAEMON") {
        // What both forms share is generated once, above.
        let older = out.join("generations");
        std::fs::create_dir_all(&older)?;
        config()
            .extern_path(".containerd.types", "crate::containerd::types")
            .out_dir(&older)
            .include_file("packages.rs")
            .compile_fds(protox::compile(interfaces::OLDER, interfaces::OLDER_ROOTS)?)?;
        descriptors(&out.join("today.bin"), interfaces::TODAY, &["."])?;
        descriptors(&out.join("generations.bin"), &interfaces::generations(), interfaces::OLDER_ROOTS)?;
    }
    if enabled("SHIM") {
        descriptors(&out.join("shim.bin"), interfaces::SHIM, &["."])?;
    }
    Ok(())
}

/// Whether the crate is built with a feature.
fn enabled(feature: &str) -> bool {
    std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some()
}

fn config() -> Config {
    let mut config = Config::new();
    config.bytes(["."]).service_generator(Box::new(ByTransport {
        grpc: tonic_prost_build::configure().build_transport(false).service_generator(),
        ttrpc: ttrpc_stubs::Generator,
    }));
    config
}

/// Writes what gRPC reflection tells of `files`: everything but the comments.
fn descriptors(path: &Path, files: &[&str], roots: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut set = protox::compile(files, roots)?;
    for file in &mut set.file {
        file.source_code_info = None;
    }
    Ok(std::fs::write(path, set.encode_to_vec())?)
}

/// Sends each service to the generator of its transport.
struct ByTransport {
    grpc: Box<dyn ServiceGenerator>,
    ttrpc: ttrpc_stubs::Generator,
}

impl ServiceGenerator for ByTransport {
    fn generate(&mut self, service: Service, out: &mut String) {
        if interfaces::TTRPC_PACKAGES.contains(&service.package.as_str()) {
            self.ttrpc.generate(service, out);
        } else {
            self.grpc.generate(service, out);
        }
    }

    fn finalize(&mut self, out: &mut String) {
        self.grpc.finalize(out);
    }

    fn finalize_package(&mut self, package: &str, out: &mut String) {
        if !interfaces::TTRPC_PACKAGES.contains(&package) {
            self.grpc.finalize_package(package, out);
        }
    }
}
