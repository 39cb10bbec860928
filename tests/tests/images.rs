//! Images: where they come from, what a container sees of them, and which are refused.

use std::path::Path;

use theca_tests::layout::run_in;
use theca_tests::registry::{PASSWORD, USER};
use theca_tests::{IMAGE, Invocation, Layout, Registry, Theca, fixtures};

fn import(theca: &Theca, path: impl AsRef<Path>, name: &str) -> String {
    theca
        .cli(&["image", "import", "--quiet", "--name", name, &path.as_ref().to_string_lossy()])
        .success()
        .to_owned()
}

/// Everything that a layer may do, below /srv.
fn layered() -> Layout {
    let mut layout = Layout::busybox();
    layout.layer(
        "mkdir -p srv/opaque srv/kept; echo old > srv/opaque/old; echo low > srv/kept/low; echo x > srv/gone
        echo shared > srv/one; ln srv/one srv/two; ln -s one srv/link; mknod srv/null c 1 3; mkfifo srv/fifo
        chown 1000:44 srv/one; chmod 4751 srv/one; setfattr -n user.note -v hello srv/kept/low
        cp /bin/busybox srv/ping; setcap cap_net_raw+ep srv/ping; mkdir -m 1777 srv/sticky; touch -d @86400 srv/kept",
    );
    layout.layer("mkdir -p srv/kept; echo high > srv/kept/high");
    layout.whiteout("/srv/gone");
    layout.opaque_layer("/srv/opaque", "echo new > new");
    layout
}

#[test]
fn a_container_sees_what_umoci_unpacks() {
    let layout = layered();
    let theca = Theca::empty();
    import(&theca, layout.path(), "layers");
    // How large a folder is, and when something in it changed last, is its file system's affair.
    let facts = "cd srv; find . | sort | while read f; do
            if [ -d $f ]; then stat -c '%n %F %a %u:%g' $f; else stat -c '%n %F %a %u:%g %h %s %t:%T %Y' $f; fi
        done; find . -type f | sort | xargs sha256sum";
    let inside = theca.run(&["--rm", "layers", "sh", "-c", facts]);
    let unpacked = layout.unpacked();
    let outside = format!("cd {}; {facts}", unpacked.display());
    let outside = Invocation::new("/bin/busybox", &["sh", "-c", &outside]).run();
    assert_eq!(outside.success().lines().count(), 19, "{outside}");
    assert_eq!(inside.success(), outside.success());
}

#[test]
fn layers_are_merged_as_they_should_be() {
    let layout = layered();
    let theca = Theca::empty();
    import(&theca, layout.path(), "layers");
    let script = "cd /srv; ls; ls opaque kept; cat two link
        stat -c '%n %F %a %u:%g %h' one link null fifo sticky; stat -c '%t:%T' null
        test $(stat -c %i one) = $(stat -c %i two) && echo one file; stat -c %Y kept
        getfattr -n user.note kept/low | grep note; getfattr -n security.capability ping | grep -c capability
        rm -r opaque; mkdir opaque; ls opaque";
    let output = theca.run(&["--rm", "layers", "sh", "-c", script]);
    let names = "fifo\nkept\nlink\nnull\none\nopaque\nping\nsticky\ntwo\nkept:\nhigh\nlow\n\nopaque:\nnew\n";
    let kinds = "shared\nshared\none regular file 4751 1000:44 2\nlink symbolic link 777 0:0 1\n\
        null character special file 644 0:0 1\nfifo fifo 644 0:0 1\nsticky directory 1777 0:0 2\n1:3\none file\n";
    let output = output.success();
    assert!(output.starts_with(&format!("{names}{kinds}")), "{output}");
    assert!(output.ends_with("user.note=\"hello\"\n1\n"), "{output}");
}

#[test]
fn hard_links_of_an_image_stay_one_file() {
    let mut layout = Layout::busybox();
    layout.layer("echo shared > one; ln one two");
    let theca = Theca::empty();
    import(&theca, layout.path(), "links");
    let output = theca.run(&["--rm", "links", "sh", "-c", "echo more >> /one; cat /two; stat -c %h /two"]);
    assert_eq!(output.success(), "shared\nmore\n2\n");
}

#[test]
fn the_configuration_of_an_image_holds_until_flags_say_otherwise() {
    let layout = Layout::busybox();
    layout.configure(&["--config.env", "A=image", "--config.workingdir", "/etc", "--config.user", "alice"]);
    layout.configure(&["--config.entrypoint", "/bin/sh", "--config.entrypoint", "-c"]);
    layout.configure(&[
        "--config.cmd",
        "echo $A $HOME; pwd; id -un; id -G",
        "--config.label",
        "made=by-test",
    ]);
    let theca = Theca::empty();
    import(&theca, layout.path(), "app:1");
    assert_eq!(theca.run(&["--rm", "app:1"]).success(), "image /tmp\n/etc\nalice\n1000 44\n");
    let flags = ["--rm", "-e", "A=flag", "-w", "/", "-u", "0", "app:1", "echo $A; pwd; id -u"];
    assert_eq!(theca.run(&flags).success(), "flag\n/\n0\n");
    let inspected = theca.cli(&["image", "inspect", "app:1"]).json()[0].take();
    assert_eq!(inspected["Config"]["Labels"]["made"], "by-test");
}

#[test]
fn every_form_of_an_image_is_the_same_image() {
    let (theca, layout) = (Theca::empty(), Layout::busybox());
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    run_in(&layout.path(), &format!("tar -cf {} .; tar -czf {} .", file("oci.tar"), file("oci.tar.gz")));
    let docker = format!("docker-archive:{}:made:2", file("docker.tar"));
    Invocation::new("skopeo", &["copy", "--quiet", &format!("oci:{}", layout.image()), &docker])
        .run()
        .success();

    let id = import(&theca, layout.path(), "a");
    for (form, name) in [("oci.tar", "b"), ("oci.tar.gz", "c"), ("docker.tar", "d")] {
        assert_eq!(import(&theca, file(form), name), id, "{form}");
    }
    // A docker-archive brings its own name along.
    theca.cli(&["image", "import", &file("docker.tar")]).success();
    let listed = theca.cli(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]).success().to_owned();
    let mut names: Vec<&str> = listed.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["a:latest", "b:latest", "c:latest", "d:latest", "made:2"]);
    assert_eq!(theca.cli(&["image", "ls", "-q"]).success().lines().count(), 1);
}

#[test]
fn images_are_listed_as_json() {
    let theca = Theca::new();
    let list = |more: &[&str]| theca.cli(&[&["image", "ls", "--format", "json"], more].concat()).json();
    let listed = list(&[]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed:#}");
    let (image, inspected) = (&listed[0], theca.cli(&["image", "inspect", IMAGE]).json()[0].take());
    assert_eq!((&image["Repository"], &image["Tag"]), (&"debian".into(), &"13".into()), "{image:#}");
    assert_eq!(
        (&image["Digest"], &image["CreatedAt"]),
        (&inspected["Digest"], &inspected["Imported"]),
        "{image:#}"
    );
    let disk = Path::new(inspected["Disk"].as_str().unwrap()).metadata().unwrap();
    assert_eq!((image["SizeBytes"].as_u64(), &image["SizeBytes"]), (Some(disk.len()), &inspected["Size"]));
    assert_eq!(list(&["--no-trunc"])[0]["ID"], inspected["Id"]);
    assert_eq!(image["ID"], theca.cli(&["image", "ls", "-q"]).success().trim());
    assert_eq!((&list(&["debian"])[0]["ID"], list(&["alpine"])), (&image["ID"], serde_json::json!([])));
}

#[test]
fn a_registry_is_pulled_from_and_run() {
    let (theca, registry, layout) = (Theca::empty(), Registry::start(), Layout::busybox());
    let reference = registry.push(&layout.image(), "tools/busybox:1");
    assert_eq!(theca.run(&["--rm", &reference, "echo", "pulled"]).success(), "pulled\n");
    // It is in the store now, where nobody asks the registry.
    drop(registry);
    assert_eq!(theca.run(&["--rm", &reference, "echo", "kept"]).success(), "kept\n");
    let output = theca.cli(&["image", "pull", &reference]);
    output.exits(125).says("failed to pull");
}

#[test]
fn a_closed_registry_wants_trust_and_a_password() {
    let (theca, registry, layout) = (Theca::empty(), Registry::start_closed(), Layout::busybox());
    let reference = registry.push(&layout.image(), "busybox:1");
    let certificate = registry.certificate().to_string_lossy().into_owned();
    let pull = |flags: &[&str]| {
        theca.cli(&[&["image", "pull", "--tls-verify", "true"], flags, &[&*reference]].concat())
    };
    pull(&[]).exits(125).says("certificate");
    let trusting = ["--ca-file", certificate.as_str()];
    pull(&trusting).exits(125).says("pull --creds USER:PASSWORD");
    pull(&[&trusting[..], &["--creds", "theca:wrong"]].concat())
        .exits(125)
        .says("to user \"theca\" (as given)");
    let creds = format!("{USER}:{PASSWORD}");
    let id = pull(&[&trusting[..], &["--creds", &creds]].concat()).success().to_owned();
    assert_eq!(theca.cli(&["image", "ls", "-q", "--no-trunc"]).success(), id);
}

#[test]
fn an_image_in_use_stays() {
    let theca = Theca::new();
    theca.cli(&["create", "--name", "user", IMAGE, "true"]).success();
    theca.cli(&["image", "rm", IMAGE]).exits(125).says("is used by user");
    theca.cli(&["rm", "user"]).success();
    theca.cli(&["image", "rm", IMAGE]).success();
    assert_eq!(theca.cli(&["image", "ls", "-q"]).success(), "");
    assert_eq!(disks_of(&theca), "", "the disk goes with its image");
}

fn disks_of(theca: &Theca) -> String {
    Invocation::new("find", &[theca.root().as_os_str(), "-name".as_ref(), "*.erofs".as_ref()]).run().stdout
}

/// Makes a docker-archive of one layer, a tar that `script` writes as `layer.tar`.
fn archive_of(folder: &Path, script: &str) -> String {
    run_in(
        folder,
        &format!(
            "mkdir made; cd made; {script}
            sum=$(sha256sum layer.tar | cut -d ' ' -f 1)
            printf '{{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}}}' $sum > config.json
            printf '[{{\"Config\":\"config.json\",\"RepoTags\":[\"bad:1\"],\"Layers\":[\"layer.tar\"]}}]' > manifest.json
            tar -cf ../bad.tar manifest.json config.json layer.tar; cd ..; rm -r made"
        ),
    );
    folder.join("bad.tar").to_string_lossy().into_owned()
}

#[test]
fn hostile_archives_leave_nothing() {
    for (script, says) in [
        ("echo x > f; tar -cPf layer.tar --transform 's,^,../../../../tmp/escaped-,' f", "`..`"),
        ("echo x > f; tar -cPf layer.tar --transform 's,^,/tmp/escaped-,' f", "absolute path"),
        (
            "ln -s /tmp d; tar -cf layer.tar d; rm d; mkdir d; echo x > d/escaped-f; tar -rf layer.tar d/escaped-f",
            "",
        ),
        ("echo x > f; tar -cf layer.tar f; truncate -s 700 layer.tar", "layer"),
    ] {
        let (theca, folder) = (Theca::empty(), tempfile::tempdir_in("/var/tmp").unwrap());
        let archive = archive_of(folder.path(), script);
        let output = theca.cli(&["image", "import", &archive]);
        // A symlink may well be followed, as long as it leads nowhere but into the image.
        if !says.is_empty() {
            output.exits(125).says(says);
            assert_eq!((theca.cli(&["image", "ls", "-q"]).success(), &*disks_of(&theca)), ("", ""));
        }
        let escaped = std::fs::read_dir("/tmp").unwrap().flatten();
        assert_eq!(
            escaped.filter(|entry| entry.file_name().to_string_lossy().starts_with("escaped")).count(),
            0
        );
    }
}

#[test]
fn the_debian_image_is_whole() {
    let theca = Theca::new();
    // Those that every container gets from its host.
    let own = "! -path etc/hosts ! -path etc/hostname ! -path etc/resolv.conf";
    let facts = |root: &str| {
        format!(
            "cd {root}; find usr etc -user 0 -perm -4000 -type f | wc -l; find usr etc bin {own} | wc -l
            find usr/bin etc -type f {own} | LC_ALL=C sort | xargs cat | sha256sum"
        )
    };
    let inside = theca.run(&["--rm", IMAGE, "sh", "-c", &facts("/")]);
    let outside = Invocation::new("sh", &["-c", &facts(&fixtures::debian_rootfs().to_string_lossy())]).run();
    assert_eq!(inside.success(), outside.success());
}
