//! What becomes of image and flags.

use oci_spec::image::ConfigBuilder;

use super::*;

fn image() -> ImageConfig {
    ConfigBuilder::default()
        .entrypoint(vec!["/entry".to_owned(), "--serve".to_owned()])
        .cmd(vec!["default".to_owned()])
        .env(vec!["PATH=/image/bin".to_owned(), "MODE=image".to_owned()])
        .working_dir("/srv")
        .user("www-data")
        .build()
        .unwrap()
}

fn wish() -> Wish {
    Wish {
        hostname: "box".into(),
        capabilities: capabilities::default_set(),
        shm_bytes: 64 << 20,
        ..Wish::default()
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_command_follows_dockers_rules() {
    let none = ImageConfig::default();
    for (from, entrypoint, command, all) in [
        (&image(), None, "", "/entry --serve default"),
        (&image(), None, "own args", "/entry --serve own args"),
        (&image(), Some("/bin/sh"), "", "/bin/sh"),
        (&image(), Some("/bin/sh"), "-c true", "/bin/sh -c true"),
        (&image(), Some(""), "only this", "only this"),
        (&none, None, "echo hi", "echo hi"),
    ] {
        let wish = Wish { entrypoint: entrypoint.map(str::to_owned), command: words(command), ..wish() };
        assert_eq!(arguments(from, &wish).unwrap(), words(all));
    }
    assert!(matches!(arguments(&none, &wish()), Err(SpecError::NoCommand)));
    let emptied = Wish { entrypoint: Some(String::new()), ..wish() };
    assert!(matches!(arguments(&image(), &emptied), Err(SpecError::NoCommand)));
}

#[test]
fn the_image_fills_in_what_the_command_line_leaves_open() {
    let spec = generate(&image(), &wish()).unwrap();
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.env().as_ref().unwrap(), &["PATH=/image/bin", "HOSTNAME=box", "MODE=image"]);
    assert_eq!(process.cwd().as_os_str(), "/srv");
    assert_eq!(process.user().username().as_deref(), Some("www-data"));
    assert_eq!(spec.hostname().as_deref(), Some("box"));
    assert_eq!(process.terminal(), Some(false));
}

#[test]
fn the_command_line_has_the_last_word() {
    let wish = Wish {
        env: vec!["MODE=flag".into(), "NEW=1".into()],
        workdir: Some("/tmp".into()),
        user: Some("1000:100".into()),
        terminal: Some(Some((120, 40))),
        read_only: true,
        ..wish()
    };
    let spec = generate(&image(), &wish).unwrap();
    let process = spec.process().as_ref().unwrap();
    let env = process.env().as_ref().unwrap();
    assert_eq!(env, &["PATH=/image/bin", "HOSTNAME=box", "TERM=xterm", "MODE=flag", "NEW=1"]);
    assert_eq!(process.cwd().as_os_str(), "/tmp");
    assert_eq!((process.user().uid(), process.user().gid()), (1000, 100));
    let size = process.console_size().unwrap();
    assert_eq!((size.width(), size.height()), (120, 40));
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
}

#[test]
fn only_root_is_given_capabilities_at_start() {
    for (user, root) in
        [(None, true), (Some("0"), true), (Some("root:100"), true), (Some("7"), false), (Some("x"), false)]
    {
        let wish = Wish { user: user.map(str::to_owned), command: words("id"), ..wish() };
        let spec = generate(&ImageConfig::default(), &wish).unwrap();
        let sets = spec.process().as_ref().unwrap().capabilities().as_ref().unwrap().clone();
        assert_eq!(!sets.effective().as_ref().unwrap().is_empty(), root, "{user:?}");
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 14);
    }
}

#[test]
fn limits_become_resources() {
    let wish = Wish {
        memory_bytes: Some(256 << 20),
        cpu_quota_us: Some(50_000),
        pids_limit: Some(100),
        command: words("true"),
        ..wish()
    };
    let spec = generate(&ImageConfig::default(), &wish).unwrap();
    let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
    assert_eq!(resources.memory().as_ref().unwrap().limit(), Some(256 << 20));
    let cpu = resources.cpu().as_ref().unwrap();
    assert_eq!((cpu.quota(), cpu.period()), (Some(50_000), Some(100_000)));
    assert_eq!(resources.pids().as_ref().unwrap().limit(), 100);
}

#[test]
fn a_relative_working_folder_is_refused() {
    let wish = Wish { workdir: Some("tmp".into()), command: words("true"), ..wish() };
    let error = generate(&ImageConfig::default(), &wish).unwrap_err();
    assert!(matches!(error, SpecError::Workdir(folder) if folder == "tmp"));
}

#[test]
fn a_further_process_is_like_init_but_for_what_is_asked() {
    let spec = generate(&image(), &wish()).unwrap();
    let init = spec.process().as_ref().unwrap();
    let wish = ExecWish {
        command: words("env"),
        env: vec!["MODE=exec".into()],
        user: Some("0".into()),
        ..ExecWish::default()
    };
    let process = exec_process(init, &wish).unwrap();
    assert_eq!(process.args().as_ref().unwrap(), &["env"]);
    assert_eq!(process.env().as_ref().unwrap(), &["PATH=/image/bin", "HOSTNAME=box", "MODE=exec"]);
    assert_eq!(process.cwd(), init.cwd());
    assert_eq!(process.capabilities().as_ref().unwrap().effective().as_ref().unwrap().len(), 14);
    let same_user = exec_process(init, &ExecWish { command: words("env"), ..ExecWish::default() }).unwrap();
    assert_eq!((same_user.user(), same_user.capabilities()), (init.user(), init.capabilities()));
}

#[test]
fn a_pod_shares_network_and_ipc_and_processes_only_where_asked() {
    let own = |namespaces| {
        let spec = generate(&image(), &Wish { namespaces, ..wish() }).unwrap();
        let namespaces = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
        namespaces.iter().map(|namespace| namespace.typ().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(own(Namespaces::Own), ["cgroup", "ipc", "mnt", "net", "pid", "uts"]);
    assert_eq!(own(Namespaces::Pod { processes: false }), ["cgroup", "mnt", "pid", "uts"]);
    assert_eq!(own(Namespaces::Pod { processes: true }), ["cgroup", "mnt", "uts"]);
    let shm = |namespaces| {
        let spec = generate(&image(), &Wish { namespaces, ..wish() }).unwrap();
        let mounts = spec.mounts().clone().unwrap();
        let shm = mounts.into_iter().find(|mount| mount.destination().as_os_str() == "/dev/shm").unwrap();
        shm.typ().clone().unwrap()
    };
    assert_eq!(
        (shm(Namespaces::Own), shm(Namespaces::Pod { processes: false })),
        ("tmpfs".into(), "bind".into())
    );
}
