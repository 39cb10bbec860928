//! Taking names and images out of the store.

use crate::digest::Digest;
use crate::reference::Reference;

use super::index::{Index, Lock};
use super::{Store, StoreError, resolve, staging};

/// How to remove.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Also if containers use it (they keep its disk by a name of their own) or it has several names.
    pub force: bool,
}

/// What a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// The image that went with its last name.
    pub deleted: Option<Digest>,
}

impl Store {
    /// Removes a name, and with its last name the image; or, by id, the image with all names.
    ///
    /// `users` names the containers of an image. It is asked under the store's lock, so a container that is created
    /// meanwhile either is seen or finds the image gone. Disks that no image needs any more are removed.
    pub fn remove(
        &self,
        what: &str,
        options: RemoveOptions,
        users: &dyn Fn(&Digest) -> Vec<String>,
    ) -> Result<Removal, StoreError> {
        let lock = Lock::take(self)?;
        let mut index = Index::read(self)?;
        let id = resolve::find(&index, what)?;
        let all = index.names_of(&id);
        let asked =
            what.parse::<Reference>().map(|name| name.to_string()).ok().filter(|name| all.contains(name));
        let (untagged, delete) = match asked {
            Some(name) => (vec![name], all.len() == 1),
            None if all.len() > 1 && !options.force => {
                return Err(StoreError::SeveralNames { image: what.to_owned(), names: all });
            }
            None => (all, true),
        };
        let users = if delete && !options.force { users(&id) } else { Vec::new() };
        if !users.is_empty() {
            return Err(StoreError::InUse { image: what.to_owned(), users });
        }
        for name in &untagged {
            index.names.remove(name);
        }
        if delete {
            index.images.remove(&id);
        }
        index.write(self, &lock)?;
        staging::sweep(self, &lock)?;
        let untagged = untagged.iter().filter_map(|name| name.parse().ok()).collect();
        Ok(Removal { untagged, deleted: delete.then_some(id) })
    }
}
