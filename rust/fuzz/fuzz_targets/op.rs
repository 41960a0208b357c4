#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fabrik_fuzz::op(data));
