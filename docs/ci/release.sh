#!/bin/sh
# The steps of a release, the same on a build server and on a laptop. docs/ci-recipe.md explains them.
#
#   release.sh build     the stages, from source, and what they are made of         → $BUILT
#   release.sh test      a device in QEMU: provisioned, closed, booted
#   release.sh sign      the release, with the keys on a PKCS#11 token; KILN_PIN    → $OUT, $OUT.tar
#   release.sh verify    that archive, against the owner's root; needs no key
#   release.sh publish   the archive and its SHA-256                                → $PUBLISH
#
# Run it at the top of a Kiln workspace. `sign`, `verify` and `publish` trust the command `kiln` of the machine that they
# run on, and nothing that another step made.
set -eu

: "${KILN:=kiln}"                       # the command, installed on this machine
: "${BUILT:=build.tar}"                 # what `build` hands to the machine that signs
: "${STAGES:=stages}"                   # where `sign` puts the stages of $BUILT, for $CONFIG to name
: "${CONFIG:=kiln.toml}"                # what the release is made of
: "${OUT:=release}"                     # the folder of the release, with a name of its own for each
: "${ROOT:=owner-root.pub.pem}"         # the owner's root, from the owner and not from the release
: "${PUBLISH:=}"                        # the folder that releases are published in
: "${PREVIOUS:=}"                       # the folder of the release before; else the newest in $PUBLISH
: "${FLASH:=}"                          # more options for `cargo xtask flash`
: "${COMMIT:=}"                         # the commit that the stages are of; else that in $CONFIG, or of the workspace

fail() {
    printf 'error: %s\n  cure  %s\n' "$1" "$2" >&2
    exit 1
}

build() {
    cargo xtask build
    tar -cf "$BUILT" -C target/kiln/build stage1-provision.elf stage2-production.elf crates.json
}

test_on_qemu() {
    # shellcheck disable=SC2086 # several options
    cargo xtask flash --device ci --new --report test.json $FLASH
}

find_kiln() {
    command -v "$KILN" > /dev/null || fail "there is no command $KILN on this machine" \
        "Install it from source that you trust (cargo install --locked --path crates/kiln), or name it in KILN."
}

# Takes the stages and the list of their crates, and nothing else, out of what was built; as their bytes, so that no link and no path of it counts.
take_stages() {
    [ -f "$BUILT" ] || fail "$BUILT is not there" "Run release.sh build, or name in BUILT what it made."
    if [ -e "$STAGES" ]; then
        rm -f "$STAGES/stage1-provision.elf" "$STAGES/stage2-production.elf" "$STAGES/crates.json"
        rmdir "$STAGES" || fail "$STAGES is not a folder for stages only" "Name another place in STAGES."
    fi
    mkdir "$STAGES"
    for file in stage1-provision.elf stage2-production.elf crates.json; do
        tar --occurrence=1 -xOf "$BUILT" -- "$file" > "$STAGES/$file" && [ -s "$STAGES/$file" ] ||
            fail "$BUILT holds no $file" "Run release.sh build again."
    done
    sha256sum "$STAGES/stage1-provision.elf" "$STAGES/stage2-production.elf" "$STAGES/crates.json"
}

# Packs the folder $1/$2 into $3. The same files give the same archive, whatever their modes and times are.
pack() {
    find "$1/$2" -type f -exec chmod a-x {} +
    tar --format=gnu --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go= --hard-dereference \
        -cf "$3.part" -C "$1" -- "$2"
    mv "$3.part" "$3"
}

# Unpacks the release of $OUT.tar into the empty folder $1, verifies it, and packs it again. The archive has to be that one.
open_archive() {
    name=$(basename "$OUT")
    [ -f "$OUT.tar" ] || fail "$OUT.tar is not there" "Run release.sh sign, or name in OUT what it made, without .tar."
    { tar -xf "$OUT.tar" -C "$1" --no-same-owner --no-same-permissions -- "$name" &&
        [ -d "$1/$name" ] && [ ! -L "$1/$name" ]; } ||
        fail "$OUT.tar holds no release $name" "Take the archive as release.sh sign wrote it, under its own name."
    "$KILN" verify "$1/$name" --root "$ROOT"
    (cd "$1/$name" && sha256sum --check --quiet SHA256SUMS)
    find "$1/$name" -type d -empty -delete
    pack "$1" "$name" "$1/$name.tar"
    cmp -s "$1/$name.tar" "$OUT.tar" || fail "$OUT.tar holds more than a release, or was packed by something else" \
        "Take the archive from the machine that signed, and ask who altered it."
}

sign() {
    find_kiln
    [ ! -e "$OUT.tar" ] || fail "$OUT.tar is there already" "Name another release in OUT, or remove what is there."
    take_stages
    if [ -z "$PREVIOUS" ] && [ -n "$PUBLISH" ]; then
        find_previous
    fi
    # What kiln.toml says goes before what the workspace is at.
    if [ -z "$COMMIT" ] && ! grep -q '^commit *=' "$CONFIG"; then
        COMMIT=$(git rev-parse HEAD) && git diff-index --quiet HEAD -- ||
            fail "no commit says what the stages are made of" "Commit what \`git status\` lists, or name the commit in COMMIT."
    fi
    "$KILN" release --config "$CONFIG" --out "$OUT" ${COMMIT:+--commit "$COMMIT"} ${PREVIOUS:+--previous "$PREVIOUS"}
    pack "$(dirname "$OUT")" "$(basename "$OUT")" "$OUT.tar"
}

# Takes the manifest of the newest release in $PUBLISH, which `kiln` verifies.
find_previous() {
    [ -d "$PUBLISH" ] || fail "$PUBLISH is not there" "Mount the share, or leave PUBLISH out for a first release."
    newest=$(find "$PUBLISH" -maxdepth 1 -name '*.tar' | sort -V | tail -n 1)
    [ -n "$newest" ] || return 0
    PREVIOUS=$(mktemp -d)
    trap 'rm -rf "$PREVIOUS"' EXIT
    tar --occurrence=1 -xOf "$newest" -- "$(basename "$newest" .tar)/release.cose" > "$PREVIOUS/release.cose" ||
        fail "$newest holds no release" "Have in PUBLISH what release.sh publish put there, and nothing else."
}

verify() {
    find_kiln
    new=$(mktemp -d "$OUT.check-XXXXXX")
    trap 'rm -rf "$new"' EXIT
    open_archive "$new"
}

publish() {
    find_kiln
    [ -d "$PUBLISH" ] || fail "PUBLISH names no folder to publish in" "Name the folder, or mount the share."
    to=$PUBLISH/$(basename "$OUT").tar
    [ ! -e "$to" ] || fail "$to is there already" "Give each release an OUT of its own: nothing is written over."
    new=$(mktemp -d "$PUBLISH/.new-XXXXXX")
    trap 'rm -rf "$new"' EXIT
    open_archive "$new"
    # What is published is what was verified.
    (cd "$new" && sha256sum -- "$name.tar") > "$to.sha256"
    mv "$new/$name.tar" "$to"
}

case "${1-}" in
    build) build ;;
    test) test_on_qemu ;;
    sign) sign ;;
    verify) verify ;;
    publish) publish ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
