//! What reflection offers, and the naming rules of every package (the STANDARD rules of buf lint, which need no tool here).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{collections::BTreeSet, fs, path::Path};

use protox::prost_reflect::{DescriptorPool, EnumDescriptor, FileDescriptor, MessageDescriptor};
use warren_proto::FILE_DESCRIPTOR_SET;

fn proto_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto"))
}

fn proto_files(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            proto_files(&path, found);
        } else if path.extension().is_some_and(|it| it == "proto") {
            found.push(
                path.strip_prefix(proto_root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
}

/// Every file of ours under `proto/warren`, compiled.
fn every_file() -> Vec<FileDescriptor> {
    let mut names = Vec::new();
    proto_files(&proto_root().join("warren"), &mut names);
    let set = protox::compile(&names, [proto_root()]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(set).unwrap();
    names
        .iter()
        .map(|it| pool.get_file_by_name(it).unwrap())
        .collect()
}

fn is_client_package(file: &FileDescriptor) -> bool {
    ["warren.v1", "warren.admin.v1", "warren.cluster.v1"].contains(&file.package_name())
}

fn messages(file: &FileDescriptor) -> Vec<MessageDescriptor> {
    let mut all: Vec<_> = file.messages().collect();
    let mut next = 0;
    while next < all.len() {
        let children: Vec<_> = all[next].child_messages().collect();
        all.extend(children);
        next += 1;
    }
    all.retain(|it| !it.is_map_entry());
    all
}

fn enums(file: &FileDescriptor) -> Vec<EnumDescriptor> {
    let inner = messages(file);
    file.enums()
        .chain(inner.iter().flat_map(|it| it.child_enums()))
        .collect()
}

fn upper_snake(pascal: &str) -> String {
    let mut out = String::new();
    for letter in pascal.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_uppercase());
    }
    out
}

fn is_lower_snake(name: &str) -> bool {
    name.chars()
        .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_')
}

#[test]
fn reflection_offers_the_client_services_and_nothing_else() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let services: BTreeSet<_> = pool
        .services()
        .map(|it| it.full_name().to_owned())
        .collect();
    let expected = [
        "warren.admin.v1.DeadLetterService",
        "warren.admin.v1.OperationService",
        "warren.admin.v1.PolicyService",
        "warren.admin.v1.TopologyService",
        "warren.admin.v1.UserService",
        "warren.cluster.v1.ClusterService",
        "warren.v1.MessagingService",
    ];
    assert_eq!(services, expected.map(str::to_owned).into());
    for file in pool.files() {
        let package = file.package_name();
        assert!(!package.starts_with("warren.internal"), "{package}");
        assert!(!package.starts_with("warren.stored"), "{package}");
    }
    // Details of errors are packed as Any: a client that only has reflection must be able to open them.
    assert!(pool.get_message_by_name("google.rpc.ErrorInfo").is_some());
    assert!(pool.get_message_by_name("google.rpc.RetryInfo").is_some());
}

#[test]
fn every_call_of_the_contract_exists() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let calls = |service: &str| -> Vec<String> {
        let service = pool.get_service_by_name(service).unwrap();
        service.methods().map(|it| it.name().to_owned()).collect()
    };
    assert_eq!(
        calls("warren.v1.MessagingService").join(" "),
        "Publish PublishStream Consume Receive Settle Peek CancelScheduled"
    );
    assert_eq!(
        calls("warren.cluster.v1.ClusterService").join(" "),
        "GetCluster WatchTopology AddNode RemoveNode DrainNode ReviveNode AddReplica RemoveReplica \
         TransferLeader Rebalance RecoverMajority StartBackup StartRestore FinalizeUpgrade SetWatermarks \
         SetCopies"
    );
    let topology = calls("warren.admin.v1.TopologyService");
    for verb in ["Create", "Get", "Update", "Delete"] {
        for noun in ["Vhost", "Exchange", "Queue"] {
            assert!(topology.contains(&format!("{verb}{noun}")), "{verb}{noun}");
        }
    }
    for call in [
        "ListVhosts",
        "ListExchanges",
        "ListQueues",
        "CreateBinding",
        "ListBindings",
        "DeleteBinding",
        "PurgeQueue",
        "MoveMessages",
        "DeleteMessages",
        "SeekQueue",
        "GetQueueStats",
        "WatchQueueStats",
        "ExportDefinitions",
        "ImportDefinitions",
    ] {
        assert!(topology.contains(&call.to_owned()), "{call}");
    }
}

#[test]
fn packages_stand_in_their_directories_and_carry_a_version() {
    for file in every_file() {
        let directory = Path::new(file.name())
            .parent()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            file.package_name(),
            directory.replace('/', "."),
            "{}",
            file.name()
        );
        assert!(file.package_name().ends_with(".v1"), "{}", file.name());
    }
}

#[test]
fn services_and_calls_are_named_by_the_standard() {
    let mut used = BTreeSet::new();
    for file in every_file() {
        for service in file.services() {
            assert!(
                service.name().ends_with("Service"),
                "{}",
                service.full_name()
            );
            for method in service.methods() {
                let (input, output) = (method.input(), method.output());
                assert_eq!(input.name(), format!("{}Request", method.name()));
                assert_eq!(output.name(), format!("{}Response", method.name()));
                for message in [input, output] {
                    assert!(
                        used.insert(message.full_name().to_owned()),
                        "{}",
                        message.full_name()
                    );
                }
            }
        }
    }
}

#[test]
fn enums_begin_with_unspecified_and_prefix_their_values() {
    for file in every_file() {
        for it in enums(&file) {
            let prefix = upper_snake(it.name());
            let zero = it
                .get_value(0)
                .unwrap_or_else(|| panic!("{} has no zero", it.full_name()));
            assert_eq!(
                zero.name(),
                format!("{prefix}_UNSPECIFIED"),
                "{}",
                it.full_name()
            );
            for value in it.values() {
                let name = value.name();
                assert!(
                    name.starts_with(&format!("{prefix}_")),
                    "{} {name}",
                    it.full_name()
                );
            }
        }
    }
}

#[test]
fn fields_are_lower_snake_and_messages_pascal() {
    for file in every_file() {
        for message in messages(&file) {
            let first = message.name().chars().next().unwrap();
            assert!(first.is_ascii_uppercase() && !message.name().contains('_'));
            for field in message.fields() {
                assert!(is_lower_snake(field.name()), "{}", field.full_name());
            }
            for oneof in message.oneofs() {
                let name = oneof.name();
                // A synthetic one stands for an optional field and begins with an underscore.
                assert!(is_lower_snake(name), "{}", oneof.full_name());
            }
        }
    }
}

#[test]
fn everything_a_client_sees_is_described() {
    for file in every_file().iter().filter(|it| is_client_package(it)) {
        let proto = file.file_descriptor_proto();
        let described: BTreeSet<Vec<i32>> = proto
            .source_code_info
            .iter()
            .flat_map(|it| &it.location)
            .filter(|it| {
                it.leading_comments
                    .as_ref()
                    .is_some_and(|text| !text.trim().is_empty())
            })
            .map(|it| it.path.clone())
            .collect();
        let mut undescribed = Vec::new();
        let mut check = |path: &[i32], name: &str| {
            if !described.contains(path) {
                undescribed.push(name.to_owned());
            }
        };
        for message in file.messages() {
            check(message.path(), message.full_name());
            for field in message.fields() {
                check(field.path(), field.full_name());
            }
        }
        for it in file.enums() {
            check(it.path(), it.full_name());
            for value in it.values() {
                check(value.path(), value.full_name());
            }
        }
        for service in file.services() {
            check(service.path(), service.full_name());
            for method in service.methods() {
                check(method.path(), method.full_name());
            }
        }
        assert_eq!(undescribed, Vec::<String>::new());
    }
}

#[test]
fn packages_between_nodes_and_on_disk_are_generated() {
    use prost::Name as _;
    use warren_proto::{internal_v1, stored_v1};
    // One of each file: a file that is not compiled fails the build here.
    let names = [
        internal_v1::LinkRequest::full_name(),
        internal_v1::HelloRequest::full_name(),
        internal_v1::VoteRequest::full_name(),
        stored_v1::ShardEntry::full_name(),
        stored_v1::StoredEntry::full_name(),
        stored_v1::DataManifest::full_name(),
        stored_v1::QueueRow::full_name(),
        stored_v1::TopologyEntry::full_name(),
    ];
    for name in names {
        assert!(name.starts_with("warren."), "{name}");
    }
}
