//! A file system tree in memory: what merged layers, or a folder, look like.
//!
//! Only the index lives here (names, owners, times, attributes); a file's bytes stay where its [`Content`] points.
//! Inodes are kept in one arena and named by [`InodeId`], so that hard links share one. Each directory entry remembers
//! the layer that made it, because a whiteout hides lower layers only, whatever the order of entries in its own.

mod apply;
mod path;

use std::collections::BTreeMap;

use thiserror::Error;

pub use path::{EntryPath, PathError};

use crate::limits::DEPTH_MAX;

/// Names one inode of its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(u32);

/// Number of a layer, the lowest being 0.
pub type Layer = u32;

impl InodeId {
    /// Where the inode is in tables of one element per inode.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Seconds and nanoseconds since 1970, the nanoseconds counting forward also before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// The rest, below 1 000 000 000.
    pub nanoseconds: u32,
}

/// Extended attributes by full name (`security.capability`), sorted as stored.
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// What every kind of file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions with set-user-id, set-group-id and sticky bits; nothing above 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of its bytes.
    pub mtime: Time,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Attributes {
    /// A folder that no entry describes: root's, readable by all, and as old as time.
    pub fn implied_directory() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), xattrs: Xattrs::new() }
    }
}

/// Device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Twelve bits.
    pub major: u32,
    /// Twenty bits.
    pub minor: u32,
}

impl Device {
    /// A device number that Linux can hold.
    pub fn new(major: u64, minor: u64) -> Option<Self> {
        (major < 1 << 12 && minor < 1 << 20).then_some(Self { major: major as u32, minor: minor as u32 })
    }

    /// Linux' 32-bit form, as file systems store it.
    pub fn encoded(self) -> u32 {
        (self.minor & 0xff) | (self.major << 8) | ((self.minor & !0xff) << 12)
    }
}

/// Where the bytes of a regular file are; the store that holds them gives `key` its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Position or index in the content store.
    pub key: u64,
    /// Length in bytes.
    pub size: u64,
}

/// What a file is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A folder.
    Directory(Directory),
    /// Bytes.
    File(Content),
    /// A symbolic link and its target, which is not interpreted.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A unix socket's place.
    Socket,
}

/// A folder's entries, sorted by name.
#[derive(Clone, Debug)]
pub struct Directory {
    entries: BTreeMap<Box<[u8]>, Entry>,
    parent: InodeId,
    depth: u16,
    /// The last layer whose whiteouts hid everything of lower layers in here.
    lower_hidden_by: Option<Layer>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    inode: InodeId,
    layer: Layer,
}

impl Directory {
    fn new(parent: InodeId, depth: u16) -> Self {
        Self { entries: BTreeMap::new(), parent, depth, lower_hidden_by: None }
    }

    /// Names with their inodes, sorted bytewise.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], InodeId)> {
        self.entries.iter().map(|(name, entry)| (&**name, entry.inode))
    }

    /// The folder above; the root's is the root.
    pub fn parent(&self) -> InodeId {
        self.parent
    }
}

/// One file.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Owner, mode, times and attributes.
    pub attributes: Attributes,
    /// What it is.
    pub kind: Kind,
}

/// Why an entry does not fit in the tree.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TreeError {
    /// Symlinks lead in a circle, or on and on.
    #[error("the folders above it go through too many symlinks")]
    SymlinkLoop,
    /// Too deep.
    #[error("it lies deeper than {DEPTH_MAX} folders")]
    TooDeep,
    /// Something other than a folder is where a folder has to be.
    #[error("{0:?} above it is not a folder")]
    NotADirectory(String),
    /// A hard link to nothing.
    #[error("hard link to {0:?}, which is not there")]
    LinkTargetMissing(String),
    /// A hard link to a folder.
    #[error("hard link to {0:?}, which is a folder")]
    LinkToDirectory(String),
    /// The root of the image must stay a folder.
    #[error("it would replace the image's root folder")]
    ReplacesRoot,
    /// A symlink in the image has a target that no path can be.
    #[error("the folders above it go through a bad symlink")]
    BadSymlink(#[source] PathError),
    /// More inodes than ids.
    #[error("the image has too many files")]
    TooManyInodes,
}

/// A tree with a root folder.
#[derive(Clone, Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    /// See [`Tree::steps`].
    steps: u64,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// The root folder's inode.
    pub const ROOT: InodeId = InodeId(0);

    /// An empty root.
    pub fn new() -> Self {
        let root = Directory::new(Self::ROOT, 0);
        Self {
            inodes: vec![Inode { attributes: Attributes::implied_directory(), kind: Kind::Directory(root) }],
            steps: 0,
        }
    }

    /// The inode of an id of this tree.
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.index()]
    }

    /// How many ids there are, counting inodes that nothing names any more.
    pub fn id_count(&self) -> usize {
        self.inodes.len()
    }

    /// How much work layers have made so far: folders passed on the way to entries, and names that whiteouts looked at.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Changes what describes the inode, not what it is.
    pub fn attributes_mut(&mut self, id: InodeId) -> &mut Attributes {
        &mut self.inodes[id.index()].attributes
    }

    /// Adds a folder to a folder, which must not have that name yet.
    pub fn add_directory(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: Attributes,
        layer: Layer,
    ) -> Result<InodeId, TreeError> {
        let depth = self.directory(parent).map_or(0, |above| above.depth) + 1;
        if depth > DEPTH_MAX {
            return Err(TreeError::TooDeep);
        }
        let directory = Directory::new(parent, depth);
        self.add(parent, name, Inode { attributes, kind: Kind::Directory(directory) }, layer)
    }

    /// Adds anything but a folder, in place of what has that name. Folders go through [`Tree::add_directory`].
    pub fn add(
        &mut self,
        parent: InodeId,
        name: &[u8],
        inode: Inode,
        layer: Layer,
    ) -> Result<InodeId, TreeError> {
        let id = InodeId(u32::try_from(self.inodes.len()).map_err(|_| TreeError::TooManyInodes)?);
        self.inodes.push(inode);
        self.name(parent, name, id, layer)?;
        Ok(id)
    }

    /// Gives an inode one more name.
    pub fn name(
        &mut self,
        parent: InodeId,
        name: &[u8],
        inode: InodeId,
        layer: Layer,
    ) -> Result<(), TreeError> {
        let directory = self.directory_mut(parent).ok_or_else(|| TreeError::NotADirectory(lossy(name)))?;
        directory.entries.insert(name.into(), Entry { inode, layer });
        Ok(())
    }

    /// The folder of an id, if it is one.
    pub fn directory(&self, id: InodeId) -> Option<&Directory> {
        match &self.inode(id).kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn directory_mut(&mut self, id: InodeId) -> Option<&mut Directory> {
        match &mut self.inodes[id.index()].kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn entry(&self, parent: InodeId, name: &[u8]) -> Option<Entry> {
        self.directory(parent)?.entries.get(name).copied()
    }
}

/// Bytes of a name for people.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(300).collect()
}
