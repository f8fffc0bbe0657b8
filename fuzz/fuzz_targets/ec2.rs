#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vipd::fuzz::ec2(data));
