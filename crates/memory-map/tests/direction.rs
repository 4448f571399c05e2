//! Dependencies between Kiln's crates point one way, as docs draw it.

use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand, Package};
use std::fs;

/// What a crate is, which decides what it may depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    /// A library that firmware and hosts share. It depends on libraries of lower layers only.
    Library(u8),
    /// Code for the hardware. It depends on facts and traits, layer 0 and 1, and on hardware of lower layers.
    Hardware(u8),
    /// A stage: every library; for its `main` also hardware, which its library never sees.
    Stage,
    /// Code for hosts and test payloads: anything but a stage's binary.
    Host,
}

/// Every package of the workspace. A new one has to be given its place here.
const PARTS: &[(&str, Part)] = &[
    ("memory-map", Part::Library(0)),
    ("fail-code", Part::Library(0)),
    ("bulk-crypto", Part::Library(0)),
    ("boot-crypto", Part::Library(1)),
    ("hal", Part::Library(1)),
    ("lifecycle", Part::Library(2)),
    ("boot-info", Part::Library(3)),
    ("sealed-image", Part::Library(3)),
    ("store", Part::Library(4)),
    ("factory-proto", Part::Library(4)),
    ("boot-select", Part::Library(5)),
    ("el3", Part::Hardware(0)),
    ("drivers", Part::Hardware(0)),
    ("board-qemu-virt", Part::Hardware(1)),
    ("stage0", Part::Stage),
    ("stage1-provision", Part::Stage),
    ("stage2-production", Part::Stage),
    ("payload", Part::Host),
    ("fit", Part::Host),
    ("release", Part::Host),
    ("emulator", Part::Host),
    ("authority", Part::Host),
    ("station", Part::Host),
    ("sim", Part::Host),
    ("figures", Part::Host),
    ("fuzz-targets", Part::Host),
    ("vectors", Part::Host),
    ("fault-rig", Part::Host),
    ("kiln", Part::Host),
    ("xtask", Part::Host),
    ("tests", Part::Host),
];

/// The only libraries in which `unsafe` may appear.
fn may_hold_unsafe(name: &str) -> bool {
    matches!(part(name), Some(Part::Hardware(_))) || name == "payload"
}

fn part(name: &str) -> Option<Part> {
    PARTS.iter().find(|(package, _)| *package == name).map(|(_, part)| *part)
}

/// Says why `from` must not depend on `to` in this way; `None` if it may.
fn objection(from: Part, to: Part, dependency: &Dependency) -> Option<&'static str> {
    let only_on_the_device =
        dependency.target.as_ref().is_some_and(|target| target.to_string() == "cfg(target_os = \"none\")");
    let host_feature = dependency.features.iter().any(|feature| feature == "host");
    match (from, to) {
        (Part::Host, Part::Stage) => None,
        (_, Part::Stage) => Some("nothing but a host depends on a stage"),
        (Part::Host, _) => None,
        (_, Part::Host) => Some("firmware does not depend on host code"),
        _ if host_feature => Some("firmware does not turn on a host feature"),
        (Part::Library(upper), Part::Library(lower)) if lower < upper => None,
        (Part::Library(_), Part::Library(_)) => Some("libraries depend on lower layers only"),
        (Part::Library(_), Part::Hardware(_)) => Some("libraries know no hardware"),
        (Part::Hardware(_), Part::Library(lower)) if lower <= 1 => None,
        (Part::Hardware(_), Part::Library(_)) => Some("hardware code knows no policy"),
        (Part::Hardware(upper), Part::Hardware(lower)) if lower < upper => None,
        (Part::Hardware(_), Part::Hardware(_)) => Some("hardware code depends on lower layers only"),
        (Part::Stage, Part::Library(_)) => None,
        (Part::Stage, Part::Hardware(_)) if only_on_the_device => None,
        (Part::Stage, Part::Hardware(_)) => {
            Some("a stage's library runs on hosts: name hardware under cfg(target_os = \"none\") only")
        }
    }
}

fn workspace() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .expect("cargo metadata reads the workspace")
}

/// Lists the dependencies of a package on others of the workspace, those of its tests left out.
fn dependencies(package: &Package) -> impl Iterator<Item = (&Dependency, Part)> {
    let kept = |dependency: &&Dependency| {
        dependency.kind != DependencyKind::Development && dependency.path.is_some()
    };
    package
        .dependencies
        .iter()
        .filter(kept)
        .filter_map(|dependency| Some((dependency, part(&dependency.name)?)))
}

#[test]
fn every_package_has_its_place() {
    for package in &workspace().packages {
        assert!(part(&package.name).is_some(), "{} is not in PARTS: say which part it is", package.name);
    }
}

#[test]
fn dependencies_point_one_way() {
    let mut looked_at = 0;
    for package in &workspace().packages {
        let Some(from) = part(&package.name) else { continue };
        for (dependency, to) in dependencies(package) {
            looked_at += 1;
            if let Some(objection) = objection(from, to, dependency) {
                panic!("{} depends on {}: {objection}", package.name, dependency.name);
            }
        }
    }
    assert!(looked_at >= 20, "only {looked_at} dependencies were looked at");
}

/// The check itself: what it must refuse, it refuses.
#[test]
fn wrong_directions_are_refused() {
    let plain = |extra: &str| -> Dependency {
        let json = format!(
            r#"{{"name":"x","source":null,"req":"*","kind":null,"rename":null,"optional":false,
                "uses_default_features":true,"registry":null,{extra}}}"#
        );
        serde_json::from_str(&json).expect("a dependency")
    };
    let any = plain(r#""features":[],"target":null"#);
    let device = plain(r#""features":[],"target":"cfg(target_os = \"none\")""#);
    let host = plain(r#""features":["host"],"target":null"#);
    let refused = |from: &str, to: &str, how| {
        objection(part(from).expect("a part"), part(to).expect("a part"), how).is_some()
    };
    assert!(refused("stage0", "stage2-production", &any));
    assert!(refused("stage0", "board-qemu-virt", &any) && !refused("stage0", "board-qemu-virt", &device));
    assert!(refused("stage0", "lifecycle", &host) && !refused("release", "lifecycle", &host));
    assert!(refused("hal", "store", &any) && !refused("store", "hal", &any));
    assert!(refused("drivers", "lifecycle", &any) && refused("store", "drivers", &any));
    assert!(refused("stage2-production", "release", &any) && refused("fail-code", "memory-map", &any));
}

#[test]
fn only_hardware_code_may_hold_unsafe() {
    let mut looked_at = 0;
    for package in &workspace().packages {
        for target in package.targets.iter().filter(|target| target.is_lib()) {
            let source = fs::read_to_string(&target.src_path).expect("a library has a source");
            let forbids = source.lines().any(|line| line == "#![forbid(unsafe_code)]");
            assert!(
                forbids || may_hold_unsafe(&package.name),
                "{} does not forbid unsafe code",
                package.name
            );
            looked_at += 1;
        }
    }
    assert!(looked_at >= 10, "only {looked_at} libraries were looked at");
}
