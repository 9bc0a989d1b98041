#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_jsonstore::testing::run_target("jb1", data));
