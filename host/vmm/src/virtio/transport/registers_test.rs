use proptest::prelude::*;

use super::*;

const OFFERED: u64 = 1 << VIRTIO_F_VERSION_1 | 0b1010;
const RUNNING: u32 = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;

fn registers() -> Registers {
    Registers::new(DeviceId::Block, OFFERED, &[128, 16])
}

/// Writes a list of registers, as a driver would.
fn write(registers: &mut Registers, list: &[(u32, u32)]) -> Effect {
    list.iter().fold(Effect::None, |_, (offset, value)| registers.write(*offset, *value))
}

fn negotiated() -> Registers {
    let mut registers = registers();
    write(&mut registers, &[(0x70, 1), (0x70, 3), (0x24, 1), (0x20, 1), (0x24, 0), (0x20, 0b10), (0x70, 11)]);
    assert_eq!(registers.status(), 11);
    registers
}

fn running() -> Registers {
    let mut registers = negotiated();
    let queue = [(0x30, 0), (0x38, 64), (0x80, 0x1000), (0x84, 1), (0x90, 0x2000), (0xa0, 0x3000), (0x44, 1)];
    write(&mut registers, &queue);
    assert_eq!(registers.write(0x70, RUNNING), Effect::Activate);
    registers
}

#[test]
fn a_driver_recognises_the_device() {
    let registers = registers();
    assert_eq!(registers.read(0).to_le_bytes(), *b"virt");
    assert_eq!((registers.read(4), registers.read(8)), (2, 2));
    assert_eq!(registers.read(0x34), 128);
}

#[test]
fn features_are_read_in_two_words_and_no_more() {
    let mut registers = registers();
    let mut word = |index| {
        registers.write(0x14, index);
        registers.read(0x10)
    };
    assert_eq!([word(0), word(1), word(2), word(u32::MAX)], [0b1010, 1, 0, 0]);
}

#[test]
fn a_driver_that_follows_the_order_runs_the_device() {
    let registers = running();
    assert!(registers.active());
    assert_eq!(registers.features(), 1 << VIRTIO_F_VERSION_1 | 0b10);
    let placement = Placement {
        size: 64,
        descriptors: 0x1_0000_1000,
        available: 0x2000,
        used: 0x3000,
        ..Placement::default()
    };
    assert_eq!(registers.placements(), [Some(placement), None]);
}

#[test]
fn features_that_were_not_offered_are_not_ok() {
    for (word, value) in [(0, 0b100), (1, 0b10), (0, 0b10)] {
        let mut registers = registers();
        // The last pair leaves VERSION_1 out.
        write(&mut registers, &[(0x70, 1), (0x70, 3), (0x24, word), (0x20, value), (0x70, 11)]);
        assert_eq!(registers.status(), 3);
    }
}

#[test]
fn status_bits_come_one_after_the_other() {
    let mut registers = registers();
    for wrong in [2, 3, 4, 8, 15] {
        assert_eq!(registers.write(0x70, wrong), Effect::None);
        assert_eq!(registers.status(), 0);
    }
    // A bit that is set stays set until the reset.
    write(&mut registers, &[(0x70, 1), (0x70, 3), (0x70, 1)]);
    assert_eq!(registers.status(), 3);
}

#[test]
fn a_driver_that_gives_up_never_activates() {
    let mut registers = negotiated();
    assert_eq!(write(&mut registers, &[(0x70, 11 | FAILED), (0x70, RUNNING | FAILED)]), Effect::None);
    assert!(!registers.active());
    assert_eq!(registers.write(0x70, 0), Effect::Reset);
    assert_eq!(registers.status(), 0);
}

#[test]
fn queue_registers_are_frozen_once_the_device_runs() {
    let mut registers = running();
    let (placements, features) = (registers.placements(), registers.features());
    for queue in 0..2 {
        registers.write(0x30, queue);
        for offset in [0x38, 0x44, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4] {
            for value in [0, 1, 16, 0xffff_f000] {
                assert_eq!(registers.write(offset, value), Effect::None);
            }
        }
    }
    write(&mut registers, &[(0x24, 0), (0x20, 0), (0x70, RUNNING)]);
    assert_eq!((registers.placements(), registers.features()), (placements, features));
}

#[test]
fn a_ready_queue_does_not_move() {
    let mut registers = negotiated();
    write(&mut registers, &[(0x30, 1), (0x80, 0x1000), (0x44, 1), (0x80, 0x9000)]);
    assert_eq!(registers.placements()[1].unwrap().descriptors, 0x1000);
    write(&mut registers, &[(0x44, 0), (0x80, 0x9000), (0x44, 1)]);
    assert_eq!(registers.placements()[1].unwrap().descriptors, 0x9000);
}

#[test]
fn queue_registers_mean_nothing_before_features_are_settled() {
    let mut registers = registers();
    write(&mut registers, &[(0x70, 1), (0x70, 3), (0x80, 0x1000), (0x44, 1)]);
    assert_eq!(registers.placements(), [None, None]);
}

#[test]
fn impossible_queue_sizes_are_ignored() {
    let mut registers = negotiated();
    for size in [0, 3, 256, 0x1_0000, u32::MAX] {
        registers.write(0x38, size);
    }
    registers.write(0x44, 1);
    assert_eq!(registers.placements()[0].unwrap().size, 128);
}

#[test]
fn a_queue_that_is_not_there_reads_as_absent() {
    let mut registers = negotiated();
    write(&mut registers, &[(0x30, 2), (0x44, 1)]);
    assert_eq!((registers.read(0x34), registers.read(0x44)), (0, 0));
    assert_eq!(registers.placements(), [None, None]);
}

#[test]
fn saved_registers_come_back() {
    let running = running();
    let mut restored = registers();
    restored.restore(&running.save()).unwrap();
    assert_eq!(restored.save(), running.save());
    assert!(restored.active());
}

#[test]
fn saved_registers_that_no_driver_could_reach_are_refused() {
    let good = running().save();
    let refused = |change: fn(&mut DeviceState)| {
        let mut state = good.clone();
        change(&mut state);
        registers().restore(&state).unwrap_err().to_string()
    };
    assert!(refused(|state| state.id = DeviceId::Rng).contains("Rng"));
    assert!(refused(|state| state.status = 4).contains("0x4"));
    assert!(refused(|state| state.status |= 0x10).contains("0x1f"));
    assert!(refused(|state| state.driver_features |= 1 << 20).contains("features"));
    assert!(refused(|state| state.driver_features = 0).contains("features"));
    assert!(refused(|state| state.queues.truncate(1)).contains("queues"));
    assert!(refused(|state| state.queues[0].size = 3).contains("queues"));
    assert!(refused(|state| state.queues[1].size = 32).contains("queues"));
}

proptest! {
    /// Whatever is written: a device runs only with accepted features and sizes, and then nothing changes until a reset.
    #[test]
    fn random_writes_reach_no_impossible_state(
        writes in prop::collection::vec((0u32..0x48, prop_oneof![0u32..16, any::<u32>()]), 0..200),
    ) {
        let mut registers = registers();
        let mut frozen = None;
        for (index, value) in writes {
            match registers.write(index * 4, value) {
                Effect::Activate => frozen = Some((registers.placements(), registers.features())),
                Effect::Reset => frozen = None,
                _ => {}
            }
            if let Some((placements, features)) = &frozen {
                prop_assert_eq!(&registers.placements(), placements);
                prop_assert_eq!(registers.features(), *features);
                prop_assert_eq!(features & !OFFERED, 0);
            }
            let mut copy = self::registers();
            prop_assert!(copy.restore(&registers.save()).is_ok());
        }
    }
}
