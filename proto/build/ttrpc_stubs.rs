//! ttrpc stubs over prost messages: a trait to implement, a table for the server, a client.
//!
//! The ttrpc crate's own generator writes another protobuf library's messages; these share the ones of the gRPC
//! services. The code that does not depend on the service is `src/ttrpc_glue.rs`.

use std::fmt::Write;

use prost_build::{Method, Service, ServiceGenerator};

/// Methods are unary or stream both ways: no service streams one way only.
pub struct Generator;

impl ServiceGenerator for Generator {
    fn generate(&mut self, service: Service, out: &mut String) {
        assert!(
            service.methods.iter().all(|m| m.client_streaming == m.server_streaming),
            "{}: the ttrpc generator knows no method that streams one way",
            service.name
        );
        let full_name = format!("{}.{}", service.package, service.proto_name);
        let module = service.name.to_lowercase();
        let (mut methods, mut table, mut calls) = (String::new(), String::new(), String::new());
        for method in &service.methods {
            let (name, wire) = (&method.name, &method.proto_name);
            let (input, output) = (in_module(&method.input_type), in_module(&method.output_type));
            let docs: String = method.comments.leading.iter().map(|line| format!("///{line}\n")).collect();
            if method.client_streaming {
                duplex_method(method, &docs, &mut methods, &mut table, &mut calls);
                continue;
            }
            writeln!(methods, "{docs}async fn {name}(&self, request: {input}) -> Answer<{output}>;").unwrap();
            writeln!(
                table,
                "let this = service.clone();\n\
                 service_table.unary(\"{wire}\", move |request: {input}| {{ let this = this.clone(); \
                 async move {{ this.{name}(request).await }} }});"
            )
            .unwrap();
            writeln!(
                calls,
                "{docs}pub async fn {name}(&self, request: {input}) -> Answer<{output}> \
                 {{ self.0.call(SERVICE, \"{wire}\", request).await }}"
            )
            .unwrap();
        }
        let name = &service.name;
        write!(
            out,
            "/// ttrpc stubs of `{full_name}`.\n\
             #[allow(missing_docs)]\n\
             pub mod {module}_ttrpc {{\n\
             use std::sync::Arc;\n\
             use crate::ttrpc_glue::{{Answer, Caller, ServiceTable}};\n\
             /// The service's name on the wire.\n\
             pub const SERVICE: &str = \"{full_name}\";\n\
             /// What a server of the service implements.\n\
             #[async_trait::async_trait]\n\
             pub trait {name}: Send + Sync + 'static {{\n{methods}}}\n\
             /// The table that a ttrpc server registers.\n\
             pub fn serve(service: Arc<dyn {name}>) -> ServiceTable {{\n\
             let mut service_table = ServiceTable::new(SERVICE);\n{table}service_table\n}}\n\
             /// Calls the service.\n\
             #[derive(Clone)]\n\
             pub struct {name}Client(Caller);\n\
             impl {name}Client {{\n\
             /// Calls over `caller`'s connection.\n\
             pub fn new(caller: Caller) -> Self {{ Self(caller) }}\n{calls}}}\n\
             }}\n"
        )
        .unwrap();
    }
}

/// A method that streams both ways: whoever serves it gets the stream and ends it by returning.
fn duplex_method(method: &Method, docs: &str, methods: &mut String, table: &mut String, calls: &mut String) {
    let (name, wire) = (&method.name, &method.proto_name);
    let (input, output) = (in_module(&method.input_type), in_module(&method.output_type));
    let streams = "crate::ttrpc_stream";
    writeln!(
        methods,
        "{docs}async fn {name}(&self, stream: {streams}::ServerStream<{output}, {input}>) -> Answer<()>;"
    )
    .unwrap();
    writeln!(
        table,
        "let this = service.clone();\n\
         service_table.duplex(\"{wire}\", move |stream: {streams}::ServerStream<{output}, {input}>| \
         {{ let this = this.clone(); async move {{ this.{name}(stream).await }} }});"
    )
    .unwrap();
    writeln!(
        calls,
        "{docs}pub async fn {name}(&self) -> Answer<{streams}::ClientStream<{input}, {output}>> \
         {{ self.0.duplex(SERVICE, \"{wire}\").await }}"
    )
    .unwrap();
}

/// The stubs live one module deeper than the messages.
fn in_module(path: &str) -> String {
    match path {
        "()" => "()".to_owned(),
        absolute if absolute.starts_with("::") => absolute.to_owned(),
        relative => format!("super::{relative}"),
    }
}
