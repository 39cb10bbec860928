//! Runtime specs, as a container manager writes them.

use serde_json::{Value, json};
use theca_proto::theca::agent::v1::File;

/// A container to be: its spec, and how it is attached.
#[derive(Clone)]
pub struct Container {
    /// `config.json`.
    pub spec: Value,
    /// With a terminal.
    pub terminal: bool,
    /// Without a writable layer.
    pub read_only: bool,
    /// Writing to disk 1 instead of a tmpfs.
    pub on_disk: bool,
    /// Files for its bind mounts.
    pub files: Vec<File>,
}

impl Container {
    /// Runs a program as root with the usual rights, namespaces and mounts.
    pub fn new<const N: usize>(args: [&str; N]) -> Self {
        let caps = [
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_KILL",
            "CAP_MKNOD",
            "CAP_SETGID",
            "CAP_SETUID",
        ];
        let spec = json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": args.to_vec(),
                "env": ["PATH=/bin", "TERM=xterm"],
                "cwd": "/",
                "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
                "noNewPrivileges": true
            },
            "root": {"path": "rootfs"},
            "hostname": "box",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                 "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                 "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                 "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                 "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
            ],
            "linux": {
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                               {"type": "mount"}, {"type": "cgroup"}],
                "maskedPaths": ["/proc/kcore", "/sys/firmware", "/proc/keys"],
                "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"]
            }
        });
        Self { spec, terminal: false, read_only: false, on_disk: false, files: Vec::new() }
    }

    /// Runs a line of shell.
    pub fn sh(line: &str) -> Self {
        Self::new(["sh", "-c", line])
    }

    /// Sets what a JSON pointer names; the last step may be new.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        self.spec.pointer_mut(parent).unwrap()[name] = value;
        self
    }

    /// Adds a mount.
    pub fn mount(mut self, mount: Value) -> Self {
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    /// Writes to disk 1 instead of a tmpfs.
    pub fn on_disk(mut self) -> Self {
        self.on_disk = true;
        self
    }

    /// Binds a file that comes with the request.
    pub fn file(mut self, destination: &str, content: &'static str) -> Self {
        let source = format!("/of/the/host{destination}");
        self.files.push(File { source: source.clone(), content: content.into(), mode: 0o644 });
        self.mount(
            json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind"]}),
        )
    }

    /// With a terminal.
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self.spec["process"]["terminal"] = true.into();
        self
    }
}
