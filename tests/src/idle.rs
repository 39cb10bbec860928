//! What lies in the folders of a Theca that runs nothing: whatever else is there, somebody has left.

use std::path::{Path, PathBuf};

/// Everything below `THECA_ROOT` that an idle store does not keep, empty folders included.
pub fn strays_of_root(root: &Path) -> Vec<PathBuf> {
    let index = std::fs::read_to_string(root.join("images/index.json")).unwrap_or_default();
    // Disks and documents of images are called by digests.
    let named = |name: &str, kind: &str| name.strip_suffix(kind).is_some_and(|digest| index.contains(digest));
    strays(root, |path, is_folder| match (path, is_folder) {
        (["images" | "templates" | "tmp" | "names" | "containers" | "thecad"], true) => true,
        (["images", "erofs" | "blobs" | "tmp"], true) => true,
        (["images", "lock" | "index.json"], false) => true,
        (["images", "erofs", name], false) => named(name, ".erofs"),
        (["images", "blobs", name], false) => named(name, ".json"),
        (["templates", name], false) => name.ends_with(".img"),
        // The lock of all names is nobody's in particular.
        (["names", ".lock"], false) => true,
        (["thecad", _] | ["thecad", _, "sandboxes" | "containers"], true) => true,
        // What a client has stored is there until it deletes it.
        (["thecad", _, "sandboxes" | "containers", name], false) => name.ends_with(".json"),
        _ => false,
    })
}

/// Everything below `THECA_STATE` that stays there while nothing runs, but for what may.
pub fn strays_of_state(state: &Path) -> Vec<PathBuf> {
    strays(state, |path, is_folder| match (path, is_folder) {
        // Nobody's in particular.
        (["thecad.lock"], false) => true,
        ([".thecad"] | [".thecad", _] | [".thecad", _, "sandboxes" | "tasks" | "bundles"], true) => true,
        // What readers of events may not have got is kept for the next thecad to tell.
        ([".thecad", _, "events.log"], false) => true,
        _ => false,
    })
}

/// What is below a folder (sockets and FIFOs included) and may not be: `may_stay` is given the names on the way to it, and
/// whether it is a folder.
fn strays(top: &Path, may_stay: impl Fn(&[&str], bool) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        // One that has just gone has no entries.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let below = path.strip_prefix(top).expect("it was found there");
            // A name that is no text is none of ours.
            let names: Option<Vec<&str>> = below.iter().map(|name| name.to_str()).collect();
            if !names.is_some_and(|names| may_stay(&names, is_folder)) {
                found.push(path.clone());
            }
            if is_folder {
                folders.push(path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(folders: &[&str], files: &[(&str, &str)]) -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        for folder in folders {
            std::fs::create_dir_all(top.path().join(folder)).unwrap();
        }
        for (file, text) in files {
            std::fs::write(top.path().join(file), text).unwrap();
        }
        top
    }

    /// The strays, as paths below the folder.
    fn found(strays: &[PathBuf], top: &Path) -> Vec<String> {
        let below = |path: &PathBuf| path.strip_prefix(top).unwrap().to_string_lossy().into_owned();
        let mut found: Vec<_> = strays.iter().map(below).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn an_idle_store_keeps_its_images_and_nothing_else() {
        let folders = [
            "images/erofs",
            "images/blobs",
            "images/tmp/.tmpA1",
            "templates",
            "containers/0a",
            "names",
            "thecad/k8s/containers",
        ];
        let files = [
            ("images/index.json", r#"{"images":{"sha256:aa":{"chain":"sha256:bb"}}}"#),
            ("images/lock", ""),
            ("images/.new-1", ""),
            ("images/erofs/bb.erofs", ""),
            ("images/erofs/cc.erofs", ""),
            ("images/blobs/aa.json", ""),
            ("images/tmp/.tmpA1/bb.erofs", ""),
            ("templates/ext4-1.img", ""),
            ("templates/ext4-1.7.raw", ""),
            ("names/.lock", ""),
            ("thecad/k8s/containers/web.json", ""),
            ("thecad/k8s/containers/web.new", ""),
        ];
        let top = folder_with(&folders, &files);
        let strays = found(&strays_of_root(top.path()), top.path());
        let expected = [
            "containers/0a",
            "images/.new-1",
            "images/erofs/cc.erofs",
            "images/tmp/.tmpA1",
            "images/tmp/.tmpA1/bb.erofs",
            "templates/ext4-1.7.raw",
            "thecad/k8s/containers/web.new",
        ];
        assert_eq!(strays, expected);
    }

    #[test]
    fn an_empty_folder_of_a_sandbox_is_a_stray() {
        let folders = ["default/web", ".thecad/default/tasks", ".thecad/default/bundles/web"];
        let top = folder_with(&folders, &[(".thecad/default/events.log", ""), ("thecad.lock", "")]);
        let strays = found(&strays_of_state(top.path()), top.path());
        assert_eq!(strays, [".thecad/default/bundles/web", "default", "default/web"]);
    }
}
