//! Stats: the counters of a container's cgroup and of its network interfaces, as the kernel writes them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::interfaces::{self, Interfaces};
use super::{Error, Result, Sandbox};

/// Controllers whose files are worth reading. `memory.events` and the like belong to them.
const PREFIXES: &[&str] = &["cpu.", "cpuset.", "io.", "memory.", "pids.", "hugetlb.", "rdma."];

/// Larger files are left out.
const LARGEST: usize = 64 << 10;

impl Sandbox {
    /// File names to contents. The cgroup and the network namespace, and so the counters, stay until Delete.
    /// Without an id, those of all containers together and of the network namespace that they share, which is the guest's.
    pub async fn stats(&self, id: &str) -> Result<HashMap<String, String>> {
        if id.is_empty() {
            let shared = Interfaces::of("self").map_err(Error::io("open the guest's network interfaces"))?;
            return together(counters(&self.tree.containers())?, Some(&shared));
        }
        let container = self.find(id)?;
        let task = container.task().await?;
        together(counters(task.cgroup.path())?, task.interfaces.as_ref())
    }
}

fn together(
    mut counters: HashMap<String, String>,
    interfaces: Option<&Interfaces>,
) -> Result<HashMap<String, String>> {
    if let Some(interfaces) = interfaces {
        let text = interfaces.read().map_err(Error::io("read the counters of the network interfaces"))?;
        counters.insert(interfaces::FILE.to_owned(), text);
    }
    Ok(counters)
}

fn counters(folder: &Path) -> Result<HashMap<String, String>> {
    let entries = fs::read_dir(folder).map_err(Error::io(format!("list {}", folder.display())))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let counters = names.filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
    // Some files can only be written, some depend on the hardware: what cannot be read is left out.
    let read = counters.filter_map(|name| Some((fs::read_to_string(folder.join(&name)).ok()?, name)));
    Ok(read.filter(|(text, _)| text.len() <= LARGEST).map(|(text, name)| (name, text)).collect())
}
