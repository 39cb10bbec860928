//! Which flags are refused, and what the others become.

use clap::Parser;

use super::*;

#[derive(Parser)]
#[command(disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    flags: ContainerFlags,
}

fn flags(line: &str) -> ContainerFlags {
    Line::try_parse_from(["run"].into_iter().chain(line.split_whitespace())).unwrap().flags
}

#[test]
fn flags_end_at_the_image() {
    let flags = flags("-it -e A=1 --cpus 1.5 debian:12 ls -la --rm -e");
    assert_eq!(flags.image_and_command, ["debian:12", "ls", "-la", "--rm", "-e"]);
    assert!(flags.interactive && flags.tty && !flags.rm);
    assert_eq!((flags.cpus.vcpus, flags.cpus.quota_us), (2, Some(150_000)));
    assert_eq!(flags.env, ["A=1"]);
}

#[test]
fn an_unknown_flag_is_no_image() {
    assert!(Line::try_parse_from(["run", "--unheard-of", "debian"]).is_err());
}

#[test]
fn flags_become_wishes() {
    let flags = flags(
        "-w /srv -u 7:8 -h box --read-only --tmpfs /tmp:size=1m --cap-drop all --cap-add kill,chown \
         --ulimit nofile=5 --pids-limit 0 --security-opt no-new-privileges --security-opt seccomp=unconfined \
         --sysctl kernel.msgmax=1 --annotation a=b -m 64m --shm-size 1m --oom-score-adj -5 image",
    );
    let wish = wish(&flags, &ContainerId::random().unwrap()).unwrap();
    assert_eq!(
        (wish.workdir.as_deref(), wish.user.as_deref(), wish.hostname.as_str()),
        (Some("/srv"), Some("7:8"), "box")
    );
    assert!(wish.read_only && wish.no_new_privileges && wish.terminal.is_none());
    assert_eq!((wish.tmpfs.len(), wish.capabilities.len(), wish.rlimits.len()), (1, 2, 1));
    assert_eq!((wish.pids_limit, wish.oom_score_adj), (Some(-1), Some(-5)));
    assert_eq!(wish.seccomp, Profile::Unconfined);
    assert_eq!((wish.memory_bytes, wish.shm_bytes), (Some(64 << 20), 1 << 20));
    assert_eq!(wish.sysctl, BTreeMap::from([("kernel.msgmax".into(), "1".into())]));
    assert_eq!(wish.annotations, BTreeMap::from([("a".into(), "b".into())]));
}

#[test]
fn what_comes_later_is_refused_by_name() {
    for (line, word) in [
        ("--network host i", "--network host"),
        ("--net bridge i", "--network bridge"),
        ("-p 80:80 i", "--publish 80:80"),
        ("-P i", "--publish-all"),
        ("-v /a:/b i", "--volume /a:/b"),
        ("--mount type=bind i", "--mount type=bind"),
    ] {
        let error = refusals::check(&flags(line)).unwrap_err().to_string();
        assert!(error.starts_with(word) && error.contains("not supported yet"), "{error}");
    }
    refusals::check(&flags("--network none i")).unwrap();
    assert!(security(&["apparmor=x".into()]).unwrap_err().to_string().contains("apparmor=x"));
}

#[test]
fn a_bundle_decides_for_itself() {
    for given in ["-t", "-e A=1", "--read-only", "echo", "--shm-size 64m", "--pull missing", "--cpus 1.5"] {
        let error =
            refusals::check_with_bundle(&flags(&format!("--bundle b {given}"))).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{given}: {error}");
    }
    refusals::check_with_bundle(&flags(
        "--bundle b -d --rm --name x -m 1g --cpus 2".replace("-d ", "").as_str(),
    ))
    .unwrap();
    assert!(Line::try_parse_from(["run", "--bundle", "b", "--rootfs", "r"]).is_err());
}

#[test]
fn labels_come_from_files_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("labels");
    fs::write(&file, "# comment\na=1\nb\n").unwrap();
    let flags = flags(&format!("--label-file {} -l a=2 -l c=x=y image", file.display()));
    let expected = [("a", "2"), ("b", ""), ("c", "x=y")].map(|(name, value)| (name.into(), value.into()));
    assert_eq!(labels(&flags).unwrap(), BTreeMap::from(expected));
    assert!(pairs(&["=x".into()], "--label", false).is_err());
    assert!(pairs(&["x".into()], "--sysctl", true).is_err());
}
