#![no_main]

use oci2bk_fuzz::targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::run("dockerfile", data));
