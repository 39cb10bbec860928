//! What `theca` tells of itself and of the machine that it is on.

use std::path::Path;

use theca_tests::{IMAGE, Invocation, Theca};

/// The commands that `theca --help` names.
fn commands(theca: &Theca) -> Vec<String> {
    let help = theca.cli(&["--help"]).success().to_owned();
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> =
        listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    assert!(
        ["run", "sandbox", "completion"].iter().all(|name| commands.iter().any(|known| known == name)),
        "{help}"
    );
    commands
}

#[test]
fn completion_scripts_name_every_command() {
    let theca = Theca::empty();
    let commands = commands(&theca);
    for (shell, begins) in [("bash", "_theca() {"), ("zsh", "#compdef theca"), ("fish", "# Print")] {
        let script = theca.cli(&["completion", shell]).success().to_owned();
        assert!(script.starts_with(begins), "{shell}: {script}");
        for command in &commands {
            let named = script.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == command);
            assert!(named, "{shell} is not told of {command}");
        }
    }
    theca.cli(&["completion", "csh"]).exits(125).says("invalid value 'csh'");
}

#[test]
fn bash_completes_commands_and_flags() {
    let theca = Theca::empty();
    let script = theca.cli(&["completion", "bash"]).success().to_owned();
    let parsed = Invocation::new("bash", &["-n"]).input(&*script).run();
    assert_eq!((parsed.success(), &*parsed.stderr), ("", ""));
    let complete = |words: &[&str]| {
        let (last, cword) = (words[words.len() - 1], words.len() - 1);
        let asks = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={cword}; _theca theca {last} {}\necho \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words[cword - 1],
        );
        Invocation::new("bash", &["--norc", "-s"]).input(asks).run().success().to_owned()
    };
    assert_eq!(complete(&["theca", "com"]), "completion\n");
    assert_eq!(complete(&["theca", "image", "ins"]), "inspect\n");
    assert_eq!(complete(&["theca", "run", "--mem"]), "--memory\n");
}

#[test]
fn version_tells_of_all_parts() {
    let theca = Theca::new();
    let version = theca.cli(&["--version"]).success().trim().strip_prefix("theca ").unwrap().to_owned();
    let told = theca.cli(&["version", "--format", "json"]).json();
    assert_eq!((&told["Version"], &told["Arch"]), (&version.clone().into(), &"x86_64".into()), "{told:#}");
    for part in ["Keeper", "Kernel", "Initrd"] {
        assert!(Path::new(told[part].as_str().unwrap()).is_file(), "{part} of {told:#}");
    }
    let release = theca.run(&["--rm", IMAGE, "uname", "-r"]).success().trim().to_owned();
    assert_eq!(told["KernelRelease"], release);

    let table = theca.cli(&["version"]).success().to_owned();
    let rows: Vec<(&str, &str)> = table.lines().map(|line| line.rsplit_once(' ').unwrap()).collect();
    let rows: Vec<(&str, &str)> = rows.iter().map(|(name, value)| (name.trim_end(), *value)).collect();
    let value = |key: &str| told[key].as_str().unwrap();
    let expected = [
        ("theca", &*version),
        ("arch", "x86_64"),
        ("keeper", value("Keeper")),
        ("kernel", value("Kernel")),
        ("kernel release", &*release),
        ("initrd", value("Initrd")),
    ];
    assert_eq!(rows, expected, "{table}");
    let without = theca.command(&["version", "-f", "{{.Kernel}}"]).env("THECA_KERNEL", "/nowhere").run();
    assert_eq!(without.success(), "missing\n");
}

#[test]
fn check_succeeds_where_sandboxes_run() {
    let theca = Theca::empty();
    let table = theca.cli(&["check"]).success().to_owned();
    let findings = theca.cli(&["check", "--format", "json"]).json();
    let findings = findings.as_array().unwrap();
    for finding in findings {
        let text = |key: &str| finding[key].as_str().unwrap();
        assert!(["ok", "warning"].contains(&text("Verdict")), "{finding:#}");
        assert_eq!(text("Advice").is_empty(), text("Verdict") == "ok", "{finding:#}");
        let row = format!("{:<7}  {:<17} ", text("Verdict"), text("Name"));
        assert!(table.lines().any(|line| line.starts_with(&row)), "{row:?} in {table}");
    }
    for name in ["processor", "/dev/kvm", "KVM capabilities", "boots Linux", "guest kernel", "keeper"] {
        let finding = findings.iter().find(|finding| finding["Name"] == name);
        assert_eq!(finding.map(|finding| &finding["Verdict"]), Some(&"ok".into()), "{name} in {findings:#?}");
    }
    let template = theca.cli(&["check", "--format", "{{.Name}}: {{.Found}}"]).success().to_owned();
    assert!(template.contains("/dev/kvm: usable, API version 12\n"), "{template}");
}
