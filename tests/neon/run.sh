#!/usr/bin/env bash
# Builds the kernels (src/model/kernel) and their tests for AArch64 and runs them under qemu.
#
# For x86-64 Debian or Ubuntu machines without the AArch64 standard library and a cross compiler: Debian's packages are
# downloaded and unpacked under target/neon, nothing is installed. cargo is the machine's own.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/target/neon
root=$here/root

if [ ! -e "$here/complete" ]; then
    mkdir -p "$here"/{state/lists/partial,cache/archives/partial,debs} "$root"
    touch "$here/state/status"
    apt=(apt-get -q -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64
        -o "Dir::State=$here/state" -o "Dir::State::status=$here/state/status" -o "Dir::Cache=$here/cache"
        -o "APT::Sandbox::User=$(id -un)")
    "${apt[@]}" update
    standard=$(apt-cache "${apt[@]:2}" depends libstd-rust-web-dev | grep -o 'libstd-rust-web-[0-9][0-9.]*' | head -1)
    llvm=$(apt-cache "${apt[@]:2}" depends "$standard" | grep -o 'libllvm[0-9][0-9]*' | head -1)
    (cd "$here/debs" && "${apt[@]}" download rustc-web "$standard" "$llvm" libstd-rust-web-dev libstd-rust-web-dev:arm64 \
        qemu-user-static binutils-aarch64-linux-gnu libbinutils gcc-12-aarch64-linux-gnu cpp-12-aarch64-linux-gnu \
        libgcc-12-dev-arm64-cross libgcc-s1-arm64-cross libc6-dev-arm64-cross libc6-arm64-cross \
        linux-libc-dev-arm64-cross)
    for package in "$here"/debs/*.deb; do dpkg -x "$package" "$root"; done
    # The unpacked programs find their own libraries.
    wrap() {
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$root/usr/lib/x86_64-linux-gnu" "$2" > "$here/$1"
        chmod +x "$here/$1"
    }
    wrap rustc "$root/usr/bin/rustc"
    wrap cc "$root/usr/bin/aarch64-linux-gnu-gcc-12 --sysroot=$root -B$root/usr/bin/aarch64-linux-gnu- \
-B$root/usr/lib/gcc-cross/aarch64-linux-gnu/12 -isystem $root/usr/aarch64-linux-gnu/include"
    touch "$here/complete"
fi

export RUSTC=$here/rustc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$here/cc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$root/usr/bin/qemu-aarch64-static -L $root/usr/aarch64-linux-gnu"
export CARGO_TARGET_DIR=$here/build
cargo test --release --target aarch64-unknown-linux-gnu --manifest-path tests/neon/Cargo.toml --lib
