//! Generates the Rust code of every package under `proto/`, and the descriptor set that reflection serves.
//! Not here: anything written by hand; conversions live in `src/convert`.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use protox::prost::Message as _;

/// Packages that clients may see; the others are not offered by reflection.
const CLIENT_FILES: &[&str] = &[
    "google/rpc/error_details.proto",
    "warren/admin/v1/dead_letter.proto",
    "warren/admin/v1/operation.proto",
    "warren/admin/v1/policy.proto",
    "warren/admin/v1/topology.proto",
    "warren/admin/v1/user.proto",
    "warren/cluster/v1/cluster.proto",
    "warren/v1/messaging.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", root.display());

    // Every file there is, so that none can be forgotten; sorted, so that the output is the same everywhere.
    let mut every_file = Vec::new();
    find_files(&root, &mut every_file)?;
    every_file.sort();
    let descriptors = protox::compile(every_file, [&root])?;
    let mut config = tonic_prost_build::Config::new();
    // Error details are packed by their type name.
    config.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .codec_path("crate::codec::SizedCodec")
        .emit_rerun_if_changed(false)
        .include_file("packages.rs")
        .compile_fds_with_config(descriptors, config)?;

    let mut reflected = protox::compile(CLIENT_FILES, [&root])?;
    for file in &mut reflected.file {
        // Comments are for readers of the files; leaving them out keeps the binary small.
        file.source_code_info = None;
    }
    let path = Path::new(&env::var("OUT_DIR")?).join("client_descriptor_set.bin");
    fs::write(path, reflected.encode_to_vec())?;
    Ok(())
}

fn find_files(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            find_files(&path, found)?;
        } else if path.extension().is_some_and(|it| it == "proto") {
            found.push(path);
        }
    }
    Ok(())
}
