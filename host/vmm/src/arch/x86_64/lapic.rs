//! Local APIC inputs, wired as a BIOS leaves them: LINT0 takes the interrupt controller, LINT1 takes the NMI.

use kvm_bindings::kvm_lapic_state;

const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
/// Delivery mode field of a vector table entry: bits 8 to 10.
const MODE_MASK: u32 = 0x700;
const MODE_NMI: u32 = 0x400;
const MODE_EXTINT: u32 = 0x700;
/// The reset value of an entry is masked.
const MASKED: u32 = 1 << 16;

/// Routes the two local inputs in a register page read from KVM.
pub fn wire_inputs(state: &mut kvm_lapic_state) {
    set_mode(state, LVT_LINT0, MODE_EXTINT);
    set_mode(state, LVT_LINT1, MODE_NMI);
}

fn set_mode(state: &mut kvm_lapic_state, register: usize, mode: u32) {
    let field = &mut state.regs[register..register + 4];
    let mut bytes = [0u8; 4];
    for (byte, value) in bytes.iter_mut().zip(field.iter()) {
        *byte = *value as u8;
    }
    let value = u32::from_le_bytes(bytes) & !(MODE_MASK | MASKED) | mode;
    for (slot, byte) in field.iter_mut().zip(value.to_le_bytes()) {
        *slot = byte as _;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_inputs_are_unmasked_with_their_mode() {
        let mut state = kvm_lapic_state::default();
        state.regs[LVT_LINT0 + 2] = 1;
        state.regs[LVT_LINT1 + 2] = 1;
        wire_inputs(&mut state);
        let bytes = |at: usize| state.regs[at..at + 4].iter().map(|byte| *byte as u8).collect::<Vec<_>>();
        assert_eq!(bytes(LVT_LINT0), [0, 7, 0, 0]);
        assert_eq!(bytes(LVT_LINT1), [0, 4, 0, 0]);
    }
}
