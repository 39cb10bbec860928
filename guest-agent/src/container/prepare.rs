//! Prepare: checks a spec and mounts its root file system.

use std::sync::{Arc, MutexGuard};

use prost::bytes::Bytes;
use tokio::sync::Mutex as AsyncMutex;

use super::{Container, Containers, Error, Result, Sandbox, State};
use crate::oci;
use crate::rootfs::{Layers, Rootfs, SuppliedFile};

/// containerd's bound on identifiers.
const LONGEST_ID: usize = 76;

impl Sandbox {
    /// Takes on a container. On failure nothing stays mounted.
    pub async fn prepare(
        &self,
        id: &str,
        spec_json: Bytes,
        layers: &Layers,
        files: &[SuppliedFile],
    ) -> Result<()> {
        check_id(id)?;
        drop(self.check_free(id)?);
        let spec = oci::parse_spec(&spec_json)?;
        let mut rootfs = Rootfs::mount(&self.config.run, id, layers, &self.disks).await?;
        rootfs.supply(files)?;
        let state = AsyncMutex::new(State { rootfs: Some(rootfs), task: None });
        let outbox = Arc::default();
        let container = Arc::new(Container { id: id.to_owned(), spec, spec_json, state, outbox });
        let mut containers = self.check_free(id)?;
        containers.by_id.insert(id.to_owned(), container);
        Ok(())
    }

    fn check_free(&self, id: &str) -> Result<MutexGuard<'_, Containers>> {
        let containers = self.containers();
        if containers.closing {
            return Err(Error::ShuttingDown);
        }
        match containers.by_id.contains_key(id) {
            true => Err(Error::ContainerExists(id.to_owned())),
            false => Ok(containers),
        }
    }
}

/// An id is the name of folders and cgroups.
fn check_id(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let first = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !first || id.len() > LONGEST_ID || !id.bytes().all(plain) {
        return Err(Error::InvalidId(id.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_name() {
        for id in ["a", "web-1", "0123456789abcdef", "a.b_c"] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "-a", "a b", "ä", &"x".repeat(77)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
