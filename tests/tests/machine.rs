//! Machines that `theca` does not offer on every host: more CPUs than it has, a kernel with another entry.

use std::io::Read;

use prost::Message;
use theca_proto::theca::agent::v1::Ready;
use theca_tests::machine::{Machine, RunningMachine, write_kernel_without_pvh};
use theca_tests::{IMAGE, Theca, eventually};

/// Waits for the agent's word, and asserts that it is one.
#[track_caller]
fn ready(machine: &mut RunningMachine) {
    let mut stream = machine.ready();
    let mut bytes = Vec::new();
    let ready = loop {
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).unwrap();
        assert!(length > 0, "the agent ended after {bytes:?}");
        bytes.extend_from_slice(&chunk[..length]);
        // Incomplete until the last byte has come.
        if let Ok(ready) = Ready::decode_length_delimited(bytes.as_slice()) {
            break ready;
        }
    };
    assert!(ready.kernel_release.starts_with("6."), "{ready:?}");
    assert!(!ready.agent_version.is_empty(), "{ready:?}");
}

/// Boots until the agent is ready; answers everything that the kernel printed.
fn console_of(mut machine: Machine) -> String {
    machine.cmdline = "loglevel=8".into();
    let mut machine = machine.boot();
    ready(&mut machine);
    let console = machine.console();
    machine.quit();
    console
}

#[test]
fn linux_brings_up_every_cpu_it_is_given() {
    let console = console_of(Machine { vcpus: 4, ..Machine::new() });
    assert!(console.contains("Brought up 1 node, 4 CPUs"), "{console}");
    assert!(console.contains("Allowing 4 present CPUs plus 0 hotplug CPUs"), "{console}");
}

#[test]
fn linux_brings_up_as_many_cpus_as_a_machine_can_have() {
    let console = console_of(Machine { vcpus: 32, ..Machine::new() });
    assert!(console.contains("Brought up 1 node, 32 CPUs"), "{console}");
}

#[test]
fn memory_goes_on_behind_the_hole_below_4_gib() {
    let console = console_of(Machine { memory_mib: 5 << 10, ..Machine::new() });
    for range in ["0x0000000000100000-0x00000000bfffffff", "0x0000000100000000-0x000000017fffffff"] {
        assert!(console.contains(&format!("node   0: [mem {range}]")), "{range} in {console}");
    }
}

/// What Linux fills before its first process is one fault for 512 pages, and nothing else is: a guest stays small.
#[test]
fn large_pages_back_what_the_kernel_fills_first() {
    let mut machine = Machine { memory_mib: 128, ..Machine::new() }.boot();
    ready(&mut machine);
    let large = machine.large_pages_mib();
    assert!((6..=10).contains(&large), "{large} MiB in large pages");
    machine.quit();
}

#[test]
fn a_kernel_without_a_pvh_note_boots_by_the_64_bit_protocol() {
    let mut kernel = tempfile::NamedTempFile::new().unwrap();
    write_kernel_without_pvh(kernel.as_file_mut());
    let console = console_of(Machine { kernel: kernel.path().to_owned(), vcpus: 2, ..Machine::new() });
    // What only the zero page told it: its memory and its initrd.
    assert!(console.contains("node   0: [mem 0x0000000000100000-0x000000000fffffff]"), "{console}");
    assert!(console.contains("RAMDISK: [mem 0x"), "{console}");
    assert!(console.contains("Brought up 1 node, 2 CPUs"), "{console}");
}

#[test]
fn the_smallest_machine_boots_until_its_agent_is_ready() {
    let mut machine = Machine { memory_mib: 32, ..Machine::new() }.boot();
    ready(&mut machine);
    machine.quit();
}

/// A container on more processors than this host may have: they take turns.
#[test]
fn a_container_runs_on_four_processors() {
    let theca = Theca::new();
    let script = "nproc
        for cpu in 0 1 2 3; do
            taskset -c $cpu sh -c 'i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); done; cut -d\" \" -f39 /proc/self/stat' &
        done
        wait
        echo done
        exec sleep 1000";
    let run = ["run", "-d", "--name", "smp", "--cpus", "4", IMAGE, "sh", "-c", script];
    theca.command(&run).env("THECA_SKIP_CHECKS", "1").run().success();
    theca.wait_for_log("smp", "done");
    let said = theca.cli(&["logs", "smp"]);
    let mut lines: Vec<_> = said.success().lines().collect();
    lines[1..5].sort_unstable();
    assert_eq!(lines, ["4", "0", "1", "2", "3", "done"]);
    assert_eq!(theca.inspect("smp")["Sandbox"]["vcpus"], 4);

    theca.cli(&["pause", "smp"]).success();
    theca.exec(&["smp", "true"]).exits(125).says("paused");
    theca.cli(&["resume", "smp"]).success();
    assert_eq!(theca.exec(&["smp", "nproc"]).success(), "4\n");
    theca.cli(&["stop", "-t", "1", "smp"]).success();
    theca.cli(&["rm", "smp"]).success();
    eventually("all to be gone", || theca.leaks().is_empty());
}
