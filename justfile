# `just verify` never writes; `just fix` does. CI runs .ci/run.

# What can be checked without the lab, in the order of the time it takes
verify: docs
    ./cluster/test.sh quick

# Everything: the lab, moto, the package on a booted systemd; as root
verify-all: docs
    ./cluster/test.sh

# The API's documentation has no broken link
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --lib --quiet

# Format, and what clippy can mend by itself
fix:
    cargo clippy --fix --allow-dirty --workspace --lib --bins
    cargo fmt --all
    if command -v terraform >/dev/null; then terraform fmt cluster/terraform; fi
