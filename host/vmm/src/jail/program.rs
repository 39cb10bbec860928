//! A filter as BPF: a binary search over ranges of calls that are treated alike.
//!
//! When a filter is installed the kernel walks it once for every system call that exists, to learn which it always allows.
//! A chain of comparisons makes that walk 1.5 ms long at 500 million instructions a second, per filter; a tree a tenth of
//! it. The kernel also translates it to machine code, over and over until jumps are shortest, and so its length matters: all
//! comparisons share two returns. The form is classic BPF over `struct seccomp_data` (seccomp(2)).

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, sock_filter};

use super::filters::Rule;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const CALL: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// `AUDIT_ARCH_X86_64` (linux/audit.h): the machine number with the 64-bit and little-endian flags.
const X86_64: u32 = 0xc000_003e;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Kill,
    Allow,
    /// Allowed if any of these sets of arguments matches, all of it.
    Only(Vec<Vec<(u8, u64)>>),
}

/// Calls from a number up to the next range's, and what becomes of them.
type Range = (u32, Verdict);

/// Where a comparison leads: to an instruction, or to one of the two returns behind all of them.
#[derive(Clone, Copy)]
enum To {
    Step(usize),
    Allow,
    Kill,
}

/// An instruction before it is known how far its targets are.
enum Step {
    Load(u32),
    Compare { code: u16, value: u32, yes: To, no: To },
}

/// The program that allows exactly what `rules` name, in the process with this id, and kills it for anything else.
pub fn compile<'a>(rules: impl IntoIterator<Item = &'a Rule>, process: u32) -> BpfProgram {
    let mut calls: BTreeMap<u32, Verdict> = BTreeMap::new();
    for rule in rules {
        let verdict = calls.entry(rule.call as u32).or_insert_with(|| Verdict::Only(Vec::new()));
        match verdict {
            // Once a call is allowed whatever its arguments are, conditions add nothing.
            _ if rule.only.is_empty() => *verdict = Verdict::Allow,
            Verdict::Only(sets) => {
                sets.push(rule.only.iter().map(|(index, value)| (*index, value.number(process))).collect());
            }
            Verdict::Allow | Verdict::Kill => {}
        }
    }
    let mut program = vec![
        statement(LOAD_WORD, ARCHITECTURE),
        jump(JUMP_IF_EQUAL, X86_64, 1, 0),
        statement(RETURN, KILL),
        statement(LOAD_WORD, CALL),
    ];
    program.extend(search(&ranges(calls)));
    program
}

/// Every call there could be, in as few ranges as possible.
fn ranges(calls: BTreeMap<u32, Verdict>) -> Vec<Range> {
    let mut ranges = vec![(0, Verdict::Kill)];
    for (call, verdict) in calls {
        // What follows the call before is a range of its own, unless it is this call.
        ranges.pop_if(|(first, _)| *first == call);
        if ranges.last().is_none_or(|(_, before)| *before != verdict) {
            ranges.push((call, verdict));
        }
        ranges.push((call + 1, Verdict::Kill));
    }
    ranges
}

/// Decides about the calls of a slice of ranges.
fn search(ranges: &[Range]) -> BpfProgram {
    let mut steps = Vec::new();
    let first = tree(ranges, &mut steps);
    if let Some(program) = resolve(first, &steps) {
        return program;
    }
    // A conditional jump reaches 255 instructions; an unconditional one has no such bound.
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let low = search(low);
    let mut program = vec![jump(JUMP_IF_AT_LEAST, high[0].0, 0, 1), statement(JUMP, low.len() as u32)];
    program.extend(low);
    program.extend(search(high));
    program
}

/// Adds what decides about the calls of a slice of ranges; answers where that begins.
fn tree(ranges: &[Range], steps: &mut Vec<Step>) -> To {
    match ranges {
        [] | [(_, Verdict::Kill)] => To::Kill,
        [(_, Verdict::Allow)] => To::Allow,
        [(_, Verdict::Only(sets))] => arguments(sets, steps),
        ranges => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let here = steps.len();
            let node = |yes, no| Step::Compare { code: JUMP_IF_AT_LEAST, value: high[0].0, yes, no };
            steps.push(node(To::Kill, To::Kill));
            let no = tree(low, steps);
            let yes = tree(high, steps);
            steps[here] = node(yes, no);
            To::Step(here)
        }
    }
}

/// Adds what decides about one call by its arguments: the low word of each decides, as the kernel reads `int` and flags
/// arguments.
fn arguments(sets: &[Vec<(u8, u64)>], steps: &mut Vec<Step>) -> To {
    let here = steps.len();
    for (left, set) in (0..sets.len()).rev().zip(sets) {
        // A mismatch goes on behind this set, two instructions for each argument.
        let next = if left == 0 { To::Kill } else { To::Step(steps.len() + 2 * set.len()) };
        for (left, (argument, value)) in (0..set.len()).rev().zip(set) {
            steps.push(Step::Load(ARGUMENTS + 8 * u32::from(*argument)));
            let yes = if left == 0 { To::Allow } else { To::Step(steps.len() + 1) };
            steps.push(Step::Compare { code: JUMP_IF_EQUAL, value: *value as u32, yes, no: next });
        }
    }
    To::Step(here)
}

/// The steps as instructions with both returns behind; `None` if a jump does not reach.
fn resolve(first: To, steps: &[Step]) -> Option<BpfProgram> {
    let place = |to| match to {
        To::Step(step) => step,
        To::Allow => steps.len(),
        To::Kill => steps.len() + 1,
    };
    let mut program = Vec::with_capacity(steps.len() + 2);
    for (here, step) in steps.iter().enumerate() {
        let distance = |to| u8::try_from(place(to) - here - 1).ok();
        program.push(match step {
            Step::Load(offset) => statement(LOAD_WORD, *offset),
            Step::Compare { code, value, yes, no } => jump(*code, *value, distance(*yes)?, distance(*no)?),
        });
    }
    program.extend([statement(RETURN, ALLOW), statement(RETURN, KILL)]);
    // Of a single range there is no step to begin with.
    Some(if matches!(first, To::Kill) { vec![statement(RETURN, KILL)] } else { program })
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter { code, jt: if_true, jf: if_false, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::filters::{self, ThreadKind};

    const PROCESS: u32 = 4711;

    /// What the program answers, and after how many steps.
    fn run(program: &BpfProgram, call: u32, arguments: [u64; 6]) -> (u32, usize) {
        let mut accumulator = 0;
        let (mut at, mut steps) = (0usize, 0);
        loop {
            let step = &program[at];
            (at, steps) = (at + 1, steps + 1);
            match step.code {
                LOAD_WORD if step.k == CALL => accumulator = call,
                LOAD_WORD if step.k == ARCHITECTURE => accumulator = X86_64,
                LOAD_WORD => accumulator = arguments[(step.k - ARGUMENTS) as usize / 8] as u32,
                JUMP_IF_EQUAL => at += usize::from(if accumulator == step.k { step.jt } else { step.jf }),
                JUMP_IF_AT_LEAST => at += usize::from(if accumulator >= step.k { step.jt } else { step.jf }),
                JUMP => at += step.k as usize,
                RETURN => return (step.k, steps),
                code => panic!("unexpected code {code:#x}"),
            }
        }
    }

    #[test]
    fn exactly_the_named_calls_are_allowed() {
        for kind in [ThreadKind::Control, ThreadKind::Vcpu, ThreadKind::Devices, ThreadKind::Disk] {
            let rules: Vec<&Rule> = filters::of(kind).into_iter().flatten().collect();
            let program = compile(rules.iter().copied(), PROCESS);
            for call in 0..600 {
                let named: Vec<_> = rules.iter().filter(|rule| rule.call == i64::from(call as i32)).collect();
                let unconditional = named.iter().any(|rule| rule.only.is_empty());
                let expected = if unconditional { ALLOW } else { KILL };
                assert_eq!(run(&program, call, [u64::MAX; 6]).0, expected, "{kind:?}: call {call}");
                for rule in named {
                    let mut arguments = [u64::MAX; 6];
                    for (argument, value) in rule.only {
                        // Until the last argument matches, the answer is still no.
                        assert_eq!(run(&program, call, arguments).0, expected, "{kind:?}: call {call}");
                        arguments[usize::from(*argument)] = value.number(PROCESS);
                    }
                    assert_eq!(run(&program, call, arguments).0, ALLOW, "{kind:?}: call {call}");
                }
            }
        }
    }

    #[test]
    fn the_kick_signal_goes_to_the_own_process_only() {
        let program = compile(filters::of(ThreadKind::Control).into_iter().flatten(), PROCESS);
        let kick = |process, signal| {
            run(&program, libc::SYS_tgkill as u32, [process, 1, signal, 0, 0, 0].map(u64::from)).0
        };
        let signal = crate::vcpu::KICK_SIGNAL as u32;
        assert_eq!(kick(PROCESS, signal), ALLOW);
        assert_eq!(kick(PROCESS + 1, signal), KILL);
        assert_eq!(kick(PROCESS, libc::SIGKILL as u32), KILL);
    }

    #[test]
    fn a_call_that_is_not_named_is_found_out_in_few_steps() {
        let program = compile(filters::of(ThreadKind::Devices).into_iter().flatten(), PROCESS);
        let longest = (0..600).map(|call| run(&program, call, [0; 6]).1).max();
        assert!(longest < Some(16), "{longest:?} steps");
        assert!(program.len() < 80, "{} instructions", program.len());
    }

    #[test]
    fn a_tree_larger_than_a_conditional_jump_reaches_still_works() {
        let rules: Vec<Rule> =
            (0..600).map(|call| Rule { call: call * 2, only: &[], reason: "every other" }).collect();
        let program = compile(&rules, PROCESS);
        for call in 0..1200 {
            let expected = if call % 2 == 0 { ALLOW } else { KILL };
            assert_eq!(run(&program, call, [0; 6]).0, expected, "call {call}");
        }
    }
}
