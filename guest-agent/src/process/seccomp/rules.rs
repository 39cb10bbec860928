//! The rules of a seccomp section, sorted by system call.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use super::abi::Abi;
use crate::oci::SpecError;

/// A system call takes this many arguments.
const ARGUMENTS: usize = 6;

/// Everything a filter has to decide.
#[derive(Debug, Default)]
pub struct Rules {
    /// By system call number.
    pub by_number: BTreeMap<u32, SyscallRules>,
    /// The highest number that the section names: what lies above is newer than whoever wrote it.
    pub newest_named: Option<u32>,
}

/// What happens to one system call.
#[derive(Debug, Default)]
pub struct SyscallRules {
    /// The first whose conditions all hold decides.
    pub conditional: Vec<(Vec<Condition>, u32)>,
    /// Otherwise this; absent: the default action.
    pub plain: Option<u32>,
}

/// A comparison with one argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// From 0 to 5.
    pub argument: u32,
    /// How to compare.
    pub test: Test,
}

/// Unsigned 64-bit comparisons.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Test {
    /// Any other value.
    NotEqual(u64),
    /// Smaller.
    Less(u64),
    /// At most.
    LessOrEqual(u64),
    /// This value.
    Equal(u64),
    /// At least.
    GreaterOrEqual(u64),
    /// Greater.
    Greater(u64),
    /// This value in the bits of a mask.
    MaskedEqual {
        /// Which bits count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
}

impl Rules {
    /// Sorts a section's rules by the numbers of an ABI. A rule that only repeats the default is left out, as is a system call that this kernel
    /// does not have: profiles name those of every architecture.
    pub fn sort(seccomp: &LinuxSeccomp, default: u32, abi: &Abi) -> Result<Self, SpecError> {
        let mut rules = Self::default();
        for rule in seccomp.syscalls().iter().flatten() {
            let action = super::action(rule.action(), rule.errno_ret())?;
            let alternatives = alternatives(rule, abi)?;
            for name in rule.names().iter().filter(|_| action != default) {
                // With conditions on arguments that cannot be seen here: what forbids does so always, what allows never.
                if let Some((number, call)) = abi.multiplexed(name)
                    && (alternatives.is_empty() || !super::is_permissive(action))
                {
                    rules.by_number.entry(number).or_default().conditional.push((vec![call], action));
                }
            }
            for number in rule.names().iter().filter_map(|name| abi.number(name)) {
                rules.newest_named = rules.newest_named.max(Some(number));
                if action == default {
                    continue;
                }
                let entry = rules.by_number.entry(number).or_default();
                if alternatives.is_empty() {
                    entry.plain.get_or_insert(action);
                }
                entry.conditional.extend(alternatives.iter().map(|conditions| (conditions.clone(), action)));
            }
        }
        Ok(rules)
    }
}

/// The conditions of a rule. All must hold, except that a rule which names an argument twice means "any of these".
fn alternatives(rule: &LinuxSyscall, abi: &Abi) -> Result<Vec<Vec<Condition>>, SpecError> {
    let conditions: Vec<_> =
        rule.args().iter().flatten().map(|arg| condition(arg, abi)).collect::<Result<_, _>>()?;
    let mut seen = [false; ARGUMENTS];
    let twice =
        conditions.iter().any(|condition| std::mem::replace(&mut seen[condition.argument as usize], true));
    Ok(match (conditions.is_empty(), twice) {
        (true, _) => Vec::new(),
        (false, false) => vec![conditions],
        (false, true) => conditions.into_iter().map(|condition| vec![condition]).collect(),
    })
}

fn condition(arg: &LinuxSeccompArg, abi: &Abi) -> Result<Condition, SpecError> {
    if arg.index() >= ARGUMENTS {
        return Err(SpecError::invalid("linux.seccomp: args.index", format!("{} is over 5", arg.index())));
    }
    let value = arg.value() & abi.argument;
    let test = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => Test::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => Test::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => Test::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpEq => Test::Equal(value),
        LinuxSeccompOperator::ScmpCmpGe => Test::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => Test::Greater(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            Test::MaskedEqual { mask: value, value: arg.value_two().unwrap_or(0) & value }
        }
    };
    Ok(Condition { argument: arg.index() as u32, test })
}
