//! How the agent is linked.

fn main() {
    // A position-independent program names each of its pointers; as a bitmap the names take a fortieth of the room, and every
    // guest copies the agent into its memory when it boots.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo::rerun-if-changed=build.rs");
}
