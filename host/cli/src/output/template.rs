//! `--format '{{.State.Status}}'`: the part of docker's templates that scripts use.
//!
//! A template is text with `{{.Path.To.Field}}` and `{{json .Path}}`; `{{.}}` is the whole. Names match without regard to
//! case. Nothing else of Go's template language is known, and it is refused by name.

use serde_json::Value;

/// A template that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { path: Vec<String>, json: bool },
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// A `{{` has no `}}`.
    #[error("the template {0:?} has a {{{{ without its }}}}")]
    Open(String),
    /// Something other than a field.
    #[error("{0:?} is not understood in a template: use {{{{.Field}}}} or {{{{json .Field}}}}")]
    Action(String),
    /// A field that is not there.
    #[error("there is no field {0:?}; `--format json` shows all")]
    NoField(String),
}

impl Template {
    /// Reads a template. `\t` and `\n` may be written as such.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let unescaped = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut rest = unescaped.as_str();
        let mut parts = Vec::new();
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) =
                after.split_once("}}").ok_or_else(|| TemplateError::Open(text.to_owned()))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(field(action)?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self { parts })
    }

    /// What heads a column of it: its fields by name.
    pub fn heading(&self) -> String {
        let of = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field { path, .. } => path.last().map(|name| name.to_uppercase()).unwrap_or_default(),
        };
        self.parts.iter().map(of).collect()
    }

    /// Fills the template in from `value`.
    pub fn render(&self, value: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field { path, json } => out.push_str(&show(look_up(value, path)?, *json)),
            }
        }
        Ok(out)
    }
}

fn field(action: &str) -> Result<Part, TemplateError> {
    let unknown = || TemplateError::Action(action.trim().to_owned());
    let trimmed = action.trim();
    let (path, json) = match trimmed.strip_prefix("json ") {
        Some(path) => (path.trim(), true),
        None => (trimmed, false),
    };
    let path = path.strip_prefix('.').ok_or_else(unknown)?;
    let names: Vec<String> = path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if path.contains(|c: char| c.is_whitespace() || "()|\"".contains(c)) {
        return Err(unknown());
    }
    Ok(Part::Field { path: names, json })
}

fn look_up<'a>(value: &'a Value, path: &[String]) -> Result<&'a Value, TemplateError> {
    path.iter().try_fold(value, |value, name| {
        let object = value.as_object().ok_or_else(|| TemplateError::NoField(path.join(".")))?;
        let found = object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        found.ok_or_else(|| TemplateError::NoField(path.join(".")))
    })
}

fn show(value: &Value, json: bool) -> String {
    match value {
        Value::String(text) if !json => text.clone(),
        Value::Array(items) if !json => {
            format!("[{}]", items.iter().map(|item| show(item, false)).collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> Value {
        serde_json::json!({"Id": "abc", "State": {"Status": "running", "Pid": 7}, "Args": ["a", "b"]})
    }

    #[test]
    fn fields_are_filled_in() {
        for (template, text) in [
            ("{{.Id}}", "abc"),
            ("{{ .State.Status }}:{{.State.Pid}}", "running:7"),
            ("{{.state.status}}\\t!", "running\t!"),
            ("{{json .State.Status}}", "\"running\""),
            ("{{json .Args}}", "[\"a\",\"b\"]"),
            ("{{.Args}}", "[a b]"),
            ("plain", "plain"),
        ] {
            assert_eq!(Template::parse(template).unwrap().render(&value()).unwrap(), text, "{template}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        assert_eq!(Template::parse("{{.Id"), Err(TemplateError::Open("{{.Id".into())));
        for action in ["range .Args", "if .State", "Id", ".Id | upper"] {
            assert_eq!(
                Template::parse(&format!("{{{{{action}}}}}")),
                Err(TemplateError::Action(action.into()))
            );
        }
        let missing = Template::parse("{{.State.Nothing}}").unwrap();
        assert_eq!(missing.render(&value()), Err(TemplateError::NoField("State.Nothing".into())));
    }
}
