//! Where everything goes, decided before a byte is written.
//!
//! Inodes are ordered breadth first, so that what one folder lists lies together. An inode with its attributes and
//! inline bytes stays inside one block: the kernel demands it of inline bytes, and reads are cheaper. Bytes are inlined
//! when they are less than half a block, else the gaps before them would cost more than they save; folders and symlinks
//! whenever they fit, since a second read would be dearer there.

use std::collections::{HashMap, VecDeque};

use crate::tree::{Directory, InodeId, Kind, Time, Tree};

use super::format::{BLOCK, Layout, RawInode, SLOT, SUPERBLOCK_AT, SUPERBLOCK_LEN};
use super::{WriteError, directory, xattr};

const FILE_INLINE_MAX: u64 = BLOCK / 2;

/// The place and form of one inode.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The inode.
    pub inode: InodeId,
    /// Where it starts in the image.
    pub offset: u64,
    /// Length of its stored attributes.
    pub xattrs_len: usize,
    /// 32-byte form.
    pub compact: bool,
    /// Names; for a folder also its own `.` and its folders' `..`.
    pub links: u32,
    /// Length of its bytes; for a folder or symlink, of what stands for them.
    pub size: u64,
    /// Where the bytes go.
    pub layout: Layout,
    /// First block of the bytes outside of the inode; 0 if there are none.
    pub first_block: u32,
}

impl Placed {
    /// The inode's number.
    pub fn nid(&self) -> u64 {
        self.offset / SLOT
    }

    /// Bytes right behind the inode.
    pub fn inline_len(&self) -> u64 {
        if self.layout == Layout::Inline { self.size % BLOCK } else { 0 }
    }

    /// Bytes in blocks of their own.
    pub fn outside_len(&self) -> u64 {
        self.size - self.inline_len()
    }
}

/// A whole image, planned.
pub struct Plan {
    /// Inodes in the order of their places. The root is first.
    pub placed: Vec<Placed>,
    /// Time of the compact inodes: the one that most inodes have.
    pub time: Time,
    /// Blocks of the image.
    pub blocks: u32,
    by_inode: Vec<u32>,
}

impl Plan {
    /// Plans the image of a tree.
    pub fn new(tree: &Tree) -> Result<Self, WriteError> {
        let (order, links) = breadth_first(tree);
        let time = common_time(tree, &order);
        let mut by_inode = vec![u32::MAX; tree.id_count()];
        let mut placed = Vec::with_capacity(order.len());
        let mut end = (SUPERBLOCK_AT + SUPERBLOCK_LEN) as u64;
        for id in order {
            by_inode[id.index()] = placed.len() as u32;
            placed.push(place(tree, id, links[id.index()], time, &mut end)?);
        }
        let mut block = end.div_ceil(BLOCK);
        for inode in &mut placed {
            let blocks = inode.outside_len().div_ceil(BLOCK);
            if blocks > 0 {
                inode.first_block = u32::try_from(block).map_err(|_| WriteError::TooLarge)?;
            }
            block = block.checked_add(blocks).ok_or(WriteError::TooLarge)?;
        }
        let blocks = u32::try_from(block).map_err(|_| WriteError::TooLarge)?;
        Ok(Self { placed, time, blocks, by_inode })
    }

    /// The number of an inode that the tree's folders name.
    pub fn nid(&self, id: InodeId) -> u64 {
        self.placed[self.by_inode[id.index()] as usize].nid()
    }
}

/// The names of a folder as stored: `.` and `..` in their sorted places.
pub fn names(directory: &Directory, own: InodeId) -> impl Iterator<Item = (&[u8], InodeId)> {
    let mut dots = [(&b"."[..], own), (&b".."[..], directory.parent())].into_iter().peekable();
    let mut entries = directory.entries().peekable();
    std::iter::from_fn(move || match (dots.peek(), entries.peek()) {
        (Some(dot), Some(entry)) if entry.0 < dot.0 => entries.next(),
        (Some(_), _) => dots.next(),
        (None, _) => entries.next(),
    })
}

/// Reachable inodes, folders before what they list, and the number of names of every inode.
fn breadth_first(tree: &Tree) -> (Vec<InodeId>, Vec<u32>) {
    let mut links = vec![0; tree.id_count()];
    links[Tree::ROOT.index()] = 2;
    let mut order = vec![Tree::ROOT];
    let mut folders = VecDeque::from([Tree::ROOT]);
    while let Some(folder) = folders.pop_front() {
        for (_, child) in tree.directory(folder).into_iter().flat_map(Directory::entries) {
            if links[child.index()] == 0 {
                order.push(child);
            }
            if tree.directory(child).is_some() {
                links[child.index()] = 2;
                links[folder.index()] += 1;
                folders.push_back(child);
            } else {
                links[child.index()] += 1;
            }
        }
    }
    (order, links)
}

/// The most frequent time, the earliest of equals.
fn common_time(tree: &Tree, order: &[InodeId]) -> Time {
    let mut counts = HashMap::<Time, u32>::new();
    for id in order {
        *counts.entry(tree.inode(*id).attributes.mtime).or_default() += 1;
    }
    let best = counts.into_iter().max_by(|(t1, n1), (t2, n2)| n1.cmp(n2).then(t2.cmp(t1)));
    best.map(|(time, _)| time).unwrap_or_default()
}

fn place(tree: &Tree, id: InodeId, links: u32, time: Time, end: &mut u64) -> Result<Placed, WriteError> {
    let inode = tree.inode(id);
    let (size, inline_max) = match &inode.kind {
        Kind::Directory(folder) => (directory::encoded_len(names(folder, id).map(|(name, _)| name)), BLOCK),
        Kind::Symlink(target) => (target.len() as u64, BLOCK),
        Kind::File(content) => (content.size, FILE_INLINE_MAX),
        Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo | Kind::Socket => (0, 0),
    };
    let attributes = &inode.attributes;
    let compact = RawInode::fits_compact(attributes.uid, attributes.gid, links, size, attributes.mtime, time);
    let xattrs_len = xattr::encode(&attributes.xattrs)?.len();
    let head = RawInode::len(compact) + xattrs_len as u64;
    let tail = size % BLOCK;
    let inline = tail > 0 && tail < inline_max && head + tail <= BLOCK;
    let need = head + if inline { tail } else { 0 };
    let mut offset = end.next_multiple_of(SLOT);
    if offset % BLOCK + need > BLOCK {
        offset = offset.next_multiple_of(BLOCK);
    }
    *end = offset + need;
    let layout = if inline { Layout::Inline } else { Layout::Plain };
    Ok(Placed { inode: id, offset, xattrs_len, compact, links, size, layout, first_block: 0 })
}
