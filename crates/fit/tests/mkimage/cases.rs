//! Good and bad FITs, each with what Kiln and U-Boot are to make of it.

use crate::forge::{Forge, Token, flip, set_word};
use crate::maker::{BIG, DEV, Maker, noise, variant};
use sha2::{Digest as _, Sha256};

/// What is to come of a FIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Both take it.
    Taken,
    /// Both refuse it, Kiln with these words.
    Refused(&'static str),
    /// Kiln refuses it with these words; U-Boot takes it.
    Stricter(&'static str),
    /// Kiln refuses it with these words; what U-Boot does depends on whether it believes `hashed-nodes`, as it did until
    /// CVE-2026-46728.
    Depends(&'static str),
    /// Kiln takes it, and U-Boot would if it was built with `CONFIG_FIT_RSASSA_PSS`, as Debian's is not.
    Pss,
}

/// A FIT.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) fit: Vec<u8>,
    pub(crate) configuration: &'static str,
    /// The key that Kiln is given.
    pub(crate) key: &'static str,
    pub(crate) verdict: Verdict,
}

use Verdict::{Depends, Pss, Refused, Stricter, Taken};

const KERNEL: &str = "/images/kernel-1";
const HASH: &str = "/images/kernel-1/hash-1";
const CONF: &str = "/configurations/conf-1";
const SIGNATURE: &str = "/configurations/conf-1/signature-1";
const CLONE: &str = "/configurations/conf-3";
const CLONE_SIGNATURE: &str = "/configurations/conf-3/signature-1";

/// The words that sign a kernel, a device tree and a ramdisk.
const SIGNS_ALL: &str = r#"sign-images = "kernel", "fdt", "ramdisk";"#;
const ALL: &str = r#"kernel = "kernel-1"; fdt = "fdt-1"; ramdisk = "ramdisk-1";"#;
const NODE: &str = r#"signature-1 { algo = "sha256,rsa2048"; key-name-hint = "dev"; sign-images = "kernel", "fdt", "ramdisk"; };"#;
const NODE_2: &str =
    r#"signature-1 { algo = "sha256,rsa2048"; key-name-hint = "dev"; sign-images = "kernel", "fdt"; };"#;
const KERNEL_HEAD: &str = r#"data = /incbin/("kernel"); type = "kernel"; arch = "arm64"; os = "linux";
            compression = "none"; load = <0x40400000>;"#;

struct Cases<'a> {
    maker: &'a Maker,
    good: Vec<u8>,
    all: Vec<Case>,
}

impl Cases<'_> {
    fn put(&mut self, name: &'static str, fit: Vec<u8>, verdict: Verdict) {
        self.all.push(Case { name, fit, configuration: "conf-1", key: DEV, verdict });
    }

    fn put_as(&mut self, name: &'static str, fit: Vec<u8>, configuration: &'static str, verdict: Verdict) {
        self.all.push(Case { name, fit, configuration, key: DEV, verdict });
    }

    /// A FIT that somebody altered who has no key.
    #[track_caller]
    fn forged(&mut self, name: &'static str, verdict: Verdict, alter: impl FnOnce(Forge) -> Forge) {
        let fit = alter(Forge::of(&self.good)).build();
        self.put(name, fit, verdict);
    }

    /// A FIT that the owner of the key made so.
    #[track_caller]
    fn made(&mut self, name: &'static str, verdict: Verdict, words: &[(&str, &str)]) {
        let fit = self.maker.variant(words);
        self.put(name, fit, verdict);
    }
}

/// Makes all cases.
pub(crate) fn all(maker: &Maker) -> Vec<Case> {
    let good = maker.variant(&[]);
    let mut cases = Cases { maker, good, all: Vec::new() };
    good_ones(&mut cases);
    altered_bytes(&mut cases);
    signatures(&mut cases);
    clones(&mut cases);
    swaps(&mut cases);
    two_readings(&mut cases);
    sizes(&mut cases);
    made_otherwise(&mut cases);
    cases.all
}

fn good_ones(cases: &mut Cases<'_>) {
    let good = cases.good.clone();
    cases.put("as mkimage made it", good.clone(), Taken);
    cases.put_as("the second configuration, in gzip", good.clone(), "conf-2", Taken);
    cases.put_as("a configuration that is not there", good, "conf-9", Refused("there are: conf-1, conf-2"));
    let big = cases.maker.variant(&[("rsa2048", "rsa4096"), ("\"dev\"", "\"big\"")]);
    cases.all.push(Case { name: "rsa4096", fit: big, configuration: "conf-1", key: BIG, verdict: Taken });
    cases.made("pkcs-1.5 by name", Taken, &[(SIGNS_ALL, &format!("{SIGNS_ALL} padding = \"pkcs-1.5\";"))]);
    cases.made("pss", Pss, &[(SIGNS_ALL, &format!("{SIGNS_ALL} padding = \"pss\";"))]);
    cases.made("without a ramdisk", Taken, &[("ramdisk = \"ramdisk-1\";", ""), (", \"ramdisk\"", "")]);
    cases.made("the device tree in gzip", Taken, &[(
        "data = /incbin/(\"board.dtb\"); type = \"flat_dt\"; arch = \"arm64\";\n            compression = \"none\";",
        "data = /incbin/(\"board.dtb.gz\"); type = \"flat_dt\"; arch = \"arm64\"; compression = \"gzip\";",
    )]);
    cases.made(
        "two hashes",
        Taken,
        &[(
            "hash-1 { algo = \"sha256\"; };",
            "hash-1 { algo = \"sha256\"; }; hash-2 { algo = \"sha256\"; };",
        )],
    );
    let two = NODE.replace("signature-1", "signature-2").replace("dev", "other");
    cases.made("two signatures", Taken, &[(NODE, &format!("{NODE} {two}"))]);
    cases.forged("the hint at the key altered", Taken, |fit| fit.set(SIGNATURE, "key-name-hint", *b"big\0"));
}

fn altered_bytes(cases: &mut Cases<'_>) {
    let good = cases.good.clone();
    let mut forge = Forge::of(&good);
    let (signature, hash) = (forge.value(SIGNATURE, "value").clone(), forge.value(HASH, "value").clone());
    let kernel = cases.maker.read("kernel");
    let broken = "does not hold";
    cases.put("a bit of the kernel", flip(good.clone(), &kernel), Refused(broken));
    cases.put("the last bit of the kernel", flip(good.clone(), &kernel[8990..]), Refused(broken));
    cases.put(
        "a bit of the device tree",
        flip(good.clone(), &cases.maker.read("board.dtb")[8..]),
        Refused(broken),
    );
    cases.put("a bit of the ramdisk", flip(good.clone(), &cases.maker.read("ramdisk")), Refused(broken));
    cases.put("a bit of a hash", flip(good.clone(), &hash), Refused(broken));
    cases.put("a bit of the signature", flip(good.clone(), &signature), Refused(broken));
    cases.put("a letter of the description", flip(good.clone(), b"two systems"), Refused(broken));
    cases.put("a letter of a property's name", flip(good.clone(), b"entry\0"), Refused(broken));
    cases.forged("another time stamp", Refused(broken), |fit| fit.set("", "timestamp", [0, 0, 0, 1]));
    cases.forged("no time stamp", Refused("no `timestamp`"), |fit| fit.remove("", "timestamp"));
    cases.forged("another load address", Refused(broken), |fit| fit.set(KERNEL, "load", [0x40, 0x80, 0, 0]));
    cases.forged("a signature that is too short", Refused(broken), |mut fit| {
        fit.value(SIGNATURE, "value").truncate(255);
        fit
    });
}

fn signatures(cases: &mut Cases<'_>) {
    cases.made("unsigned", Refused("conf-1 is not signed"), &[(NODE, "")]);
    let image = "hash-1 { algo = \"sha256\"; };";
    let signed = format!("{image} signature-1 {{ algo = \"sha256,rsa2048\"; key-name-hint = \"dev\"; }};");
    cases.made("only its images signed", Refused("CVE-2020-10648"), &[(NODE, ""), (image, &signed)]);
    cases.made("of another key", Refused("another key"), &[("\"dev\"", "\"other\"")]);
    // U-Boot has both keys, Kiln was given the shorter one.
    cases.made(
        "of the longer key",
        Stricter("the key has 2048 bits"),
        &[("\"sha256,rsa2048\"; key-name-hint = \"dev\"", "\"sha256,rsa4096\"; key-name-hint = \"big\"")],
    );
    cases.made("with sha1", Refused("only sha256"), &[("sha256,rsa2048", "sha1,rsa2048")]);
    cases.forged("the signature removed", Refused("is not signed"), |fit| fit.remove_node(SIGNATURE));
    cases.forged("the value of the signature removed", Refused("no `value`"), |fit| {
        fit.remove(SIGNATURE, "value")
    });
    cases.forged("that of another configuration", Refused("does not cover"), |mut fit| {
        for name in ["value", "hashed-nodes", "hashed-strings"] {
            let other = fit.value("/configurations/conf-2/signature-1", name).clone();
            fit = fit.set(SIGNATURE, name, other);
        }
        fit
    });
    cases.forged(
        "hashed-nodes without the hash of the kernel",
        Depends("does not cover /images/kernel-1/hash-1"),
        |mut fit| {
            let list = fit.value(SIGNATURE, "hashed-nodes");
            *list = list_without(list, HASH);
            fit
        },
    );
    cases.forged(
        "hashed-nodes without the configuration",
        Depends("does not cover /configurations/conf-1"),
        |mut fit| {
            let list = fit.value(SIGNATURE, "hashed-nodes");
            *list = list_without(list, CONF);
            fit
        },
    );
    cases.forged("hashed-nodes with one more", Depends("covers `/x`"), |mut fit| {
        fit.value(SIGNATURE, "hashed-nodes").extend(b"/x\0");
        fit
    });
    cases.forged("hashed-nodes with one twice", Depends("a node twice"), |mut fit| {
        fit.value(SIGNATURE, "hashed-nodes").extend(b"/\0");
        fit
    });
    cases
        .forged("no hashed-nodes", Depends("no `hashed-nodes`"), |fit| fit.remove(SIGNATURE, "hashed-nodes"));
    cases.forged("no hashed-strings", Refused("no `hashed-strings`"), |fit| {
        fit.remove(SIGNATURE, "hashed-strings")
    });
    cases.forged("fewer strings", Refused("a name of a property"), |fit| {
        fit.set(SIGNATURE, "hashed-strings", [0, 0, 0, 0, 0, 0, 0, 8])
    });
    cases.forged("more strings than there are", Refused("leaves the strings"), |fit| {
        fit.set(SIGNATURE, "hashed-strings", [0, 0, 0, 0, 0, 0, 0xFF, 0])
    });
    cases
        .forged("a signature more", Refused("does not hold"), |fit| fit.copy(SIGNATURE, "signature-2", CONF));
}

fn list_without(list: &[u8], path: &str) -> Vec<u8> {
    let text = String::from_utf8(list.to_vec()).unwrap();
    text.split_terminator('\0')
        .filter(|one| *one != path)
        .flat_map(|one| [one, "\0"])
        .collect::<String>()
        .into()
}

/// A copy of the signed configuration that names a kernel which nobody signed.
fn clone(fit: Forge) -> Forge {
    fit.copy(CONF, "conf-3", "/configurations").set(CLONE, "kernel", *b"kernel-3\0")
}

/// Exchanges paths in what a copied signature says that it covers.
fn covers(mut fit: Forge, exchange: &[(&str, &str)]) -> Forge {
    let list = String::from_utf8(fit.value(CLONE_SIGNATURE, "hashed-nodes").clone()).unwrap();
    let list = exchange.iter().fold(list, |list, (from, to)| list.replace(from, to));
    fit.set(CLONE_SIGNATURE, "hashed-nodes", list)
}

fn clones(cases: &mut Cases<'_>) {
    let good = cases.good.clone();
    let mut put = |name, verdict, alter: &dyn Fn(Forge) -> Forge| {
        cases.put_as(name, alter(clone(Forge::of(&good))).build(), "conf-3", verdict);
    };
    put("a cloned configuration", Refused("does not cover /configurations/conf-3"), &|fit| fit);
    put("a clone that says it is covered", Refused("does not hold"), &|fit| {
        covers(fit, &[("conf-1", "conf-3"), ("kernel-1", "kernel-3")])
    });
    put("a clone covered next to its original", Refused("does not cover /images/kernel-3"), &|fit| {
        covers(fit, &[("/configurations/conf-1", "/configurations/conf-1\0/configurations/conf-3")])
    });
    put(
        "a clone whose kernel is not said to be covered",
        Refused("does not cover /images/kernel-3"),
        &|fit| covers(fit, &[("conf-1", "conf-3")]),
    );
    let original = Forge::of(&good).copy(CONF, "conf-3", "/configurations").build();
    cases.put_as("a clone of nothing but the name", original, "conf-3", Refused("does not cover"));
}

fn swaps(cases: &mut Cases<'_>) {
    let evil = noise(2, 9000);
    let hash = Sha256::digest(&evil).to_vec();
    let broken = "does not hold";
    cases.forged("another kernel", Refused(broken), |fit| fit.set(KERNEL, "data", evil.clone()));
    cases.forged("another kernel with its hash", Refused("signature-1 does not hold"), |fit| {
        fit.set(KERNEL, "data", evil.clone()).set(HASH, "value", hash.clone())
    });
    cases.forged("another kernel, and no hash", Refused("has no hash"), |fit| {
        fit.set(KERNEL, "data", evil.clone()).remove_node(HASH)
    });
    cases.forged("another kernel, and a hash that is ignored", Refused("a name of a property"), |fit| {
        fit.set(KERNEL, "data", evil.clone()).add(HASH, "uboot-ignore", [0, 0, 0, 1])
    });
    cases.forged("the configuration names another kernel", Refused("does not cover"), |fit| {
        fit.set(CONF, "kernel", *b"kernel-3\0")
    });
    cases.forged("two images with their names exchanged", Refused("does not hold"), |fit| {
        fit.remove_node(KERNEL).copy("/images/kernel-3", "kernel-1", "/images")
    });
    // Nobody signed this ramdisk, and there were versions of U-Boot that took it with any hash.
    let partly = cases.maker.variant(&[(", \"ramdisk\";", ";")]);
    let uncovered = "does not cover /images/ramdisk-1";
    cases.put("a ramdisk that is not in sign-images", partly.clone(), Depends(uncovered));
    let swapped = Forge::of(&partly)
        .set("/images/ramdisk-1", "data", evil)
        .set("/images/ramdisk-1/hash-1", "value", hash)
        .build();
    cases.put("such a ramdisk exchanged", swapped, Depends(uncovered));
}

fn two_readings(cases: &mut Cases<'_>) {
    let address = "unit address";
    cases.forged("an image with a unit address", Refused(address), |fit| {
        fit.copy_before("/images/kernel-3", "kernel-1@1", KERNEL)
    });
    cases.forged("a configuration with a unit address", Refused(address), |fit| {
        fit.copy_before(CONF, "conf-1@1", CONF).set("/configurations/conf-1@1", "kernel", *b"kernel-3\0")
    });
    cases.forged("a unit address somewhere else", Refused(address), |fit| {
        fit.copy("/images/kernel-3", "x@y", "/images/kernel-3")
    });
    cases.forged("a second root", Refused("second root"), |mut fit| {
        let copy = fit.tokens.clone();
        fit.tokens.extend(copy);
        fit
    });
    cases.forged("a second node of images", Refused("/images is there twice"), |fit| {
        fit.copy_before("/images", "images", "/images")
    });
    cases.forged("a second kernel of the same name", Refused("kernel-1 is there twice"), |fit| {
        fit.copy_before("/images/kernel-3", "kernel-1", KERNEL)
    });
    cases.forged("a second configuration of the same name", Refused("conf-1 is there twice"), |fit| {
        fit.copy_before(CONF, "conf-1", CONF)
    });
    // No signature covers data, so U-Boot looks at the first, and at its hash.
    cases.forged("data twice", Refused("data in /images/kernel-1 is there twice"), |fit| {
        fit.add(KERNEL, "data", noise(2, 9000))
    });
    cases.forged("data twice, the good one first", Stricter("is there twice"), |mut fit| {
        let at = fit.node(HASH).start;
        fit.tokens.insert(at, Token::property("data", noise(2, 9000)));
        fit
    });
    cases.forged("a property behind a node", Refused("behind a node"), |mut fit| {
        let at = fit.node(CONF).end - 1;
        fit.tokens.insert(at, Token::property("kernel", *b"kernel-3\0"));
        fit
    });
    cases.forged("a NOP where nothing is signed", Stricter("a NOP"), |mut fit| {
        let at = fit.node("/images/kernel-3").start + 1;
        fit.tokens.insert(at, Token::Nop);
        fit
    });
    cases.forged("data in the configuration", Stricter("has `data`"), |fit| fit.add(CONF, "data", [1]));
    cases.forged("a node more in the root", Refused("a node `more`"), |fit| fit.copy(KERNEL, "more", ""));
}

fn sizes(cases: &mut Cases<'_>) {
    let good = cases.good.clone();
    let mut put = |name, at: usize, by: usize, verdict| {
        let mut fit = good.clone();
        let size = u32::from_be_bytes(fit[at..at + 4].try_into().unwrap()) as usize;
        set_word(&mut fit, at, size.wrapping_add(by));
        cases.put(name, fit, verdict);
    };
    put("a tree that says it is larger than it may be", 4, 0x7000_0000, Refused("cut off"));
    put("a tree that says it is smaller", 4, 0_usize.wrapping_sub(4096), Refused("added to"));
    put("structure beyond the file", 36, 0x1000_0000, Refused("one behind the other"));
    put("strings beyond the file", 32, 0x1000_0000, Refused("one behind the other"));
    put("structure that begins elsewhere", 8, 4, Refused("one behind the other"));
    put("another version", 20, 1, Stricter("not of version 17"));
    put("reserved memory", 44, 1, Stricter("reserves memory"));
    let kernel = cases.maker.read("kernel");
    let at = good.windows(64).position(|window| window == &kernel[..64]).unwrap();
    let mut inflated = good.clone();
    set_word(&mut inflated, at - 8, 0x4000_0000);
    cases.put("an inflated image", inflated, Refused("ends too early"));
    let mut negative = good.clone();
    set_word(&mut negative, at - 8, 0xFFFF_FFF0);
    cases.put("an image of a size below zero", negative, Refused("ends too early"));
    let cut = good[..good.len() / 2].to_vec();
    cases.put("half a file", cut, Refused("cut off"));
    cases.put("something behind the tree", [&good[..], b"more"].concat(), Stricter("added to"));
    let size = |value: u32| value.to_be_bytes();
    for (name, property, value) in [
        ("a size that is not signed", "data-size", size(16)),
        ("an offset that is not signed", "data-offset", size(16)),
        ("a position that is not signed", "data-position", size(0x4800_0000)),
    ] {
        // What U-Boot makes of each was measured; without its data all three are refused.
        let verdict = if property == "data-size" { Stricter("data-size") } else { Refused(property) };
        cases.forged(name, verdict, |fit| fit.add(KERNEL, property, value));
    }
    let external = cases.maker.fit(crate::maker::SOURCE, &["-E"]);
    cases.put("data outside of the tree", external, Stricter("added to"));
}

fn made_otherwise(cases: &mut Cases<'_>) {
    let kernel = |words: &str| KERNEL_HEAD.replace("type = \"kernel\"", words);
    cases.made(
        "a hash of sha1",
        Stricter("only sha256"),
        &[("hash-1 { algo = \"sha256\"; };", "hash-1 { algo = \"sha1\"; };")],
    );
    let more = "hash-1 { algo = \"sha256\"; }; hash-2 { algo = \"crc32\"; };";
    cases.made(
        "a hash of crc32 next to a good one",
        Stricter("only sha256"),
        &[("hash-1 { algo = \"sha256\"; };", more)],
    );
    cases.made(
        "no hash at all",
        Refused("has no hash"),
        &[("hash-1 { algo = \"sha256\"; };", ""), (NODE, ""), (NODE_2, "")],
    );
    cases.made(
        "firmware as the kernel",
        Stricter("another type"),
        &[(KERNEL_HEAD, &kernel("type = \"firmware\""))],
    );
    cases.made(
        "a kernel for no system",
        Refused("not `linux`"),
        &[(KERNEL_HEAD, &KERNEL_HEAD.replace("os = \"linux\"", "os = \"netbsd\""))],
    );
    cases.made(
        "a ramdisk as the device tree",
        Refused("another type"),
        &[
            ("fdt = \"fdt-1\"; ramdisk = \"ramdisk-1\"", "fdt = \"ramdisk-1\""),
            (SIGNS_ALL, "sign-images = \"kernel\", \"fdt\";"),
        ],
    );
    cases.made(
        "a device tree that is none",
        Refused("no device tree"),
        &[("/incbin/(\"board.dtb\")", "/incbin/(\"ramdisk\")")],
    );
    cases.made(
        "more to load",
        Stricter("`loadables`"),
        &[
            (ALL, &format!("{ALL} loadables = \"kernel-3\";")),
            (SIGNS_ALL, "sign-images = \"kernel\", \"fdt\", \"ramdisk\", \"loadables\";"),
        ],
    );
    cases.made(
        "an overlay",
        Refused("more than one image as `fdt`"),
        &[(ALL, "kernel = \"kernel-1\"; fdt = \"fdt-1\", \"fdt-1\"; ramdisk = \"ramdisk-1\";")],
    );
    cases.made(
        "an entry that is not the first byte",
        Stricter("first byte"),
        &[("entry = <0x40400000>", "entry = <0x40400040>")],
    );
    cases.made(
        "another architecture",
        Stricter("not `arm64`"),
        &[(KERNEL_HEAD, &KERNEL_HEAD.replace("arm64", "arm"))],
    );
    cases.made(
        "a compression that Kiln does not know",
        Stricter("compression `lzma`"),
        &[(KERNEL_HEAD, &KERNEL_HEAD.replace("compression = \"none\"", "compression = \"lzma\""))],
    );
    for (name, words, without) in [
        ("no load address", "no `load`", "load = <0x40400000>;"),
        ("no entry", "no `entry`", "entry = <0x40400000>;"),
        ("no compression", "no `compression`", "compression = \"none\"; load"),
    ] {
        let kept = if without.ends_with(" load") { "load" } else { "" };
        cases.made(name, Refused(words), &[(without, kept)]);
    }
    let packed = cases.maker.read("kernel.gz");
    std::fs::write(cases.maker.path("more.gz"), [&packed[..], b"more"].concat()).unwrap();
    std::fs::write(cases.maker.path("less.gz"), &packed[..packed.len() - 4]).unwrap();
    for (name, file, words) in [
        ("gzip that something follows", "more.gz", "something follows"),
        ("half of gzip", "less.gz", "no gzip file"),
    ] {
        let fit = cases.maker.variant(&[("kernel.gz", file)]);
        // U-Boot would see it only when it unpacks.
        cases.put_as(name, fit, "conf-2", Stricter(words));
    }
    let unsigned_source = variant(&[(NODE, "")]);
    let unsigned = cases.maker.fit(&unsigned_source, &[]);
    cases.put_as(
        "another configuration is signed, this one is not",
        unsigned.clone(),
        "conf-1",
        Refused("not signed"),
    );
    cases.put_as("and the one that is", unsigned, "conf-2", Taken);
}
