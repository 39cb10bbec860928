//! A VM's state leaves one VM as JSON and goes on in another.

mod common;

use common::kvm;
use common::payload::{BASE, Payload};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use theca_vmm::arch::x86_64::cpuid::Template;
use theca_vmm::arch::x86_64::regs::{self, Entry};
use theca_vmm::arch::x86_64::setup;
use theca_vmm::kvm::Vm;
use theca_vmm::legacy::serial::Serial;
use theca_vmm::memory::{GuestMemory, MemorySize, allocate};
use theca_vmm::snapshot::{ChipState, StateError, VcpuState, VmState};
use vm_memory::{Bytes, GuestAddress};

struct Machine {
    memory: GuestMemory,
    vm: Vm,
    vcpu: VcpuFd,
}

fn machine(kvm: &Kvm, entry: Option<Entry>) -> Machine {
    let memory = allocate(MemorySize::from_mib(32).unwrap()).unwrap();
    let vm = Vm::new(kvm.create_vm().unwrap(), &memory).unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    let supported = kvm.get_supported_cpuid(256).unwrap();
    setup::vcpu(&vcpu, Template::new(&supported, 1, false).unwrap().for_vcpu(0), entry).unwrap();
    Machine { memory, vm, vcpu }
}

/// Runs until the guest has printed `count` bytes, and then to the end of that instruction.
fn print(vcpu: &mut VcpuFd, count: usize) -> String {
    let mut printed = String::new();
    while printed.len() < count {
        match vcpu.run().unwrap() {
            VcpuExit::IoOut(0x3f8, data) => printed.push(char::from(data[0])),
            exit => panic!("unexpected {exit:?} after {printed:?}"),
        }
    }
    vcpu.set_kvm_immediate_exit(1);
    assert_eq!(vcpu.run().unwrap_err().errno(), libc::EINTR);
    vcpu.set_kvm_immediate_exit(0);
    printed
}

/// Prints the alphabet, over and over: `mov dx, 0x3f8; start: mov al, 'a'; next: out dx, al; inc al; cmp al, 'z' + 1; jne next;
/// jmp start`.
fn alphabet() -> Payload {
    Payload::new().bytes(&[
        0x66,
        0xba,
        0xf8,
        0x03,
        0xb0,
        b'a',
        0xee,
        0xfe,
        0xc0,
        0x3c,
        b'z' + 1,
        0x75,
        0xf9,
        0xeb,
        0xf5,
    ])
}

fn saved(kvm: &Kvm) -> (Vec<u8>, Vec<u8>) {
    let entry = Entry::Pvh(BASE.into());
    let mut old = machine(kvm, Some(entry));
    old.memory.write_slice(alphabet().code(), GuestAddress(BASE.into())).unwrap();
    regs::write_gdt(&old.memory, entry).unwrap();
    assert_eq!(print(&mut old.vcpu, 10), "abcdefghij");
    let vcpus = vec![VcpuState::save(&old.vcpu).unwrap()];
    let chips = ChipState::save(old.vm.fd()).unwrap();
    let state = VmState::<()>::new(32, vcpus, chips, Serial::default(), Vec::new());
    let mut ram = vec![0; 2 << 20];
    old.memory.read_slice(&mut ram, GuestAddress(0)).unwrap();
    (serde_json::to_vec(&state).unwrap(), ram)
}

fn open() -> Option<Kvm> {
    Some(theca_vmm::sys::kvm::from_fd(kvm()?.into()))
}

#[test]
fn a_guest_goes_on_in_another_vm_where_it_was_saved() {
    let Some(kvm) = open() else { return };
    let (document, ram) = saved(&kvm);
    let state: VmState<()> = serde_json::from_slice(&document).unwrap();
    let mut new = machine(&kvm, None);
    new.memory.write_slice(&ram, GuestAddress(0)).unwrap();
    state.chips.restore(new.vm.fd()).unwrap();
    state.vcpus[0].restore(&new.vcpu).unwrap();
    assert_eq!(print(&mut new.vcpu, 20), "klmnopqrstuvwxyzabcd");
}

#[test]
fn a_state_that_was_tampered_with_is_refused() {
    let Some(kvm) = open() else { return };
    let (document, _) = saved(&kvm);
    let good: serde_json::Value = serde_json::from_slice(&document).unwrap();
    let refusal = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut document = good.clone();
        change(&mut document);
        serde_json::from_value::<VmState<()>>(document).err().expect("must be refused").to_string()
    };
    assert!(refusal(&|state| state["version"] = 2.into()).contains("version 2"));
    assert!(refusal(&|state| state["vcpus"] = serde_json::json!([])).contains("0 vCPUs"));
    assert!(refusal(&|state| state["extra"] = 1.into()).contains("unknown field"));
    assert!(refusal(&|state| state["vcpus"][0]["msrs"] = vec![[1, 1]; 300].into()).contains("300"));
    let mp_state = |value: u8| serde_json::json!([value, 0, 0, 0]);
    assert!(refusal(&|state| state["vcpus"][0]["mp_state"] = mp_state(200)).contains("run state 200"));
}

#[test]
fn a_register_outside_the_list_is_not_written() {
    let Some(kvm) = open() else { return };
    let (document, _) = saved(&kvm);
    let mut document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    document["vcpus"][0]["msrs"] = serde_json::json!([[0x1b, 0]]);
    let state: VmState<()> = serde_json::from_value(document).unwrap();
    let new = machine(&kvm, None);
    assert!(matches!(state.vcpus[0].restore(&new.vcpu), Err(StateError::Msr(0x1b))));
}
