//! Many sandboxes at once and many in a row: the machine is afterwards as it was before.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use theca_tests::wait::{PATIENCE, ask_until};
use theca_tests::{Census, IMAGE, Theca};

/// What the kernel's own tables may have grown by in a hundred runs.
const LEEWAY_KIB: u64 = 4 << 10;
/// How much longer than one a sandbox may take that starts beside nineteen others on one processor.
const MANY: u32 = 4;
const MEMORY: [&str; 2] = ["--memory", "64m"];

/// The whole machine is looked at, so these tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// KiB of memory that nobody uses, with what can be written written and what can be dropped dropped. The lists of free pages
/// that each CPU keeps for itself count as well: they are tens of MiB, and MemFree of /proc/meminfo leaves them out.
fn free_memory() -> u64 {
    nix::unistd::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let zones = std::fs::read_to_string("/proc/zoneinfo").unwrap();
    let counts = zones.lines().filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["pages", "free", count] | ["count:", count] => Some(count.parse::<u64>().unwrap()),
        _ => None,
    });
    counts.sum::<u64>() * 4
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
        let output = running.wait_within(MANY * PATIENCE);
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
    let mut lost = Vec::new();
    let flat = ask_until(PATIENCE, || {
        sleep(Duration::from_millis(500));
        lost.push(free_before.saturating_sub(free_memory()));
        lost.last().is_some_and(|kib| *kib < LEEWAY_KIB).then_some(())
    });
    println!("of {free_before} KiB that were free before: {} KiB less", lost.last().unwrap());
    assert!(flat.is_some(), "{} KiB less are free, {lost:?}", lost.last().unwrap());
}
