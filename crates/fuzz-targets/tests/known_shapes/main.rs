//! The shapes in which other boot chains were broken, one test each, against the code that ships here.
//!
//! Each shows that the sound thing is taken, does to it what the attack did, and asserts the exact code. The table of
//! them is made from the same list as the tests, so none is counted that does not exist.

mod images;
mod order;
mod signatures;
mod sizes;
mod world;

use figures::Figure;

/// Makes a test of each shape, and a table of them.
macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident => $run:path;)*) => {
        $($(#[$doc])* #[test] fn $name() { $run() })*

        /// Every shape, with what runs it.
        const SHAPES: &[(&str, fn())] = &[$((stringify!($name), $run),)*];
    };
}

shapes! {
    /// U-Boot: a FIT's configuration, which nothing signs, chooses which images are verified.
    cve_2020_10648_lengths_that_nobody_signed_choose_another_manifest => images::lengths_choose_another_manifest;
    /// U-Boot: the image itself names which of its parts its signature covers.
    cve_2026_46728_the_message_says_what_its_signature_covers => signatures::the_message_says_what_is_covered;
    /// U-Boot: `name@1` is taken for `name`.
    cve_2021_27097_a_node_with_a_unit_address_is_taken_for_another => world::a_unit_address_in_the_tree;
    /// U-Boot: the first of two nodes is verified, the second one used.
    cve_2021_27138_a_second_node_of_the_same_kind => images::a_second_object_of_a_kind;
    /// U-Boot: a length out of the network is believed.
    cve_2018_18439_a_payload_longer_than_its_place => sizes::a_payload_longer_than_its_slot;
    /// U-Boot: a length out of a file system is believed.
    cve_2018_18440_metadata_longer_than_the_buffer => sizes::metadata_longer_than_the_buffer;
    /// TF-A: the length of an extension in an X.509 certificate is believed.
    cve_2022_47630_a_length_in_a_certificate_that_lies => sizes::a_length_in_a_certificate_that_lies;
    /// TF-A: a sum of address and size overflows.
    cve_2016_10319_an_address_and_a_size_whose_sum_overflows => sizes::a_sum_that_overflows;
    /// Zynq UltraScale+: encrypted images boot without a signature.
    cve_2019_5478_an_encrypted_image_without_a_signature => images::encrypted_and_not_signed;
    /// PKfail: products ship with a vendor's published test key.
    cve_2024_8105_a_published_key_signs_for_a_production_die => images::a_published_key;
    /// PKfail: the same for the secrets in the fuses.
    cve_2024_8105_a_published_secret_in_a_production_die => world::a_published_secret_in_the_fuses;
    /// GCM loses everything when a key meets a nonce twice.
    nonce_reuse_two_copies_of_one_image_share_no_block => images::two_copies_share_nothing;
    /// The same, of what the authority encrypts.
    nonce_reuse_two_tickets_for_one_request_share_no_block => signatures::two_tickets_share_nothing;
    /// A floor that one kind of image is not held against.
    rollback_check_missing_for_one_kind => images::every_kind_has_a_floor;
    /// A floor that is not looked at in one state of the die.
    rollback_check_missing_in_one_lifecycle => world::every_lifecycle_has_a_floor;
    /// A version counter raised by an update that then does not boot.
    counter_raised_before_confirm_no_fuse_burns_before_all_was_checked => order::no_fuse_before_the_last_check;
    /// A device says that it is done, and loses power before it wrote that down.
    ack_before_persist_nothing_is_told_that_is_not_durable => order::nothing_is_told_before_it_is_durable;
    /// A server is asked before the key for its answer is safe.
    ack_before_persist_nothing_is_asked_before_its_key_is_durable => order::nothing_is_asked_before_its_key_is_durable;
    /// Storage that answers something else when it is read again.
    verify_here_run_there_metadata_that_changes_between_two_reads => sizes::storage_that_changes;
    /// A payload other than the one whose digest was verified.
    verify_here_run_there_a_chunk_that_changes_after_the_table_was_verified => images::a_chunk_of_another_copy;
    /// TF-A: x1 to x3 keep what the secure world left there.
    cve_2018_19440_result_registers_keep_what_the_monitor_left => world::result_registers_of_every_function;
    /// TF-A: the normal world learns of the secure one from registers that are not put back. Here: whatever state other
    /// cores are in, the same call leaves the same registers.
    cve_2017_15031_registers_tell_nothing_of_what_was_not_asked => world::registers_tell_only_what_was_asked;
    /// A serial line on which a product still takes the factory's words.
    serial_side_door_the_provisioning_stage_does_not_run_in_production => world::stage1_does_not_run_in_production;
    /// A serial line on which anybody names the reason for what happens next.
    serial_side_door_a_refusal_on_the_line_names_no_reason_of_the_device => order::a_refusal_names_no_reason_of_the_device;
    /// Java: an ECDSA signature of zeros verifies.
    cve_2022_21449_a_signature_of_zeros => signatures::a_signature_of_zeros;
    /// Windows: a certificate brings the curve that makes its key right.
    cve_2020_0601_a_key_with_parameters_of_its_own => signatures::a_key_with_parameters;
    /// Browsers: a name ends for one reader where another reads on.
    cve_2009_2408_a_nul_in_a_name => signatures::a_nul_in_a_name;
    /// NSS: bytes that a lenient decoder skips make room for a forged signature.
    cve_2014_1568_room_in_an_encoding => signatures::room_in_an_encoding;
    /// JWT libraries: the message chooses the algorithm, and so what the key is.
    cve_2015_9235_the_message_chooses_the_algorithm => signatures::the_message_chooses_the_algorithm;
}

#[test]
fn all_of_them_are_told() {
    let mut broken = Vec::new();
    for (name, run) in SHAPES {
        if std::panic::catch_unwind(run).is_err() {
            broken.push((*name).to_owned());
        }
    }
    let names: std::collections::BTreeSet<_> = SHAPES.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), SHAPES.len());
    let cves = names.iter().filter(|name| name.starts_with("cve_")).count();
    Figure::new("regressions of known shapes", "shapes", 29)
        .ran(SHAPES.len() as u64)
        .violations(&broken)
        .note(format!("{cves} of them have a CVE number"))
        .report();
}
