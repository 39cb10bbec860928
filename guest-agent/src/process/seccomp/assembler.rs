//! Writes classic BPF for seccomp. Every jump goes forward and at most to the end of the block being written.

use crate::sys::seccomp::Instruction;

use super::rules::{Condition, Test};

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_GREATER_OR_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A filter, or a block of one, being written.
#[derive(Debug, Default)]
pub struct Program(Vec<Instruction>);

/// Where a comparison leads.
#[derive(Clone, Copy, PartialEq)]
enum To {
    /// The next instruction.
    Next,
    /// Behind this condition: it holds.
    Holds,
    /// Behind the rule: it does not apply.
    Fails,
}

/// A step of a condition whose jumps have no distance yet.
enum Step {
    Plain(u16, u32),
    Compare(u16, u32, To, To),
}

impl Program {
    /// Loads the architecture for the comparisons that follow.
    pub fn load_architecture(&mut self) {
        self.push(LOAD_WORD, ARCHITECTURE, 0, 0);
    }

    /// Loads the system call's number for the comparisons that follow.
    pub fn load_number(&mut self) {
        self.push(LOAD_WORD, NUMBER, 0, 0);
    }

    /// Ends with `action` unless the loaded word is `value`.
    pub fn return_unless_equal(&mut self, value: u32, action: u32) {
        self.push(IF_EQUAL, value, 1, 0);
        self.return_always(action);
    }

    /// Ends with `action`.
    pub fn return_always(&mut self, action: u32) {
        self.push(RETURN, action, 0, 0);
    }

    /// Runs `block`, which must end the filter, if the loaded word is `value`.
    pub fn block_if_equal(&mut self, value: u32, block: Program) {
        // A comparison jumps 255 instructions at most, a plain jump as far as it likes.
        self.push(IF_EQUAL, value, 1, 0);
        self.push(JUMP, block.0.len() as u32, 0, 0);
        self.0.extend(block.0);
    }

    /// Runs the block of the range that the loaded word is in. Ranges come with their first values, in order, and the first
    /// of them is taken for everything below it too; each block must end the filter.
    pub fn search(mut ranges: Vec<(u32, Program)>) -> Program {
        let mut program = Program::default();
        if ranges.len() <= 1 {
            return ranges.pop().map_or(program, |(_, block)| block);
        }
        let high = ranges.split_off(ranges.len() / 2);
        let middle = high[0].0;
        let low = Self::search(ranges);
        match u8::try_from(low.0.len()) {
            Ok(skip) => program.push(IF_GREATER_OR_EQUAL, middle, skip, 0),
            Err(_) => {
                program.push(IF_GREATER_OR_EQUAL, middle, 0, 1);
                program.push(JUMP, low.0.len() as u32, 0, 0);
            }
        }
        program.append(low);
        program.append(Self::search(high));
        program
    }

    /// Goes on with `block`.
    pub fn append(&mut self, block: Program) {
        self.0.extend(block.0);
    }

    /// Ends with `action` if every condition holds. Loads other words.
    pub fn return_if_all(&mut self, conditions: &[Condition], action: u32) {
        let steps: Vec<Vec<Step>> = conditions.iter().map(steps).collect();
        let mut left = steps.iter().map(Vec::len).sum::<usize>();
        for condition in &steps {
            for (index, step) in condition.iter().enumerate() {
                left -= 1;
                // `left` steps and the return follow this one: six arguments make far fewer than 255.
                let distance = |to| match to {
                    To::Next => 0,
                    To::Holds => (condition.len() - index - 1) as u8,
                    To::Fails => (left + 1) as u8,
                };
                match *step {
                    Step::Plain(code, k) => self.push(code, k, 0, 0),
                    Step::Compare(code, k, yes, no) => self.push(code, k, distance(yes), distance(no)),
                }
            }
        }
        self.return_always(action);
    }

    /// The instructions.
    pub fn finish(self) -> Vec<Instruction> {
        self.0
    }

    fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.0.push(Instruction { code, jt, jf, k });
    }
}

/// A 64-bit comparison, high word first.
fn steps(condition: &Condition) -> Vec<Step> {
    use Step::{Compare, Plain};
    use To::{Fails, Holds, Next};
    let low = ARGUMENTS + 8 * condition.argument;
    let (high, low) = (Plain(LOAD_WORD, low + 4), Plain(LOAD_WORD, low));
    let (up, down) = (|value: u64| (value >> 32) as u32, |value: u64| value as u32);
    match condition.test {
        Test::Equal(value) => vec![
            high,
            Compare(IF_EQUAL, up(value), Next, Fails),
            low,
            Compare(IF_EQUAL, down(value), Holds, Fails),
        ],
        Test::NotEqual(value) => vec![
            high,
            Compare(IF_EQUAL, up(value), Next, Holds),
            low,
            Compare(IF_EQUAL, down(value), Fails, Holds),
        ],
        Test::MaskedEqual { mask, value } => vec![
            high,
            Plain(AND, up(mask)),
            Compare(IF_EQUAL, up(value), Next, Fails),
            low,
            Plain(AND, down(mask)),
            Compare(IF_EQUAL, down(value), Holds, Fails),
        ],
        Test::Greater(value) => ordered(high, low, value, IF_GREATER, Holds, Fails),
        Test::GreaterOrEqual(value) => ordered(high, low, value, IF_GREATER_OR_EQUAL, Holds, Fails),
        Test::Less(value) => ordered(high, low, value, IF_GREATER_OR_EQUAL, Fails, Holds),
        Test::LessOrEqual(value) => ordered(high, low, value, IF_GREATER, Fails, Holds),
    }
}

/// `above` when the argument is greater than `value` (or equal, if `compare_low` says so), else `below`.
fn ordered(high: Step, low: Step, value: u64, compare_low: u16, above: To, below: To) -> Vec<Step> {
    vec![
        high,
        Step::Compare(IF_GREATER, (value >> 32) as u32, above, To::Next),
        Step::Compare(IF_EQUAL, (value >> 32) as u32, To::Next, below),
        low,
        Step::Compare(compare_low, value as u32, above, below),
    ]
}
