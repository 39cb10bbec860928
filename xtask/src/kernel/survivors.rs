//! Whether what was asked for is what came out.
//!
//! kconfig drops a symbol silently when a dependency is missing, and switches one on silently when another selects it. Both
//! would be found out much later, by a container that fails; here they stop the build, each by name.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result};

use super::fragment::{Asked, Value, setting};

/// The outcome of kconfig: a `.config`.
#[derive(Debug)]
pub struct Config(HashMap<String, Value>);

impl Config {
    /// Reads the text of a `.config`.
    pub fn parse(text: &str) -> Config {
        Config(text.lines().filter_map(setting).collect())
    }

    /// The value of a symbol; one that is not listed is off.
    pub fn value(&self, symbol: &str) -> &Value {
        self.0.get(symbol).unwrap_or(&Value::Off)
    }
}

/// A symbol that did not come out as asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// No such option in this kernel: misspelt, renamed or removed.
    #[error("{}: this kernel has no symbol {}", .0.place, .0.symbol)]
    Unknown(Asked),
    /// Something else came out.
    #[error("{}: {} is {found}, asked was {}", asked.place, asked.symbol, asked.value)]
    Changed {
        /// What was asked for.
        asked: Asked,
        /// What came out.
        found: Value,
    },
}

/// All of `asked` that `config` does not have as asked; `known` are the names that the kernel's Kconfig files define.
pub fn lost(asked: &[Asked], config: &Config, known: &HashSet<String>) -> Vec<Lost> {
    let check = |one: &Asked| {
        let found = config.value(&one.symbol);
        if !known.contains(&one.symbol) {
            Some(Lost::Unknown(one.clone()))
        } else if *found != one.value {
            Some(Lost::Changed { asked: one.clone(), found: found.clone() })
        } else {
            None
        }
    };
    asked.iter().filter_map(check).collect()
}

/// The names that a Kconfig file defines. Members of a choice are indented, so help texts may add a word: no harm.
pub fn defined(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_start).filter_map(|line| {
        let rest = line.strip_prefix("config").or_else(|| line.strip_prefix("menuconfig"))?;
        rest.starts_with([' ', '\t']).then(|| rest.trim())
    })
}

/// The names defined anywhere in a kernel source tree, as far as x86 sees them.
pub fn known_symbols(source: &Path) -> Result<HashSet<String>> {
    let mut known = HashSet::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        let context = || format!("failed to look for Kconfig files in {}", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().with_context(context)?;
            if kind.is_dir() && !(folder.ends_with("arch") && name != "x86") {
                folders.push(path);
            } else if kind.is_file() && name.to_string_lossy().starts_with("Kconfig") {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("failed to read {}", path.display()))?;
                known.extend(defined(&text).map(str::to_owned));
            }
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::super::fragment::combine;
    use super::*;

    fn said(asked: &str, config: &str) -> Vec<String> {
        let asked = combine([("a.config", asked)]).expect("a good fragment").asked;
        let known = defined("config A\nconfig B\n\tbool\nmenuconfig NAME\n").map(str::to_owned).collect();
        lost(&asked, &Config::parse(config), &known).iter().map(Lost::to_string).collect()
    }

    #[test]
    fn all_as_asked_is_silent() {
        let asked = "# Why.\nCONFIG_A=y\n# Why not.\n# CONFIG_B is not set\n# Why.\nCONFIG_NAME=\"x\"\n";
        assert!(said(asked, "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_NAME=\"x\"\n").is_empty());
        // kconfig does not list what cannot be chosen: that is off too.
        assert!(said(asked, "CONFIG_A=y\nCONFIG_NAME=\"x\"\n").is_empty());
    }

    #[test]
    fn a_dropped_symbol_is_named() {
        assert_eq!(said("# Why.\nCONFIG_A=y\n", "# empty\n"), ["a.config:2: A is off, asked was y"]);
    }

    #[test]
    fn a_symbol_asked_off_and_selected_by_another_is_named() {
        assert_eq!(
            said("# Why not.\n# CONFIG_B is not set\n", "CONFIG_B=y\n"),
            ["a.config:2: B is y, asked was off"]
        );
    }

    #[test]
    fn another_value_is_named() {
        assert_eq!(
            said("# Why.\nCONFIG_NAME=\"x\"\n", "CONFIG_NAME=\"y\"\n"),
            ["a.config:2: NAME is \"y\", asked was \"x\""]
        );
    }

    #[test]
    fn a_misspelt_symbol_is_named_even_when_asked_off() {
        assert_eq!(
            said("# Why not.\n# CONFIG_TYPO is not set\n", ""),
            ["a.config:2: this kernel has no symbol TYPO"]
        );
    }

    #[test]
    fn every_loss_is_reported_not_just_the_first() {
        assert_eq!(said("# Why.\nCONFIG_A=y\n# Why.\nCONFIG_B=y\n", "").len(), 2);
    }

    #[test]
    fn names_come_from_config_lines_only() {
        let text = "config ONE\n\tbool \"One\"\n\tdepends on TWO\nmenuconfig\tTHREE\nconfigfs is not one\n\tconfig FOUR\n";
        assert_eq!(defined(text).collect::<Vec<_>>(), ["ONE", "THREE", "FOUR"]);
    }
}
