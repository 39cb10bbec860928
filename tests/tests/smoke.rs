//! The thinnest slice that truly runs: if this fails, look here before anywhere else.

use theca_tests::{Bundle, IMAGE, Theca};

#[test]
fn a_container_says_hello_from_a_kernel_of_its_own() {
    let theca = Theca::new();
    let kernel = theca.run(&["--rm", IMAGE, "uname", "-r"]).success().to_owned();
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_ne!(kernel, host);
}

#[test]
fn stdin_goes_through_and_the_exit_code_comes_back() {
    let theca = Theca::new();
    let output =
        theca.command(&["run", "--rm", "-i", IMAGE, "sh", "-c", "sort; exit 7"]).input("b\na\n").run();
    assert_eq!(output.exits(7).stdout, "a\nb\n");
}

#[test]
fn a_bundle_runs_as_under_runc() {
    let theca = Theca::empty();
    Bundle::new(&["sh", "-c", "id; pwd; echo $0 $#; exit 3", "one", "two"]).same_under_both(&theca).exits(3);
}
