//! What a guest finds at its first instruction, and what is refused before that.

mod common;

use common::payload::Payload;
use common::{Guest, file, kvm};
use theca_vmm_protocol::{Console, ExitReason, FdIndex};

#[test]
fn a_pvh_kernel_reads_its_command_line_from_the_start_info() {
    let Some(kvm) = kvm() else { return };
    // mov esi, [ebx + 24], the command line's address in the start info
    let payload = Payload::new().bytes(&[0x8b, 0x73, 0x18]).print_string_at_esi().power_off();
    let mut guest = Guest::new(kvm, &payload.pvh());
    guest.config.cmdline = "theca.test=1".into();
    let (reason, console) = guest.run();
    assert_eq!(reason, ExitReason::Shutdown);
    assert!(console.contains("reboot=k,panic_warm"), "{console}");
    assert!(console.contains("virtio_mmio.device=4K@0xd0000000:5"), "{console}");
    assert!(console.ends_with(" theca.test=1"), "{console}");
}

#[test]
fn a_pvh_kernel_finds_the_initrd_in_the_module_list() {
    let Some(kvm) = kvm() else { return };
    // mov esi, [ebx + 16], the module list; mov esi, [esi], the first module
    let payload = Payload::new().bytes(&[0x8b, 0x73, 0x10, 0x8b, 0x36]).print_string_at_esi().power_off();
    let (reason, console) = Guest::new(kvm, &payload.pvh()).with_initrd(b"this is an initrd\0").run();
    assert_eq!((reason, console.as_str()), (ExitReason::Shutdown, "this is an initrd"));
}

#[test]
fn a_kernel_without_a_note_is_entered_in_long_mode() {
    let Some(kvm) = kvm() else { return };
    // movabs rax, 0x1_0000_0000; shr rax, 32; cmp eax, 1; je +2; ud2, which only 64-bit code survives
    let only_64_bit = [
        0x48, 0xb8, 0, 0, 0, 0, 1, 0, 0, 0, 0x48, 0xc1, 0xe8, 0x20, 0x83, 0xf8, 0x01, 0x74, 0x02, 0x0f, 0x0b,
    ];
    // mov esi, [rsi + 0x228], the command line's address in the zero page
    let payload = Payload::new().bytes(&only_64_bit).bytes(&[0x8b, 0xb6, 0x28, 0x02, 0, 0]);
    let (reason, console) = Guest::new(kvm, &payload.print_string_at_esi().power_off().linux64()).run();
    assert_eq!(reason, ExitReason::Shutdown);
    assert!(console.starts_with("quiet "), "{console}");
}

#[test]
fn ram_ends_at_the_hole_and_goes_on_behind_it() {
    let Some(kvm) = kvm() else { return };
    let payload = Payload::new()
        .store(0xbfff_ffff, b'R')
        .print_memory(0xbfff_ffff, 1)
        .store(0xc000_0000, b'x')
        .print_memory(0xc000_0000, 1)
        // The memory map's last entry: start and length of what lies above 4 GiB.
        .print_memory(0x7000 + 3 * 24, 16)
        .power_off();
    let mut guest = Guest::new(kvm, &payload.pvh());
    guest.config.memory_mib = 5 << 10;
    let vmm = guest.configure();
    let bytes = run_raw(vmm);
    assert_eq!(bytes[..2], [b'R', 0xff]);
    assert_eq!(bytes[2..10], (4u64 << 30).to_le_bytes());
    assert_eq!(bytes[10..18], (2u64 << 30).to_le_bytes());
}

fn run_raw(mut vmm: common::Vmm) -> Vec<u8> {
    use theca_vmm_protocol::{Reply, Request};
    assert_eq!(vmm.request(&Request::Start, &[]), Reply::Done);
    assert_eq!(vmm.end(), ExitReason::Shutdown);
    vmm.console_bytes()
}

#[test]
fn an_mp_table_lists_thirty_two_processors() {
    let Some(kvm) = kvm() else { return };
    let payload = Payload::new().print_memory(0x9_fc00, 4).print_memory(0x9_fc10, 48).power_off();
    let mut guest = Guest::new(kvm, &payload.pvh());
    guest.config.vcpus = 32;
    let bytes = run_raw(guest.configure());
    assert_eq!(&bytes[..8], b"_MP_PCMP");
    // Header field: number of entries. 32 processors, a bus, an IOAPIC, the timer and two devices, two local inputs.
    assert_eq!(u16::from_le_bytes([bytes[4 + 34], bytes[4 + 35]]), 32 + 1 + 1 + 3 + 2);
}

/// Starts processor `id` at `page` the way hardware wants it: INIT, then a start-up interrupt. Waits for its word.
fn start_processor(payload: Payload, id: u32, page: u32) -> Payload {
    const COMMAND_LOW: u32 = 0xfee0_0300;
    const COMMAND_HIGH: u32 = 0xfee0_0310;
    // Real mode at page:0. mov byte [STARTED], id, behind what it prints: its APIC id as CPUID has it, as a digit.
    let code = [
        0x66, 0xb8, 1, 0, 0, 0, // mov eax, 1
        0x0f, 0xa2, // cpuid
        0x66, 0xc1, 0xeb, 24, // shr ebx, 24
        0x88, 0xd8, 0x04, b'0', // mov al, bl; add al, '0'
        0xba, 0xf8, 0x03, 0xee, // mov dx, 0x3f8; out dx, al
        0xc6, 0x06, 0xf0, 0x8f, id as u8, // mov byte [0x8ff0], id
        0xf4, 0xeb, 0xfd, // hlt, for ever
    ];
    const STARTED: u32 = 0x8ff0;
    payload
        .store32(STARTED, 0)
        .store_bytes(page << 12, &code)
        .store32(COMMAND_HIGH, id << 24)
        .store32(COMMAND_LOW, 0x4500)
        .store32(COMMAND_HIGH, id << 24)
        .store32(COMMAND_LOW, 0x4600 | page)
        .wait_for(STARTED, id as u16)
}

#[test]
fn processors_are_started_one_by_one() {
    let Some(kvm) = kvm() else { return };
    let payload = (1..4).fold(Payload::new().print("0"), |payload, id| start_processor(payload, id, 0x60));
    let mut guest = Guest::new(kvm, &payload.print("!").power_off().pvh());
    guest.config.vcpus = 4;
    assert_eq!(guest.run(), (ExitReason::Shutdown, "0123!".to_owned()));
}

fn refused(kernel: &[u8]) -> Option<String> {
    Some(Guest::new(kvm()?, kernel).refusal())
}

#[test]
fn files_that_are_no_kernel_are_refused_by_name() {
    let Some(text) = refused(b"#!/bin/sh\n") else { return };
    assert!(text.contains("not an ELF file"), "{text}");
    assert!(refused(b"").unwrap().contains("not an ELF file"));
    assert!(refused(&Payload::new().program()).unwrap().contains("without a kernel's entry point"));
    let mut bzimage = vec![0; 4096];
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    assert!(refused(&bzimage).unwrap().contains("bzImage"));
    let mut arm = Payload::new().pvh();
    arm[18] = 183;
    assert!(refused(&arm).unwrap().contains("another processor"));
}

#[test]
fn a_kernel_that_is_cut_short_is_refused() {
    let Some(text) = refused(&Payload::new().bytes(&[0x90; 8192]).pvh()[..0x1800]) else { return };
    assert!(text.contains("cut short"), "{text}");
}

#[test]
fn an_initrd_larger_than_memory_is_refused() {
    let Some(kvm) = kvm() else { return };
    let mut guest = Guest::new(kvm, &Payload::new().pvh());
    let huge = file(b"");
    huge.set_len(65 << 20).unwrap();
    guest.config.initrd = Some(guest.add(huge));
    let text = guest.refusal();
    assert!(text.contains("does not fit beside the kernel in 64 MiB"), "{text}");
}

#[test]
fn machines_that_cannot_be_are_refused() {
    let Some(kvm) = kvm() else { return };
    let guest = |kvm: &std::fs::File| Guest::new(kvm.try_clone().unwrap(), &Payload::new().pvh());
    let mut too_many = guest(&kvm);
    too_many.config.vcpus = 33;
    assert!(too_many.refusal().contains("1 to 32 CPUs, not 33"));
    let mut too_small = guest(&kvm);
    too_small.config.memory_mib = 31;
    assert!(too_small.refusal().contains("at least 32"));
    let mut too_large = guest(&kvm);
    too_large.config.memory_mib = u64::MAX;
    assert!(too_large.refusal().contains("at most"));
    let mut long = guest(&kvm);
    long.config.cmdline = "x".repeat(2048);
    assert!(long.refusal().contains("at most 2047"));
    let mut missing = guest(&kvm);
    missing.config.initrd = Some(FdIndex(40));
    assert!(missing.refusal().contains("the initrd is descriptor 40"));
    let mut tiny_log = guest(&kvm);
    tiny_log.config.console = Console { max_bytes: 1, ..tiny_log.config.console };
    assert!(tiny_log.refusal().contains("at least 4096"));
}

#[test]
fn something_else_than_kvm_is_refused() {
    let text = Guest::new(std::fs::File::open("/dev/null").unwrap(), &Payload::new().pvh()).refusal();
    assert!(text.contains("not KVM"), "{text}");
}
