//! What containers need of their kernel is there and works, not just asked for in its configuration.

use serde_json::json;
use theca_tests::{Bundle, Theca};

#[test]
fn limits_of_disks_and_huge_pages_are_seen_from_inside() {
    let files = "cd /sys/fs/cgroup; cat cgroup.controllers io.weight hugetlb.2MB.max";
    let mut bundle = Bundle::new(&["sh", "-c", files]);
    let resources = &mut bundle.config["linux"]["resources"];
    resources["blockIO"] = json!({ "weight": 500 });
    resources["hugepageLimits"] = json!([{ "pageSize": "2MB", "limit": 4 << 20 }]);
    let seen = "cpuset cpu io memory hugetlb pids\ndefault 4950\n4194304\n";
    assert_eq!(bundle.theca(&Theca::empty()).success(), seen);
}

#[test]
fn a_container_finds_what_it_needs_of_its_kernel() {
    let mut bundle = Bundle::debian(&["perl", "-e", include_str!("abilities.pl")]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set] =
            json!(["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]);
    }
    let device = |path: &str, major: u32, minor: u32| json!({ "path": path, "type": "c", "major": major, "minor": minor });
    bundle.config["linux"]["devices"] =
        json!([device("/dev/fuse", 10, 229), device("/dev/net/tun", 10, 200)]);
    bundle.config["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
    let output = bundle.theca(&Theca::empty());
    assert_eq!(output.success(), "33 tried\n", "{output}");
}
