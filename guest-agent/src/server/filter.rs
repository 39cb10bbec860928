//! The filter of `Tasks.List`: containerd's, as far as two fields need it.
//!
//! `id==web,status!=stopped`: a comma is and; a value may stand in double quotes.

use tonic::Status;

use crate::container::Described;

/// What a task is to be like.
#[derive(Debug)]
pub struct Filter(Vec<Wish>);

#[derive(Debug)]
struct Wish {
    field: Field,
    equal: bool,
    value: String,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Id,
    Status,
}

impl Filter {
    /// Reads a filter; an empty one lets all through. INVALID_ARGUMENT for what it does not know.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let wishes = text.split(',').filter(|_| !text.is_empty()).map(Wish::parse);
        wishes.collect::<Option<_>>().map(Self).ok_or_else(|| {
            Status::invalid_argument(format!(
                "the filter {text:?} is not understood: use id or status with == or != and a value, and a comma for and"
            ))
        })
    }

    /// Whether a task is so.
    pub fn accepts(&self, task: &Described) -> bool {
        self.agrees(&task.id, task.status.name())
    }

    fn agrees(&self, id: &str, status: &str) -> bool {
        self.0.iter().all(|wish| {
            let told = match wish.field {
                Field::Id => id,
                Field::Status => status,
            };
            (told == wish.value) == wish.equal
        })
    }
}

impl Wish {
    fn parse(text: &str) -> Option<Self> {
        let (field, value, equal) = match text.split_once("==") {
            Some((field, value)) => (field, value, true),
            None => text.split_once("!=").map(|(field, value)| (field, value, false))?,
        };
        let field = match field.trim() {
            "id" | "container_id" => Field::Id,
            "status" => Field::Status,
            _ => return None,
        };
        let value = value.trim();
        let value = match value.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"')?,
            None => value,
        };
        let plain = !value.is_empty() && !value.contains(['"', '=', '~', '\\']);
        plain.then(|| Self { field, equal, value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_chosen_by_id_and_status() {
        for (filter, chosen) in [
            ("", true),
            ("id==web", true),
            ("container_id==\"web\", status==running", true),
            ("id!=web", false),
            ("status!=stopped", true),
            ("id==web,status==paused", false),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().agrees("web", "running"), chosen, "{filter}");
        }
    }

    #[test]
    fn a_filter_that_is_not_known_is_refused_by_its_text() {
        for filter in ["web", "labels.a==b", "id~=w.*", "id==", "id==\"web", "id==web,", "status===running"] {
            let refused = Filter::parse(filter).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
            assert!(refused.message().contains(&format!("{filter:?}")), "{refused}");
        }
    }
}
