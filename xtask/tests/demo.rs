//! `cargo xtask demo`, as a newcomer types it.
//!
//! It builds what is not built, so it is `cargo xtask test` that runs it.

use std::process::Command;

#[test]
fn it_shows_a_debian_in_a_machine_of_its_own_and_a_sandbox_of_two_containers() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_xtask")).arg("demo").output().expect("failed to start xtask");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    let after = |text: &str| {
        let (_, rest) =
            shown.split_once(text).unwrap_or_else(|| panic!("it does not show {text:?}:\n{shown}"));
        rest.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>()
    };

    let host = after("This machine's kernel is ")[0].split(';').next().unwrap_or_default();
    let guest = after("theca run --rm debian:13 uname -r\n")[0];
    assert_ne!(guest, host);
    assert!(guest.starts_with("6.12."), "{guest}");
    assert!(after("cat /etc/os-release\n")[0].starts_with("PRETTY_NAME=\"Debian GNU/Linux 13"), "{shown}");
    let machine = after("grep MemTotal /proc/meminfo'\n");
    assert!(["1", "2"].contains(&machine[0]), "{shown}");
    let kib: u32 = machine[1].split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB");
    assert!((200 << 10..=256 << 10).contains(&kib), "{kib} KiB of 256 MiB");
    assert_eq!(after("debian:13 sort\n")[..3], ["apple", "fig", "pear"]);
    after("exit code 42\n");

    for container in ["web", "db"] {
        let begins = format!("theca sandbox run --name {container} pod ");
        assert_eq!(after(&begins)[1], container);
    }
    let stats: Vec<_> = after("theca sandbox stats --no-stream\n")[1].split_whitespace().collect();
    assert_eq!((stats[0], stats[stats.len() - 1]), ("pod", "2"), "a sandbox of two processes");
    let table = after("took ms\n");
    for phase in ["vmm spawned", "agent ready", "by the guest's clock"] {
        assert!(table.iter().any(|line| line.starts_with(phase)), "{shown}");
    }
}
