//! The definitions here are in our own words; packages, services, methods, messages, fields, numbers, types and enum values
//! are as published. `published/*.txt` states them as facts, one a line, taken from the published texts by
//! `tests/python/facts.py`; this test finds the same facts in the descriptors that our programs are built with.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use theca_proto::descriptors;

/// Of ours alone: shared with an interface of another year, which has it.
const SHARED_WITH_LATER: &[&str] = &[
    "enum containerd.v1.types.Status PAUSING 5",
    "message containerd.v1.types.ProcessInfo",
    "field containerd.v1.types.ProcessInfo pid 1 uint32",
    "field containerd.v1.types.ProcessInfo info 2 google.protobuf.Any",
];

/// What types.API of 2015 has a place for and a cgroup v2's metrics do not: our keepers send it along.
const COUNTERS_OF_2015: &[&str] = &[
    "message io.containerd.cgroups.v2.Of2015",
    "field io.containerd.cgroups.v2.Metrics of_2015 1000 io.containerd.cgroups.v2.Of2015",
    "field io.containerd.cgroups.v2.Of2015 kernel 1 uint64",
    "field io.containerd.cgroups.v2.Of2015 swap_failcnt 2 uint64",
    "field io.containerd.cgroups.v2.Of2015 hugetlb_failcnt 3 repeated uint64",
];

#[test]
fn the_main_endpoint_speaks_as_published() {
    compare(descriptors::TODAY, include_str!("published/today.txt"), SHARED_WITH_LATER);
}

#[test]
fn the_endpoint_for_older_clients_speaks_as_published() {
    let shared = [SHARED_WITH_LATER, &["field containerd.types.Sandbox sandboxer 10 string"]].concat();
    compare(descriptors::GENERATIONS, include_str!("published/generations.txt"), &shared);
}

#[test]
fn the_endpoint_of_a_container_speaks_as_published() {
    compare(descriptors::SHIM, include_str!("published/shim.txt"), SHARED_WITH_LATER);
}

#[test]
fn a_keeper_and_containerd_exchange_what_is_published() {
    compare(&messages_of_keepers(), include_str!("published/keeper.txt"), &[]);
}

#[test]
fn counters_of_a_cgroup_are_told_as_published() {
    let ours = protox::compile(["io/containerd/cgroups/v2/metrics.proto"], ["."]).unwrap();
    compare(&ours.encode_to_vec(), include_str!("published/cgroups.txt"), COUNTERS_OF_2015);
}

/// A client may send more of the CRI's messages than we read, so only what we read is compared.
#[test]
fn what_is_read_of_the_cri_is_as_published() {
    let files = protox::compile(["runtime/v1/cri.proto"], ["."]).unwrap();
    let published: BTreeSet<String> = include_str!("published/cri.txt").lines().map(str::to_owned).collect();
    let other: Vec<_> = facts(&files).difference(&published).cloned().collect();
    assert!(other.is_empty(), "not as published: {other:#?}");
}

fn messages_of_keepers() -> Vec<u8> {
    let files = [
        "containerd/events/task.proto",
        "containerd/services/events/ttrpc/v1/events.proto",
        "containerd/services/streaming/v1/streaming.proto",
        "containerd/types/transfer/streaming.proto",
    ];
    protox::compile(files, ["."]).unwrap().encode_to_vec()
}

fn compare(descriptors: &[u8], published: &str, ours_alone: &[&str]) {
    let ours = facts(&FileDescriptorSet::decode(descriptors).unwrap());
    let published: BTreeSet<String> = published.lines().map(str::to_owned).collect();
    let missing: Vec<_> = published.difference(&ours).collect();
    assert!(missing.is_empty(), "published and not here: {missing:#?}");
    let more: Vec<_> = ours.difference(&published).map(String::as_str).collect();
    let mut expected = ours_alone.to_vec();
    expected.sort_unstable();
    assert_eq!(more, expected, "here and not published");
}

/// Every fact of the set but those of Google's own packages.
fn facts(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for file in set.file.iter().filter(|file| !file.package().starts_with("google.")) {
        let package = file.package();
        for service in &file.service {
            for method in &service.method {
                facts.insert(format!(
                    "rpc {package}.{} {} {}{} -> {}{}",
                    service.name(),
                    method.name(),
                    if method.client_streaming() { "stream " } else { "" },
                    method.input_type().trim_start_matches('.'),
                    if method.server_streaming() { "stream " } else { "" },
                    method.output_type().trim_start_matches('.'),
                ));
            }
        }
        file.message_type.iter().for_each(|message| of_message(package, message, &mut facts));
        file.enum_type.iter().for_each(|values| of_enum(package, values, &mut facts));
    }
    facts
}

fn of_message(scope: &str, message: &DescriptorProto, facts: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", message.name());
    facts.insert(format!("message {name}"));
    for field in &message.field {
        let oneof = field.oneof_index.map(|index| message.oneof_decl[index as usize].name());
        facts.insert(format!(
            "field {name} {} {} {}{}{}",
            field.name(),
            field.number(),
            if field.label() == Label::Repeated { "repeated " } else { "" },
            type_of(field),
            oneof.map(|oneof| format!(" oneof {oneof}")).unwrap_or_default(),
        ));
    }
    message.nested_type.iter().for_each(|nested| of_message(&name, nested, facts));
    message.enum_type.iter().for_each(|values| of_enum(&name, values, facts));
}

fn of_enum(scope: &str, values: &EnumDescriptorProto, facts: &mut BTreeSet<String>) {
    for value in &values.value {
        facts.insert(format!("enum {scope}.{} {} {}", values.name(), value.name(), value.number()));
    }
}

fn type_of(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}
