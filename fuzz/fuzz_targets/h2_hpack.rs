#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_http_core::testing::fuzz_hpack(data));
