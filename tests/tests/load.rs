//! Many sandboxes at once and many in a row: the machine is afterwards as it was before.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use theca_tests::{Census, IMAGE, Theca, eventually};

const MEMORY: [&str; 2] = ["--memory", "64m"];

/// The whole machine is looked at, so these tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// KiB of memory that nobody uses, with what can be written written and what can be dropped dropped.
fn free_memory() -> u64 {
    nix::unistd::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn twenty_sandboxes_at_once() {
    let _alone = alone();
    let theca = Theca::new();
    let (before, begun) = (Census::take(), Instant::now());
    let script = "read go; echo $0";
    let names: Vec<String> = (0..20).map(|number| format!("box{number}")).collect();
    let running: Vec<_> = names
        .iter()
        .map(|name| {
            let run = [&["run", "-d", "-i", "--name", name], &MEMORY[..], &[IMAGE, "sh", "-c", script, name]];
            theca.start(&run.concat())
        })
        .collect();
    for running in running {
        // Not even a remark: nobody minds what the others do.
        let output = running.wait();
        output.success();
        assert_eq!(output.stderr, "");
    }
    assert_eq!(theca.cli(&["ps", "-q"]).success().lines().count(), 20);
    assert_eq!(theca.processes("theca-vmm").len(), 20);
    for name in &names {
        theca.command(&["attach", name]).input("go\n").run().success();
    }
    for name in &names {
        assert_eq!(theca.cli(&["logs", name]).success(), format!("{name}\n"));
    }
    println!("20 sandboxes took {:.1?}", begun.elapsed());
    theca.cli(&["rm", "--all"]).success();
    before.comes_back();
}

#[test]
fn a_hundred_runs_in_a_row() {
    let _alone = alone();
    let theca = Theca::new();
    let run = || {
        let output = theca.run(&[&["--rm"], &MEMORY[..], &[IMAGE, "echo", "hello"]].concat());
        assert_eq!((output.success(), output.stderr.as_str()), ("hello\n", ""));
    };
    let before = Census::take();
    // The first few fill caches of the kernel's.
    (0..5).for_each(|_| run());
    let (free_before, begun) = (free_memory(), Instant::now());
    (0..100).for_each(|_| run());
    println!("100 runs took {:.1?}", begun.elapsed());
    before.comes_back();
    // The kernel gives back what the last VM had some time after its process is gone.
    eventually("the machine's memory is as free as before", || {
        free_before.saturating_sub(free_memory()) < 16 << 10
    });
}
