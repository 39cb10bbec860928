//! Applying the entries of a layer to the tree that lower layers left.
//!
//! Folders above an entry are found like a kernel finds them in a chroot: symlinks are followed, inside the tree only,
//! and `..` at the root stays there. Images rely on it (`lib/x` where `lib` is a symlink to `usr/lib`); and since the
//! tree is not the host's, there is nowhere else that a symlink could lead.

use super::{Attributes, Entry, EntryPath, Inode, InodeId, Kind, Layer, Tree, TreeError, lossy, path};

/// As many as Linux follows in one path.
const SYMLINKS_MAX: u32 = 40;
/// Folders passed on the way to one entry. [`Tree::steps`] adds them up for the whole image, which has a bound of its own.
const STEPS_MAX: u32 = 4096;

/// A path being followed: components still to come, next one last.
struct Walk {
    pending: Vec<Box<[u8]>>,
    symlinks: u32,
    steps: u32,
}

impl Walk {
    fn new(path: &[&[u8]]) -> Self {
        Self { pending: path.iter().rev().map(|name| (*name).into()).collect(), symlinks: 0, steps: 0 }
    }

    fn next(&mut self) -> Result<Option<Box<[u8]>>, TreeError> {
        self.steps += 1;
        if self.steps > STEPS_MAX { Err(TreeError::SymlinkLoop) } else { Ok(self.pending.pop()) }
    }

    /// Puts a symlink's target before what is still to come.
    fn detour(&mut self, target: &[u8]) -> Result<(), TreeError> {
        self.symlinks += 1;
        if self.symlinks > SYMLINKS_MAX {
            return Err(TreeError::SymlinkLoop);
        }
        let parts = path::components(target).map_err(TreeError::BadSymlink)?;
        self.pending.extend(parts.into_iter().rev().map(Box::from));
        Ok(())
    }
}

impl Tree {
    /// Puts a folder at a path. One that is there already keeps its entries and takes the new attributes; anything
    /// else in its place is replaced.
    pub fn put_directory(
        &mut self,
        path: &EntryPath,
        attributes: Attributes,
        layer: Layer,
    ) -> Result<(), TreeError> {
        let Some((parents, name)) = path.split() else {
            *self.attributes_mut(Self::ROOT) = attributes;
            return Ok(());
        };
        let parent = self.resolve(parents, layer)?;
        match self.entry(parent, name) {
            Some(entry) if self.directory(entry.inode).is_some() => {
                *self.attributes_mut(entry.inode) = attributes;
                self.name(parent, name, entry.inode, layer)
            }
            _ => self.add_directory(parent, name, attributes, layer).map(drop),
        }
    }

    /// Puts anything but a folder at a path, in place of whatever is there.
    pub fn put(&mut self, path: &EntryPath, inode: Inode, layer: Layer) -> Result<(), TreeError> {
        let (parents, name) = path.split().ok_or(TreeError::ReplacesRoot)?;
        let parent = self.resolve(parents, layer)?;
        self.add(parent, name, inode, layer).map(drop)
    }

    /// Gives the file at `target` a second name at `path`.
    pub fn put_link(&mut self, path: &EntryPath, target: &EntryPath, layer: Layer) -> Result<(), TreeError> {
        let (parents, name) = path.split().ok_or(TreeError::ReplacesRoot)?;
        let shown = || lossy(&target.components().join(&b'/'));
        let (target_parents, target_name) =
            target.split().ok_or_else(|| TreeError::LinkToDirectory(shown()))?;
        let found = self
            .find_directory(target_parents)?
            .and_then(|above| self.entry(above, target_name))
            .ok_or_else(|| TreeError::LinkTargetMissing(shown()))?;
        if self.directory(found.inode).is_some() {
            return Err(TreeError::LinkToDirectory(shown()));
        }
        let parent = self.resolve(parents, layer)?;
        self.name(parent, name, found.inode, layer)
    }

    /// Hides what lower layers have at a path. Nothing there is not an error.
    pub fn whiteout(&mut self, parents: &[&[u8]], name: &[u8], layer: Layer) -> Result<(), TreeError> {
        if let Some(parent) = self.find_directory(parents)? {
            self.hide_lower(parent, name, layer);
        }
        Ok(())
    }

    /// Hides all that lower layers have in a folder.
    pub fn make_opaque(&mut self, folder: &[&[u8]], layer: Layer) -> Result<(), TreeError> {
        if let Some(id) = self.find_directory(folder)? {
            self.hide_lower_in(id, layer);
        }
        Ok(())
    }

    /// Removes an entry unless this layer made it or something below it. True if it is gone.
    fn hide_lower(&mut self, parent: InodeId, name: &[u8], layer: Layer) -> bool {
        let Some(entry) = self.entry(parent, name) else { return true };
        let emptied = self.directory(entry.inode).is_none() || self.hide_lower_in(entry.inode, layer);
        let gone = emptied && entry.layer < layer;
        if gone && let Some(directory) = self.directory_mut(parent) {
            directory.entries.remove(name);
        }
        gone
    }

    /// Does that to all of a folder's entries. True if none is left. Recursion ends at `DEPTH_MAX`; a folder is searched
    /// once for each layer, since nothing of lower layers can come back.
    fn hide_lower_in(&mut self, folder: InodeId, layer: Layer) -> bool {
        let Some(directory) = self.directory_mut(folder) else { return true };
        if directory.lower_hidden_by == Some(layer) {
            return directory.entries.is_empty();
        }
        directory.lower_hidden_by = Some(layer);
        let names: Vec<Box<[u8]>> = directory.entries.keys().cloned().collect();
        self.steps += names.len() as u64;
        let mut empty = true;
        for name in &names {
            empty &= self.hide_lower(folder, name, layer);
        }
        empty
    }

    /// The folder at a path, made where missing.
    fn resolve(&mut self, parents: &[&[u8]], layer: Layer) -> Result<InodeId, TreeError> {
        let mut at = Self::ROOT;
        let mut walk = Walk::new(parents);
        while let Some(name) = walk.next()? {
            self.steps += 1;
            at = match self.step(at, &name, &mut walk)? {
                Some(next) => next,
                None => self.add_directory(at, &name, Attributes::implied_directory(), layer)?,
            };
        }
        Ok(at)
    }

    /// The folder at a path, if there is one.
    fn find_directory(&mut self, parents: &[&[u8]]) -> Result<Option<InodeId>, TreeError> {
        let mut at = Self::ROOT;
        let mut walk = Walk::new(parents);
        while let Some(name) = walk.next()? {
            self.steps += 1;
            match self.step(at, &name, &mut walk) {
                Ok(Some(next)) => at = next,
                Ok(None) | Err(TreeError::NotADirectory(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(at))
    }

    /// One component of a walk: the next folder, or `None` if the name is free.
    fn step(&self, at: InodeId, name: &[u8], walk: &mut Walk) -> Result<Option<InodeId>, TreeError> {
        if name == b".." {
            return Ok(self.directory(at).map(|directory| directory.parent));
        }
        let Some(Entry { inode, .. }) = self.entry(at, name) else { return Ok(None) };
        match &self.inode(inode).kind {
            Kind::Directory(_) => Ok(Some(inode)),
            Kind::Symlink(target) => {
                walk.detour(target)?;
                Ok(Some(if target.starts_with(b"/") { Self::ROOT } else { at }))
            }
            _ => Err(TreeError::NotADirectory(lossy(name))),
        }
    }
}

#[cfg(test)]
#[path = "apply_test.rs"]
mod tests;
