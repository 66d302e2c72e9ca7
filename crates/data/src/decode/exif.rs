//! The one EXIF field that matters here: how the camera was held.

/// The orientation in a TIFF block, 1 (upright) where there is none.
pub fn orientation(tiff: &[u8]) -> u8 {
    find(tiff).filter(|value| (1..=8).contains(value)).map_or(1, |value| value as u8)
}

fn find(tiff: &[u8]) -> Option<u16> {
    const ORIENTATION: u16 = 0x0112;
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let pair: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) })
    };
    let low_first = |a: u16, b: u16| if little { (b, a) } else { (a, b) };
    let (high, low) = low_first(short(4)?, short(6)?);
    let start = usize::from(high) << 16 | usize::from(low);
    let entries = usize::from(short(start)?);
    (0..entries).find_map(|entry| {
        let at = start.checked_add(2 + entry * 12)?;
        (short(at)? == ORIENTATION).then(|| short(at.checked_add(8)?)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_orientation_is_found_in_both_byte_orders() {
        let little = b"II*\0\x08\0\0\0\x02\0\
            \x0f\x01\x03\0\x01\0\0\0\x05\0\0\0\
            \x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        assert_eq!(orientation(little), 6);
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0";
        assert_eq!(orientation(big), 8);
        assert_eq!(orientation(&big[..12]), 1);
        assert_eq!(orientation(b"II*\0\xff\xff\xff\xff"), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = orientation(&bytes);
            bytes.splice(0..0, *b"II*\0");
            let _ = orientation(&bytes);
        }
    }
}
