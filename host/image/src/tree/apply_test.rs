use super::super::{Content, Tree};
use super::*;

/// A tree under test: paths are plain strings, a file's content is its size.
struct Layers(Tree);

impl Layers {
    fn new() -> Self {
        Self(Tree::new())
    }

    fn dir(&mut self, layer: Layer, path: &str) -> &mut Self {
        let mut attributes = Attributes::implied_directory();
        attributes.uid = layer;
        self.0.put_directory(&entry_path(path), attributes, layer).unwrap();
        self
    }

    fn file(&mut self, layer: Layer, path: &str) -> &mut Self {
        self.try_put(layer, path, Kind::File(Content { key: 0, size: layer.into() })).unwrap();
        self
    }

    fn symlink(&mut self, layer: Layer, path: &str, target: &str) -> &mut Self {
        self.try_put(layer, path, Kind::Symlink(target.as_bytes().into())).unwrap();
        self
    }

    fn whiteout(&mut self, layer: Layer, path: &str) -> &mut Self {
        let path = entry_path(path);
        let (parents, name) = path.split().unwrap();
        self.0.whiteout(parents, name, layer).unwrap();
        self
    }

    fn opaque(&mut self, layer: Layer, path: &str) -> &mut Self {
        self.0.make_opaque(entry_path(path).components(), layer).unwrap();
        self
    }

    fn try_put(&mut self, layer: Layer, path: &str, kind: Kind) -> Result<(), TreeError> {
        let attributes = Attributes { uid: layer, ..Attributes::implied_directory() };
        self.0.put(&entry_path(path), Inode { attributes, kind }, layer)
    }

    fn try_link(&mut self, layer: Layer, path: &str, target: &str) -> Result<(), TreeError> {
        self.0.put_link(&entry_path(path), &entry_path(target), layer)
    }

    /// All paths but the root, folders with a slash behind.
    fn paths(&self) -> String {
        fn walk(tree: &Tree, id: InodeId, prefix: &str, out: &mut Vec<String>) {
            for (name, child) in tree.directory(id).unwrap().entries() {
                let path = format!("{prefix}{}", lossy(name));
                match &tree.inode(child).kind {
                    Kind::Directory(_) => {
                        out.push(format!("{path}/"));
                        walk(tree, child, &format!("{path}/"), out);
                    }
                    _ => out.push(path),
                }
            }
        }
        let mut out = Vec::new();
        walk(&self.0, Tree::ROOT, "", &mut out);
        out.join(" ")
    }
}

fn entry_path(path: &str) -> EntryPath<'_> {
    EntryPath::parse(path.as_bytes()).unwrap()
}

#[test]
fn missing_folders_are_made() {
    assert_eq!(Layers::new().file(0, "a/b/c").paths(), "a/ a/b/ a/b/c");
}

#[test]
fn a_folder_again_keeps_its_entries_and_takes_the_new_owner() {
    let mut layers = Layers::new();
    layers.dir(0, "a").file(0, "a/x").dir(1, "a");
    assert_eq!(layers.paths(), "a/ a/x");
    let a = layers.0.entry(Tree::ROOT, b"a").unwrap().inode;
    assert_eq!(layers.0.inode(a).attributes.uid, 1);
}

#[test]
fn a_file_replaces_a_folder_and_a_folder_a_file() {
    assert_eq!(Layers::new().file(0, "a/x").file(1, "a").paths(), "a");
    assert_eq!(Layers::new().file(0, "a").dir(1, "a").file(1, "a/x").paths(), "a/ a/x");
    assert_eq!(Layers::new().dir(0, "d").symlink(0, "a", "d").dir(1, "a").paths(), "a/ d/");
}

#[test]
fn a_whiteout_hides_lower_layers_only_whatever_the_order() {
    assert_eq!(Layers::new().file(0, "a/x").file(0, "a/y").whiteout(1, "a/x").paths(), "a/ a/y");
    assert_eq!(Layers::new().file(0, "a/x").whiteout(1, "a").paths(), "");
    assert_eq!(Layers::new().file(0, "a").file(1, "a").whiteout(1, "a").paths(), "a");
    assert_eq!(Layers::new().file(0, "a").whiteout(1, "a").file(1, "a").paths(), "a");
    assert_eq!(Layers::new().file(0, "a/old").file(1, "a/new").whiteout(1, "a").paths(), "a/ a/new");
    assert_eq!(Layers::new().whiteout(0, "never/there").paths(), "");
}

#[test]
fn an_opaque_folder_starts_afresh() {
    let mut layers = Layers::new();
    layers.file(0, "a/old").file(0, "a/b/old").file(1, "a/b/new").opaque(1, "a").file(1, "a/newer");
    assert_eq!(layers.paths(), "a/ a/b/ a/b/new a/newer");
}

#[test]
fn a_removed_folder_made_again_in_the_next_layer_is_empty() {
    assert_eq!(Layers::new().file(0, "a/x").whiteout(1, "a").dir(2, "a").paths(), "a/");
}

#[test]
fn symlinks_above_an_entry_are_followed_inside_the_tree() {
    assert_eq!(
        Layers::new().dir(0, "usr/lib").symlink(0, "lib", "usr/lib").file(1, "lib/x").paths(),
        "lib usr/ usr/lib/ usr/lib/x"
    );
    assert_eq!(
        Layers::new().dir(0, "usr/lib").symlink(0, "lib", "/usr/lib").file(1, "lib/x").paths(),
        "lib usr/ usr/lib/ usr/lib/x"
    );
    assert_eq!(
        Layers::new().symlink(0, "out", "../../../../etc").file(0, "out/passwd").paths(),
        "etc/ etc/passwd out"
    );
    assert_eq!(Layers::new().file(0, "d/x").symlink(0, "s", "d").whiteout(1, "s/x").paths(), "d/ s");
}

#[test]
fn symlinks_in_a_circle_are_refused() {
    let mut layers = Layers::new();
    layers.symlink(0, "a", "b").symlink(0, "b", "a");
    assert_eq!(layers.try_put(0, "a/x", Kind::Fifo), Err(TreeError::SymlinkLoop));
    layers.symlink(0, "self", "self");
    assert_eq!(layers.try_link(0, "y", "self/x"), Err(TreeError::SymlinkLoop));
}

#[test]
fn nothing_can_lie_below_a_file() {
    let mut layers = Layers::new();
    layers.file(0, "a");
    assert_eq!(layers.try_put(0, "a/x", Kind::Fifo), Err(TreeError::NotADirectory("a".into())));
    assert_eq!(layers.whiteout(1, "a/x").paths(), "a");
}

#[test]
fn hard_links_share_the_inode_across_layers() {
    let mut layers = Layers::new();
    layers.file(0, "a");
    layers.try_link(1, "d/b", "a").unwrap();
    let a = layers.0.entry(Tree::ROOT, b"a").unwrap().inode;
    assert_eq!(layers.whiteout(2, "a").paths(), "d/ d/b");
    let d = layers.0.entry(Tree::ROOT, b"d").unwrap().inode;
    assert_eq!(layers.0.entry(d, b"b").unwrap().inode, a);
}

#[test]
fn hard_links_need_a_file_to_link_to() {
    let mut layers = Layers::new();
    layers.dir(0, "d");
    assert_eq!(layers.try_link(0, "x", "nothing"), Err(TreeError::LinkTargetMissing("nothing".into())));
    assert_eq!(layers.try_link(0, "x", "d"), Err(TreeError::LinkToDirectory("d".into())));
    assert_eq!(layers.try_link(0, "x", "."), Err(TreeError::LinkToDirectory("".into())));
}

#[test]
fn depth_is_bounded_even_below_symlinks() {
    let mut layers = Layers::new();
    let step = "d/".repeat(600);
    layers.dir(0, &step).symlink(0, "deep", &step);
    let error =
        layers.0.put_directory(&entry_path(&format!("deep/{step}")), Attributes::implied_directory(), 0);
    assert_eq!(error, Err(TreeError::TooDeep));
    layers.whiteout(1, "d");
    assert_eq!(layers.paths(), "deep");
}
