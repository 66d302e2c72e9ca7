//! Image files.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: deim_fuzz::allow_caught_panics(),
    |data: &[u8]| deim_fuzz::picture(data)
);
