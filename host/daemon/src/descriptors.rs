//! What an endpoint serves, by name, read from the same descriptors that reflection hands out.

use prost::{DecodeError, Message};
use prost_types::FileDescriptorSet;

/// A service and its methods.
#[derive(Debug, PartialEq, Eq)]
pub struct ServiceNames {
    /// With its package: `types.API`.
    pub service: String,
    /// Without.
    pub methods: Vec<String>,
}

/// The services of an encoded `FileDescriptorSet`.
pub fn services(encoded: &[u8]) -> Result<Vec<ServiceNames>, DecodeError> {
    let set = FileDescriptorSet::decode(encoded)?;
    let services = set.file.into_iter().flat_map(|file| {
        let package = file.package.unwrap_or_default();
        file.service.into_iter().map(move |service| ServiceNames {
            service: format!("{package}.{}", service.name.unwrap_or_default()),
            methods: service.method.into_iter().filter_map(|method| method.name).collect(),
        })
    });
    Ok(services.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_endpoints_serve_six_services_of_the_same_names() {
        let names = |encoded| {
            let mut names: Vec<_> = services(encoded).unwrap().into_iter().map(|one| one.service).collect();
            names.sort();
            names
        };
        let today = names(theca_proto::descriptors::TODAY);
        assert_eq!(
            today,
            [
                "containerd.services.containers.v1.Containers",
                "containerd.services.sandbox.v1.Controller",
                "containerd.services.sandbox.v1.Store",
                "containerd.services.tasks.v1.Tasks",
                "containerd.v1.ExecutionService",
                "types.API",
            ]
        );
        assert_eq!(names(theca_proto::descriptors::GENERATIONS), today);
    }
}
