#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_netsvc::testing::xml(data));
