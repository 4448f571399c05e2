#!/bin/sh
# The steps of a release, the same on a build server and on a laptop. docs/ci-recipe.md explains them.
#
#   release.sh build     the stages, from source, and the command `kiln`            → $BUILT
#   release.sh test      a device in QEMU: provisioned, closed, booted
#   release.sh sign      the release, with the keys on a PKCS#11 token; KILN_PIN    → $OUT, $OUT.tar
#   release.sh verify    that release, against the owner's root; needs no key
#   release.sh publish   the archive and its SHA-256                                → $PUBLISH
#
# Run it at the top of a Kiln workspace.
set -eu

: "${KILN:=target/release/kiln}"        # the command
: "${BUILT:=build.tar}"                 # what `build` hands to the machine that signs
: "${CONFIG:=kiln.toml}"                # what the release is made of
: "${OUT:=release}"                     # the folder of the release
: "${ROOT:=owner-root.pub.pem}"         # the owner's root, from the owner and not from the release
: "${PREVIOUS:=}"                       # the folder of the release before
: "${FLASH:=}"                          # more options for `cargo xtask flash`
: "${PUBLISH:=}"                        # the folder that releases are published in

build() {
    cargo xtask build
    cargo build --release --locked --package kiln
    tar -cf "$BUILT" target/kiln/build "$KILN"
}

test_on_qemu() {
    # shellcheck disable=SC2086 # several options
    cargo xtask flash --device ci --new --report test.json $FLASH
}

sign() {
    [ -x "$KILN" ] || tar -xf "$BUILT"
    "$KILN" release --config "$CONFIG" --out "$OUT" ${PREVIOUS:+--previous "$PREVIOUS"}
    # The same folder gives the same archive.
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
        -cf "$OUT.tar" -C "$(dirname "$OUT")" "$(basename "$OUT")"
}

verify() {
    [ -x "$KILN" ] || tar -xf "$BUILT"
    [ -d "$OUT" ] || tar -xf "$OUT.tar" -C "$(dirname "$OUT")"
    check "$OUT"
}

check() {
    "$KILN" verify "$1" --root "$ROOT"
    (cd "$1" && sha256sum --check --quiet SHA256SUMS)
}

publish() {
    [ -n "$PUBLISH" ] || { echo "error: PUBLISH names no folder to publish in" >&2; exit 1; }
    name=$(basename "$OUT")
    [ ! -e "$PUBLISH/$name.tar" ] || { echo "error: $PUBLISH/$name.tar is there already" >&2; exit 1; }
    # What is published is what is verified: the archive, as it comes out there.
    new=$(mktemp -d "$PUBLISH/.new-XXXXXX")
    trap 'rm -rf "$new"' EXIT
    cp "$OUT.tar" "$new/$name.tar"
    tar -xf "$new/$name.tar" -C "$new"
    check "$new/$name"
    (cd "$new" && sha256sum "$name.tar") > "$PUBLISH/$name.tar.sha256"
    mv "$new/$name.tar" "$PUBLISH/$name.tar"
}

case "${1-}" in
    build) build ;;
    test) test_on_qemu ;;
    sign) sign ;;
    verify) verify ;;
    publish) publish ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
