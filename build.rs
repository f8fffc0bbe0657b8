//! Compiles `proto/` with protox, since protoc is not everywhere.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["vipd/v1/admin.proto", "vipd/v1/peer.proto"], ["proto"])?;
    // For the gRPC reflection service.
    let set = std::path::Path::new(&std::env::var("OUT_DIR")?).join("vipd.bin");
    std::fs::write(set, descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::raft::unpack::Bounded")
        .type_attribute(".vipd.v1", "#[derive(serde::Serialize)]")
        // A message's bytes are the same each time that it is encoded.
        .btree_map(".vipd.v1.Membership.nodes")
        .compile_fds(descriptors)?;
    Ok(())
}
