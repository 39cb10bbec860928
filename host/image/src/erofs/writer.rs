//! Writes a [`Plan`] from front to back, then puts the checksum in the superblock.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use crate::tree::{Kind, Tree};

use super::directory::{self, Dirent};
use super::format::{BLOCK, CHECKSUM_AT, RawInode, SUPERBLOCK_AT, Superblock, crc32c};
use super::plan::{self, Placed, Plan};
use super::{Advance, Contents, WriteError, xattr};

const COPY_BUFFER: usize = 1 << 20;
const ZEROS: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

// `st_mode`'s file type bits.
const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFREG: u16 = 0o100_000;
const S_IFLNK: u16 = 0o120_000;
const S_IFSOCK: u16 = 0o140_000;

pub(super) fn write(
    tree: &Tree,
    contents: &dyn Contents,
    image: &File,
    advance: Advance,
) -> Result<(), WriteError> {
    let plan = Plan::new(tree)?;
    let file_size = |placed: &Placed| match tree.inode(placed.inode).kind {
        Kind::File(content) => content.size,
        _ => 0,
    };
    let total = plan.placed.iter().map(file_size).sum();
    let mut writer = Writer { tree, contents, plan: &plan, out: Out::new(image), advance, done: 0, total };
    writer.superblock()?;
    for (number, placed) in (1..).zip(&plan.placed) {
        writer.inode(number, placed)?;
    }
    for placed in &plan.placed {
        writer.outside(placed)?;
    }
    writer.out.pad_to(u64::from(plan.blocks) * BLOCK)?;
    writer.out.inner.flush().map_err(WriteError::Image)?;
    drop(writer);
    image.set_len(u64::from(plan.blocks) * BLOCK).and_then(|()| seal(image)).map_err(WriteError::Image)
}

/// The checksum covers the first block from the superblock on, its own field being zero.
fn seal(image: &File) -> std::io::Result<()> {
    let mut covered = [0; BLOCK as usize - SUPERBLOCK_AT];
    image.read_exact_at(&mut covered, SUPERBLOCK_AT as u64)?;
    image.write_all_at(&crc32c(&covered).to_le_bytes(), CHECKSUM_AT as u64)
}

struct Writer<'a> {
    tree: &'a Tree,
    contents: &'a dyn Contents,
    plan: &'a Plan,
    out: Out<'a>,
    advance: Advance<'a>,
    done: u64,
    total: u64,
}

impl Writer<'_> {
    fn superblock(&mut self) -> Result<(), WriteError> {
        self.out.pad_to(SUPERBLOCK_AT as u64)?;
        let superblock = Superblock {
            root: self.plan.nid(Tree::ROOT) as u16,
            inodes: self.plan.placed.len() as u64,
            time: self.plan.time,
            blocks: self.plan.blocks,
        };
        self.out.put(&superblock.encode())
    }

    fn inode(&mut self, number: u32, placed: &Placed) -> Result<(), WriteError> {
        let inode = self.tree.inode(placed.inode);
        let attributes = &inode.attributes;
        let union = match &inode.kind {
            Kind::CharDevice(device) | Kind::BlockDevice(device) => device.encoded(),
            _ => placed.first_block,
        };
        let raw = RawInode {
            compact: placed.compact,
            layout: placed.layout,
            xattr_count: xattr::count(placed.xattrs_len),
            mode: type_bits(&inode.kind) | attributes.mode & 0o7777,
            links: placed.links,
            size: placed.size,
            union,
            number,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
        };
        self.out.pad_to(placed.offset)?;
        self.out.put(&raw.encode())?;
        self.out.put(&xattr::encode(&attributes.xattrs)?)?;
        self.bytes(placed, placed.outside_len(), placed.size)
    }

    fn outside(&mut self, placed: &Placed) -> Result<(), WriteError> {
        if placed.outside_len() == 0 {
            return Ok(());
        }
        self.out.pad_to(u64::from(placed.first_block) * BLOCK)?;
        self.bytes(placed, 0, placed.outside_len())
    }

    /// Writes `start..end` of an inode's bytes.
    fn bytes(&mut self, placed: &Placed, start: u64, end: u64) -> Result<(), WriteError> {
        if start == end {
            return Ok(());
        }
        match &self.tree.inode(placed.inode).kind {
            Kind::File(content) => {
                let mut at = start;
                let mut buffer = vec![0; COPY_BUFFER.min((end - start) as usize)];
                while at < end {
                    let chunk = &mut buffer[..COPY_BUFFER.min((end - at) as usize)];
                    self.contents.read_at(content, at, chunk).map_err(WriteError::Content)?;
                    self.out.put_sparsely(chunk)?;
                    at += chunk.len() as u64;
                    self.report(chunk.len())?;
                }
                Ok(())
            }
            Kind::Symlink(target) => self.out.put(&target[start as usize..end as usize]),
            Kind::Directory(folder) => {
                let entries: Vec<Dirent> = plan::names(folder, placed.inode)
                    .map(|(name, id)| {
                        let file_type = dirent_type(&self.tree.inode(id).kind);
                        Dirent { name, nid: self.plan.nid(id), file_type }
                    })
                    .collect();
                self.out.put(&directory::encode(&entries)[start as usize..end as usize])
            }
            Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo | Kind::Socket => Ok(()),
        }
    }

    fn report(&mut self, bytes: usize) -> Result<(), WriteError> {
        self.done += bytes as u64;
        if (self.advance)(self.done, self.total) { Ok(()) } else { Err(WriteError::Cancelled) }
    }
}

fn type_bits(kind: &Kind) -> u16 {
    match kind {
        Kind::Directory(_) => S_IFDIR,
        Kind::File(_) => S_IFREG,
        Kind::Symlink(_) => S_IFLNK,
        Kind::CharDevice(_) => S_IFCHR,
        Kind::BlockDevice(_) => S_IFBLK,
        Kind::Fifo => S_IFIFO,
        Kind::Socket => S_IFSOCK,
    }
}

fn dirent_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory(_) => 2,
        Kind::CharDevice(_) => 3,
        Kind::BlockDevice(_) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}

/// The image file, written in order; it knows how far it is.
struct Out<'a> {
    inner: BufWriter<&'a File>,
    at: u64,
}

impl<'a> Out<'a> {
    fn new(image: &'a File) -> Self {
        Self { inner: BufWriter::with_capacity(COPY_BUFFER / 4, image), at: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.at += bytes.len() as u64;
        self.inner.write_all(bytes).map_err(WriteError::Image)
    }

    /// Leaves a hole where there are but zeros.
    fn put_sparsely(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let zeros = |block: &[u8]| *block == ZEROS[..block.len()];
        if bytes.len() < COPY_BUFFER || !bytes.chunks(ZEROS.len()).all(zeros) {
            return self.put(bytes);
        }
        self.at += bytes.len() as u64;
        self.inner.seek(SeekFrom::Start(self.at)).map_err(WriteError::Image).map(drop)
    }

    /// Fills with zeros up to an offset, which is less than two blocks away.
    fn pad_to(&mut self, offset: u64) -> Result<(), WriteError> {
        debug_assert!(offset >= self.at && offset - self.at < ZEROS.len() as u64);
        self.put(&ZEROS[..(offset - self.at) as usize])
    }
}
