#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hearth_net::testing::client_hello(data));
