//! Device rules as the eBPF program that a cgroup asks.
//!
//! The program is a list of questions; the first that is answered with yes decides:
//!
//! ```text
//!   is it opening a block device? ── no     (a guest's block devices are the disks of its sandbox: whatever the spec
//!   does exception 1 match? ──── its answer  says, no container reads below the file systems of another)
//!   does exception 2 match? ──── …
//!   otherwise the default
//! ```

use super::device_rules::{DeviceRules, Exception, Kind, READ, WRITE};
use crate::sys::bpf::Instruction;

// Registers.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Operations of `linux/bpf.h`.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER_32: u8 = 0xbc;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const JUMP: u8 = 0x05;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const JUMP_IF_ANY_BIT: u8 = 0x45;
const EXIT: u8 = 0x95;

/// Compiles rules for [`crate::sys::bpf::load_device_filter`].
pub fn compile(rules: &DeviceRules) -> Vec<Instruction> {
    // The context is { access << 16 | kind, major, minor }.
    let mut program = vec![
        op(LOAD_WORD, KIND, CONTEXT, 0, 0),
        op(MOVE_REGISTER_32, ACCESS, KIND, 0, 0),
        op(AND_32, KIND, 0, 0, 0xffff),
        op(SHIFT_RIGHT_32, ACCESS, 0, 0, 16),
        op(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        op(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    program.extend([
        op(JUMP_IF_NOT_EQUAL, KIND, 0, 4, Kind::Block as i32),
        // Neither bit: skip the refusal.
        op(JUMP_IF_ANY_BIT, ACCESS, 0, 1, (READ | WRITE) as i32),
        op(JUMP, 0, 0, 2, 0),
        op(MOVE, RESULT, 0, 0, 0),
        op(EXIT, 0, 0, 0, 0),
    ]);
    for exception in &rules.exceptions {
        program.extend(question(exception, rules.allow_by_default));
    }
    program.extend([op(MOVE, RESULT, 0, 0, rules.allow_by_default.into()), op(EXIT, 0, 0, 0, 0)]);
    program
}

/// Allowed by default, an exception refuses whoever wants any of its access; refused by default, it allows who wants
/// no other.
fn question(exception: &Exception, allow_by_default: bool) -> Vec<Instruction> {
    let mut tests = Vec::new();
    let numbers =
        [(KIND, exception.kind.map(|kind| kind as u32)), (MAJOR, exception.major), (MINOR, exception.minor)];
    tests.extend(numbers.into_iter().filter_map(|(register, wanted)| {
        // Comparisons sign-extend their operand; device numbers have 20 bits at most.
        wanted.map(|wanted| op(JUMP_IF_NOT_EQUAL, register, 0, 0, wanted as i32))
    }));
    let mut question = tests;
    if allow_by_default {
        question.push(op(JUMP_IF_ANY_BIT, ACCESS, 0, 1, exception.access as i32));
        question.push(op(JUMP, 0, 0, 0, 0));
    } else {
        question.push(op(JUMP_IF_ANY_BIT, ACCESS, 0, 0, !exception.access as i32 & 0xffff));
    }
    let end = question.len() + 2;
    for (at, instruction) in question.iter_mut().enumerate() {
        if instruction.offset == 0 {
            instruction.offset = (end - at - 1) as i16;
        }
    }
    question.extend([op(MOVE, RESULT, 0, 0, (!allow_by_default).into()), op(EXIT, 0, 0, 0, 0)]);
    question
}

fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: source << 4 | destination, offset, immediate }
}

#[cfg(test)]
#[path = "device_filter_test.rs"]
mod tests;
