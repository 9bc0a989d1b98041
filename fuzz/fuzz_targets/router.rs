#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_router::testing::fuzz_router(data));
