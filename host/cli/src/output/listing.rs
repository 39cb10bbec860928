//! One way for every command that lists: a table, `--format json`, `--format TEMPLATE`, `-q`.

use std::str::FromStr;

use serde_json::Value;

use super::{Table, Template, TemplateError, line};

/// `--format`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Columns with headings.
    #[default]
    Table,
    /// One JSON array.
    Json,
    /// A line for each entry.
    Template(Template),
}

impl FromStr for Format {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        Ok(match text {
            "table" => Self::Table,
            "json" => Self::Json,
            template => Self::Template(Template::parse(template)?),
        })
    }
}

/// Prints `entries` in the format wanted; `table` is only asked when columns are.
pub fn print(format: &Format, entries: &[Value], table: impl FnOnce() -> Table) -> anyhow::Result<()> {
    match format {
        Format::Table => table().lines().iter().try_for_each(|text| line(text))?,
        Format::Json => line(&serde_json::to_string_pretty(entries)?)?,
        Format::Template(template) => {
            for entry in entries {
                line(&template.render(entry)?)?;
            }
        }
    }
    Ok(())
}
