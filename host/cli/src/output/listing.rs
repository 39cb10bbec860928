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
    /// Columns of one's own, each a template: `table` and then what is apart by tabs.
    Columns(Vec<Template>),
}

impl FromStr for Format {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        Ok(match text {
            "table" => Self::Table,
            "json" => Self::Json,
            text => match text.strip_prefix("table ") {
                None => Self::Template(Template::parse(text)?),
                Some(columns) => {
                    let columns = columns.trim().replace("\\t", "\t");
                    Self::Columns(columns.split('\t').map(Template::parse).collect::<Result<_, _>>()?)
                }
            },
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
        Format::Columns(columns) => {
            let headings: Vec<String> = columns.iter().map(Template::heading).collect();
            let mut table = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
            for entry in entries {
                table.row(columns.iter().map(|column| column.render(entry)).collect::<Result<Vec<_>, _>>()?);
            }
            table.lines().iter().try_for_each(|text| line(text))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_ones_own_has_a_column_for_each_template() {
        let Format::Columns(columns) = r"table {{.ID}}\t{{.State.Status}}".parse().unwrap() else {
            panic!("no columns")
        };
        assert_eq!(columns.iter().map(Template::heading).collect::<Vec<_>>(), ["ID", "STATUS"]);
        assert_eq!("table".parse(), Ok(Format::Table));
        assert!("table {{.ID".parse::<Format>().is_err());
    }
}
