use tempfile::TempDir;

use super::*;
use crate::node::events::{RETURN, What};
use crate::node::testing::container;

struct Machine {
    folder: TempDir,
    namespace: Namespace,
    sandbox: SandboxId,
}

impl Machine {
    fn new() -> Self {
        let (namespace, sandbox) = ("tests".parse().unwrap(), "pod".parse().unwrap());
        Self { folder: tempfile::tempdir().unwrap(), namespace, sandbox }
    }

    /// A process begins.
    fn begin(&self) -> Bus {
        Bus::open(self.folder.path())
    }

    fn tell(&self, bus: &Bus, pids: std::ops::RangeInclusive<u32>) {
        for pid in pids {
            bus.tell(&self.namespace, &self.sandbox, Some(&container("web")), What::Started { pid });
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("tests/events.log")
    }
}

/// What a reader is given until there is no more, and it has reached the reader.
async fn heard(events: &mut Subscription) -> Vec<u32> {
    let mut pids = Vec::new();
    while let Ok(Some(told)) = tokio::time::timeout(SETTLE * 3, events.next()).await {
        match told {
            Told::Event(event) => match event.what {
                What::Started { pid } => pids.push(pid),
                ref other => panic!("{other:?}"),
            },
            Told::Missed(number) => panic!("{number} missed"),
        }
    }
    pids
}

async fn given(events: &mut Subscription, count: usize) {
    for _ in 0..count {
        assert!(matches!(events.next().await, Some(Told::Event(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_connection_has_taken_is_told_by_the_next_process_and_nothing_else() {
    let machine = Machine::new();
    let bus = machine.begin();
    let mut reader = bus.subscribe(&machine.namespace);
    machine.tell(&bus, 1..=5);
    given(&mut reader, 2).await;
    tokio::time::sleep(SETTLE).await;
    // The third is asked for, and the fourth: the third may be anywhere between here and the reader.
    given(&mut reader, 1).await;
    tokio::time::sleep(SETTLE).await;
    given(&mut reader, 1).await;
    bus.kill();
    let next = machine.begin();
    let mut reader = next.subscribe(&machine.namespace);
    assert_eq!(heard(&mut reader).await, [3, 4, 5]);
    next.kill();
    let third = machine.begin();
    assert_eq!(
        heard(&mut third.subscribe(&machine.namespace)).await,
        [] as [u32; 0],
        "told once more, not for ever"
    );
}

#[tokio::test(start_paused = true)]
async fn a_quick_reader_does_not_cost_a_slow_one_its_events() {
    let machine = Machine::new();
    let bus = machine.begin();
    bus.returned();
    let (mut quick, mut slow) = (bus.subscribe(&machine.namespace), bus.subscribe(&machine.namespace));
    machine.tell(&bus, 1..=3);
    assert_eq!(heard(&mut quick).await, [1, 2, 3]);
    given(&mut slow, 1).await;
    bus.kill();
    let next = machine.begin();
    let mut quick = next.subscribe(&machine.namespace);
    machine.tell(&next, 4..=4);
    assert_eq!(heard(&mut quick).await, [1, 2, 3, 4]);
    // The slow one has not come back when that process is killed as well.
    next.kill();
    let third = machine.begin();
    let mut readers = [third.subscribe(&machine.namespace), third.subscribe(&machine.namespace)];
    for reader in &mut readers {
        assert_eq!(heard(reader).await, [1, 2, 3, 4]);
    }
    third.kill();
    let fourth = machine.begin();
    assert_eq!(heard(&mut fourth.subscribe(&machine.namespace)).await, [] as [u32; 0]);
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_back_in_time_hears_what_was_told_before() {
    let machine = Machine::new();
    let bus = machine.begin();
    machine.tell(&bus, 1..=2);
    let mut first = bus.subscribe(&machine.namespace);
    assert_eq!(heard(&mut first).await, [1, 2]);
    drop(first);
    machine.tell(&bus, 3..=3);
    let mut second = bus.subscribe(&machine.namespace);
    bus.returned();
    assert_eq!(heard(&mut second).await, [1, 2, 3], "it came in time");
    let mut late = bus.subscribe(&machine.namespace);
    machine.tell(&bus, 4..=4);
    assert_eq!(heard(&mut late).await, [4]);
    assert!(RETURN > SETTLE);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_was_and_nothing_was_found_nothing_is_kept() {
    let machine = Machine::new();
    let bus = machine.begin();
    bus.recovered();
    machine.tell(&bus, 1..=2);
    assert_eq!(bus.kept(), 0);
    let mut reader = bus.subscribe(&machine.namespace);
    machine.tell(&bus, 3..=3);
    assert_eq!(heard(&mut reader).await, [3]);
    bus.kill();
    // It had a reader, which comes back only after something has happened.
    let next = machine.begin();
    next.recovered();
    machine.tell(&next, 4..=4);
    assert_eq!(heard(&mut next.subscribe(&machine.namespace)).await, [4]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_a_namespace_that_nobody_reads() {
    let machine = Machine::new();
    let bus = machine.begin();
    machine.tell(&bus, 1..=2);
    assert!(machine.file().exists());
    bus.returned();
    assert!(!machine.file().exists());
    for turn in 0..100 {
        let namespace: Namespace = format!("quiet-{turn}").parse().unwrap();
        drop(bus.subscribe(&namespace));
    }
    machine.tell(&bus, 3..=3);
    assert_eq!(bus.kept(), 0);
    let mut reader = bus.subscribe(&machine.namespace);
    machine.tell(&bus, 4..=4);
    assert_eq!(heard(&mut reader).await, [4]);
    assert_eq!(bus.lock().topics[&machine.namespace].events.len(), 0, "everyone has it");
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_gives_readers_what_was_told_and_the_next_process_does_not_repeat_it() {
    let machine = Machine::new();
    let bus = machine.begin();
    bus.returned();
    let mut reader = bus.subscribe(&machine.namespace);
    machine.tell(&bus, 1..=3);
    bus.close();
    assert_eq!(heard(&mut reader).await, [1, 2, 3]);
    assert!(reader.next().await.is_none());
    drop(reader);
    let next = machine.begin();
    machine.tell(&next, 4..=4);
    assert_eq!(heard(&mut next.subscribe(&machine.namespace)).await, [4]);
}

#[tokio::test(start_paused = true)]
async fn the_file_is_bounded_and_half_a_line_ends_nothing() {
    let machine = Machine::new();
    let bus = machine.begin();
    let mut reader = bus.subscribe(&machine.namespace);
    machine.tell(&bus, 1..=100_000);
    let lines = std::fs::read_to_string(machine.file()).unwrap().lines().count();
    assert!(lines <= 4 * RING + 2, "{lines}");
    assert!(matches!(reader.next().await, Some(Told::Missed(95_904))));
    assert_eq!(heard(&mut reader).await.len(), RING);
    bus.kill();
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().append(true).open(machine.file()).unwrap();
    file.write_all(b"{\"Told\":{\"comm").unwrap();
    let next = machine.begin();
    machine.tell(&next, 7..=8);
    next.kill();
    let third = machine.begin();
    assert_eq!(heard(&mut third.subscribe(&machine.namespace)).await, [7, 8]);
}
