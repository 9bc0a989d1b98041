#![no_main]

libfuzzer_sys::fuzz_target!(
    init: hearth_jsonstore::testing::write_seed("text"),
    |data: &[u8]| hearth_jsonstore::testing::run_target("text", data)
);
