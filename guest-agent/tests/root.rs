//! What a container finds in its file system: devices, mounts, hidden paths and files that come along, looked at from inside.

mod support;

use serde_json::json;
use support::{Container, Guest, output, refusal};
use theca_proto::theca::agent::v1::*;
use tonic::Code;

#[tokio::test]
async fn devices_are_the_usual_ones_and_links_lead_to_them() {
    let line = "cd /dev; ls -1; for link in fd stdin ptmx; do readlink $link; done; head -c 4 zero | wc -c; echo x > null; stat -c %t:%T:%a null";
    let seen = output(&Container::sh(line)).await;
    for name in
        ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stdin", "tty", "urandom", "zero"]
    {
        assert!(seen.lines().any(|line| line == name), "{name}: {seen}");
    }
    assert!(seen.ends_with("/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n4\n1:3:666\n"), "{seen}");
}

#[tokio::test]
async fn block_devices_can_be_made_and_not_opened() {
    let line = "mknod /tmp/disk b 7 0 && cat /tmp/disk | wc -c; mknod /tmp/mem c 1 1 && cat /tmp/mem; \
                mknod /tmp/null c 1 3 && cat /tmp/null";
    let everything = json!([{"allow": true, "access": "rwm"}]);
    for (rules, memory) in [(json!([]), true), (everything, false)] {
        let spec = Container::sh(line).with("/linux/resources/devices", rules);
        let guest = Guest::start();
        let ended = guest.client().await.run("c", &spec).await.unwrap();
        assert!(ended.stderr.contains("/tmp/disk': Operation not permitted"), "{ended:?}");
        assert_eq!(
            ended.stderr.contains("/tmp/mem': Operation not permitted") && memory,
            memory,
            "{ended:?}"
        );
        assert!(!ended.stderr.contains("/tmp/null"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_device_of_the_spec_has_its_owner_and_mode() {
    let device = json!([{"path": "/dev/mine", "type": "c", "major": 10, "minor": 200,
        "fileMode": 0o640, "uid": 5, "gid": 6}]);
    let spec = Container::sh("stat -c %t:%T:%a:%u:%g /dev/mine").with("/linux/devices", device);
    let seen = output(&spec).await;
    assert_eq!(seen, "a:c8:640:5:6\n");
    let disk = json!([{"path": "/dev/disk", "type": "b", "major": 254, "minor": 0}]);
    let error = refusal(&Container::new(["true"]).with("/linux/devices", disk)).await;
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
}

#[tokio::test]
async fn hidden_paths_are_empty_and_read_only_ones_cannot_be_written() {
    let line = "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; cat /etc/group | wc -c; \
                echo 1 > /proc/sys/kernel/msgmax && echo written; echo x > /etc/passwd && echo written";
    let spec = Container::sh(line)
        .with("/linux/maskedPaths", json!(["/proc/kcore", "/sys/firmware", "/etc/group", "/nosuch"]))
        .with("/linux/readonlyPaths", json!(["/proc/sys", "/etc/passwd", "/nosuch"]));
    let guest = Guest::start();
    let ended = guest.client().await.run("c", &spec).await.unwrap();
    assert_eq!(ended.stdout, "0\n0\n0\n");
    assert_eq!(ended.stderr.matches("Read-only file system").count(), 2, "{ended:?}");
}

#[tokio::test]
async fn a_mask_does_not_follow_a_link_out_of_the_container() {
    // The image says that /proc/keys is somewhere else entirely; only the container's own path may be covered.
    let spec = Container::sh("mount | grep -c masked")
        .mount(json!({"destination": "/lnk", "type": "tmpfs", "source": "masked"}))
        .with("/linux/maskedPaths", json!(["/lnk/../../../../../../etc/passwd"]));
    let before = std::fs::read_to_string("/etc/passwd").unwrap();
    let seen = output(&spec).await;
    assert_eq!(seen, "1\n");
    assert_eq!(std::fs::read_to_string("/etc/passwd").unwrap(), before);
}

#[tokio::test]
async fn a_read_only_root_cannot_be_written_and_mounts_below_it_can() {
    let line = "touch /new; touch /dev/shm/new && echo ok";
    for spec in [
        Container::sh(line).with("/root/readonly", json!(true)),
        Container { read_only: true, ..Container::sh(line) },
    ] {
        let guest = Guest::start();
        let ended = guest.client().await.run("c", &spec).await.unwrap();
        assert_eq!(ended.stdout, "ok\n");
        assert!(ended.stderr.contains("Read-only file system"), "{ended:?}");
    }
}

#[tokio::test]
async fn what_one_container_writes_another_does_not_see() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    assert_eq!(client.run("a", &Container::sh("echo mine > /etc/group")).await.unwrap().status, 0);
    let other = client.run("b", &Container::sh("cat /etc/group")).await.unwrap();
    assert!(other.stdout.starts_with("root:"), "{other:?}");
}

#[tokio::test]
async fn mounts_bind_guest_folders_with_their_options() {
    let guest = Guest::start();
    let shared = guest.folder().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("note"), "from outside\n").unwrap();
    let bind = |destination: &str, options: &[&str]| json!({"destination": destination, "type": "bind", "source": shared, "options": options});
    let spec = Container::sh("cat /rw/note; echo inside > /rw/new; touch /ro/x; grep -E ' /(ro|rw) ' /proc/mounts | cut -d' ' -f2,4")
        .mount(bind("/rw", &["rbind", "rw", "nosuid"]))
        .mount(bind("/ro", &["rbind", "rro", "noexec"]));
    let ended = guest.client().await.run("c", &spec).await.unwrap();
    assert!(ended.stdout.starts_with("from outside\n"), "{ended:?}");
    let options = |start: &str| ended.stdout.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    assert!(options("/rw rw,").contains("nosuid"), "{ended:?}");
    assert!(options("/ro ro,").contains("noexec"), "{ended:?}");
    assert!(ended.stderr.contains("Read-only file system"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(shared.join("new")).unwrap(), "inside\n");
}

#[tokio::test]
async fn a_mount_point_behind_a_link_of_the_image_stays_inside() {
    let guest = Guest::start();
    let outside = guest.folder().join("outside");
    std::fs::create_dir(&outside).unwrap();
    // A folder of links, bound into the container, plays the hostile image.
    let image = guest.folder().join("links");
    std::fs::create_dir(&image).unwrap();
    std::os::unix::fs::symlink(&outside, image.join("trap")).unwrap();
    let spec = Container::sh("true")
        .mount(json!({"destination": "/links", "type": "bind", "source": image, "options": ["bind"]}))
        .mount(json!({"destination": "/links/trap/deep", "type": "tmpfs", "source": "tmpfs"}));
    let error = guest.client().await.create_silent("c", &spec).await.unwrap_err();
    assert!(error.message().contains("/links/trap"), "{error}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn a_missing_bind_source_is_named() {
    let mount = json!({"destination": "/x", "type": "bind", "source": "/nosuch/folder", "options": ["bind"]});
    let error = refusal(&Container::new(["true"]).mount(mount)).await;
    assert!(error.message().contains("/nosuch/folder"), "{error}");
}

#[tokio::test]
async fn a_file_that_comes_with_the_request_is_bound_where_the_spec_says() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let line = "cat /etc/hosts /new/name; echo more >> /etc/hosts; tail -n 1 /etc/hosts
        stat -c %a:%u /etc/hosts; dd if=/dev/zero of=/etc/hosts bs=1M count=4 2>/dev/null || echo full";
    let container =
        Container::sh(line).file("/etc/hosts", "127.0.0.1 localhost\n").file("/new/name", "box\n");
    let ended = client.run("c", &container).await.unwrap();
    assert_eq!(ended.stdout, "127.0.0.1 localhost\nbox\nmore\n644:0\nfull\n");
    assert_eq!(guest.mounts(), [""; 0]);
    let again = client.run("c", &Container::sh("cat /new/name").file("/new/name", "new\n")).await.unwrap();
    assert_eq!(again.stdout, "new\n");
}

#[tokio::test]
async fn a_file_is_bound_where_a_link_leads_that_leads_nowhere() {
    let line = "readlink /etc/resolv.conf; cat /etc/resolv.conf /run/resolve/conf";
    let container = Container::sh(line).file("/etc/resolv.conf", "search here\n");
    let seen = output(&container).await;
    assert_eq!(seen, "../run/resolve/conf\nsearch here\nsearch here\n");
}

#[tokio::test]
async fn files_beyond_the_bounds_are_refused() {
    let guest = Guest::start();
    let mut container = Container::new(["true"]);
    container.files = vec![File { source: "/x".into(), content: vec![0; 300 << 10].into(), mode: 0o644 }];
    let error = guest.client().await.prepare("c", &container).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(guest.mounts(), [""; 0]);
}

#[tokio::test]
async fn hard_links_of_the_image_stay_one_file() {
    let line = "echo more >> /etc/plain; tail -n 1 /etc/linked; stat -c %h /etc/plain";
    for container in [Container::sh(line), Container::sh(line).on_disk()] {
        let seen = output(&container).await;
        assert_eq!(seen, "more\n2\n");
    }
}
