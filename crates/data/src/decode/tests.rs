//! Decoded pixels are PIL's; hostile files are errors.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use proptest::prelude::*;

use super::*;

fn png(pixels: &[u8], size: [u32; 2], colour: ExtendedColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.write_image(pixels, size[0], size[1], colour).unwrap();
    bytes
}

fn jpeg(size: [u32; 2]) -> Vec<u8> {
    let pixels: Vec<u8> = (0..size[0] * size[1] * 3).map(|n| (n * 7 % 251) as u8).collect();
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    encoder.write_image(&pixels, size[0], size[1], ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// A baseline JPEG of 8 x 8 pixels whose components have one value each.
fn flat_jpeg(components: &[u8], adobe: Option<u8>) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    let mut segment = |marker: u8, content: &[u8]| {
        bytes.extend([0xff, marker, 0, content.len() as u8 + 2]);
        bytes.extend(content);
    };
    if let Some(transform) = adobe {
        segment(0xee, &[b"Adobe\0\x64\0\0\0\0".as_slice(), &[transform]].concat());
    }
    segment(0xdb, &[[0].as_slice(), &[1; 64]].concat());
    let count = components.len() as u8;
    let frame: Vec<u8> = (1..=count).flat_map(|id| [id, 0x11, 0]).collect();
    segment(0xc0, &[[8, 0, 8, 0, 8, count].as_slice(), &frame].concat());
    // Differences of 0 to 11 bits have codes of four bits; the end of a block is a zero.
    let mut lengths = [0; 16];
    lengths[3] = 12;
    segment(0xc4, &[[0].as_slice(), &lengths, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]].concat());
    let mut lengths = [0; 16];
    lengths[0] = 1;
    segment(0xc4, &[[0x10].as_slice(), &lengths, &[0]].concat());
    let scan: Vec<u8> = (1..=count).flat_map(|id| [id, 0]).collect();
    segment(0xda, &[[count].as_slice(), &scan, &[0, 63, 0]].concat());
    let mut bits = String::new();
    for value in components {
        let level = (i32::from(*value) - 128) * 8;
        let size = 32 - level.unsigned_abs().leading_zeros();
        bits.push_str(&format!("{size:04b}"));
        let coded = if level < 0 { level + (1 << size) - 1 } else { level };
        if size > 0 {
            bits.push_str(&format!("{coded:0width$b}", width = size as usize));
        }
        bits.push('0');
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    for byte in bits.as_bytes().chunks_exact(8) {
        let byte = byte.iter().fold(0, |sum, bit| sum << 1 | (bit - b'0'));
        bytes.push(byte);
        if byte == 0xff {
            bytes.push(0);
        }
    }
    bytes.extend([0xff, 0xd9]);
    bytes
}

fn first_pixel(bytes: &[u8]) -> [u8; 3] {
    let picture = decode(bytes).unwrap();
    assert_eq!(picture.damage, None);
    assert!(picture.image.pixels.chunks_exact(3).all(|pixel| pixel == &picture.image.pixels[..3]));
    picture.image.pixels[..3].try_into().unwrap()
}

#[test]
fn colours_become_rgb_as_pil_makes_them() {
    assert_eq!(first_pixel(&flat_jpeg(&[77], None)), [77; 3]);
    assert_eq!(first_pixel(&flat_jpeg(&[100, 128, 128], None)), [100; 3]);
    // Inks and Adobe's YCCK; PIL 13 printed the values.
    assert_eq!(first_pixel(&flat_jpeg(&[10, 100, 200, 50], None)), [2, 20, 39]);
    assert_eq!(first_pixel(&flat_jpeg(&[10, 100, 200, 50], Some(0))), [2, 20, 39]);
    assert_eq!(first_pixel(&flat_jpeg(&[100, 120, 140, 50], Some(2))), [27, 32, 33]);
    let header = header(&flat_jpeg(&[10, 100, 200, 50], None)).unwrap();
    assert_eq!((header.colour, header.size), (Colour::Cmyk, [8, 8]));
}

#[test]
fn every_kind_of_png_becomes_rgb() {
    let grey = png(&[0, 5, 250, 255], [2, 2], ExtendedColorType::L8);
    assert_eq!(
        decode(&grey).unwrap().image.pixels,
        [0, 0, 0, 5, 5, 5, 250, 250, 250, 255, 255, 255]
    );
    let alpha = png(&[1, 2, 3, 0, 4, 5, 6, 128], [2, 1], ExtendedColorType::Rgba8);
    let picture = decode(&alpha).unwrap();
    assert_eq!((picture.image.pixels, picture.header.alpha), (vec![1, 2, 3, 4, 5, 6], true));
    // PIL clips 16-bit grey at 255 and takes the high byte of all other 16-bit colours.
    let native =
        |values: &[u16]| values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<_>>();
    let grey = png(&native(&[0, 5, 255, 256, 300, 65535]), [6, 1], ExtendedColorType::L16);
    let picture = decode(&grey).unwrap();
    assert_eq!(picture.image.pixels, [0, 5, 255, 255, 255, 255].map(|value| [value; 3]).concat());
    assert!(picture.header.sixteen_bits);
    let colour = png(&native(&[300, 65535, 70]), [1, 1], ExtendedColorType::Rgb16);
    assert_eq!(decode(&colour).unwrap().image.pixels, [1, 255, 0]);
    let grey = png(&native(&[300, 65535, 70, 0]), [2, 1], ExtendedColorType::La16);
    assert_eq!(decode(&grey).unwrap().image.pixels, [1, 1, 1, 0, 0, 0]);
}

#[test]
fn palettes_and_low_depths_are_expanded() {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, 4, 1);
    encoder.set_color(::png::ColorType::Indexed);
    encoder.set_depth(::png::BitDepth::Two);
    encoder.set_palette(vec![1, 2, 3, 4, 5, 6, 7, 8, 9]);
    encoder.set_trns(vec![0, 128]);
    encoder.write_header().unwrap().write_image_data(&[0b00_01_10_00]).unwrap();
    let picture = decode(&bytes).unwrap();
    assert_eq!(picture.image.pixels, [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]);
    assert_eq!(picture.header.colour, Colour::Palette);
}

/// The JPEG with an EXIF segment that says how the camera was held.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let tiff = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0";
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1, 0, tiff.len() as u8 + 2 + 8];
    bytes.extend(tiff);
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(&jpeg[2..]);
    bytes
}

#[test]
fn exif_rotation_is_told_and_not_applied() {
    let upright = jpeg([24, 16]);
    let turned = decode(&with_orientation(&upright, 6)).unwrap();
    assert_eq!(turned.header.orientation, 6);
    assert_eq!(turned.image, decode(&upright).unwrap().image);
    assert_eq!((turned.image.width, turned.image.height), (24, 16));
}

#[test]
fn files_cut_anywhere_are_no_images() {
    let files = [jpeg([24, 16]), png(&[9; 24 * 16], [24, 16], ExtendedColorType::L8)];
    for bytes in files {
        assert!(decode(&bytes).is_ok());
        // A PNG's last chunk holds nothing, and PIL does not ask for it either.
        let end = if bytes[0] == 0x89 { bytes.len() - 16 } else { bytes.len() };
        for length in 0..end {
            assert!(decode(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
        let half = decode(&bytes[..bytes.len() / 2]);
        assert!(matches!(half, Err(PictureError::Truncated(_))), "{half:?}");
    }
    assert!(matches!(decode(b""), Err(PictureError::Empty)));
}

#[test]
fn other_files_are_named() {
    for (bytes, name) in [
        (b"GIF89a............".as_slice(), "GIF"),
        (b"RIFF1234WEBPVP8 ", "WebP"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1", "a text file"),
        (b"\0\x07\0\0\0\0\0\0\0\0", "something else"),
    ] {
        let error = decode(bytes).err().unwrap().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn bombs_are_refused_before_they_are_unpacked() {
    let mut bomb = png(&[0], [1, 1], ExtendedColorType::L8);
    bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    assert!(matches!(decode(&bomb), Err(PictureError::TooManyPixels { width: 65535, .. })));
    let mut bomb = flat_jpeg(&[77], None);
    let frame = bomb.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bomb[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert!(matches!(decode(&bomb), Err(PictureError::TooManyPixels { width: 65535, .. })));
    bomb[frame + 5..frame + 9].copy_from_slice(&[0; 4]);
    assert!(matches!(decode(&bomb), Err(PictureError::Broken(_))));
}

/// The last frame is the one that was looked at, the first the one that would be decoded.
#[test]
fn a_bomb_behind_a_small_second_frame_is_refused_by_its_size() {
    let mut bomb = flat_jpeg(&[77], None);
    let frame = bomb.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let mut second = bomb[frame..frame + 13].to_vec();
    // A kind of frame that the decoder passes over.
    second[1] = 0xc5;
    bomb.splice(frame + 13..frame + 13, second);
    bomb[frame + 5..frame + 9].copy_from_slice(&[0x40; 4]);
    let Err(PictureError::Broken(message)) = decode(&bomb) else { panic!("a bomb was decoded") };
    assert!(message.contains("greater than width limit 8") || message.contains("height limit 8"));
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(read(folder.path()), Err(PictureError::NotAFile)));
    assert!(matches!(read(&folder.path().join("no.jpg")), Err(PictureError::Read(_))));
}

proptest! {
    #[test]
    fn random_bytes_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0..3) {
        let mut bytes = bytes;
        match start {
            0 => { bytes.splice(0..0, *b"\x89PNG\r\n\x1a\n"); }
            1 => { bytes.splice(0..0, *b"\xff\xd8\xff"); }
            _ => {}
        }
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn damaged_files_give_an_answer(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), is_png: bool) {
        let mut bytes = if is_png { png(&[9; 24 * 16], [24, 16], ExtendedColorType::L8) } else { jpeg([24, 16]) };
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(picture) = decode(&bytes) {
            let Image { width, height, pixels } = picture.image;
            prop_assert_eq!(pixels.len(), width * height * 3);
        }
    }
}
