//! Image files into 8-bit RGB, as the official loader's `Image.open(path).convert("RGB")` does it:
//! grey is repeated, transparency is dropped, EXIF rotation is not applied. What that loader would
//! refuse (a file cut short, no image, far too many pixels) is an error here too.

mod exif;
mod jpeg;
mod png;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::sample::Image;

/// Images with more pixels than this are refused before memory is asked for: PIL's own bound.
pub const MOST_PIXELS: u64 = 89_478_485;
/// Longer files are refused before they are read.
const LONGEST_FILE: u64 = 1 << 30;
/// Headers are looked for in this many bytes first, and in the whole file only then.
const HEAD: u64 = 1 << 16;

/// Why a file gives no image.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    #[error("cannot read: {0}")]
    Read(#[from] std::io::Error),
    #[error("expected a file, found something else")]
    NotAFile,
    #[error("the file is empty")]
    Empty,
    #[error("the file is cut short: {0}")]
    Truncated(String),
    #[error("expected a JPEG or PNG image, found {0}")]
    NotAPicture(String),
    #[error("{width} x {height} pixels are more than {MOST_PIXELS}")]
    TooManyPixels { width: u64, height: u64 },
    #[error("the file has {0} bytes, more than {LONGEST_FILE}")]
    TooLong(u64),
    #[error("broken image: {0}")]
    Broken(String),
}

/// The two formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    Jpeg,
    Png,
}

/// What the pixels were before they became RGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Rgb,
    Grey,
    Cmyk,
    Palette,
}

/// What a file's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub file_type: FileType,
    /// Width and height of the pixels as they are stored.
    pub size: [u32; 2],
    pub colour: Colour,
    pub alpha: bool,
    pub sixteen_bits: bool,
    /// EXIF's orientation; 1 is upright. It is not applied.
    pub orientation: u8,
}

/// A decoded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub image: Image,
    pub header: Header,
    /// What was wrong with the data, where it could be decoded nevertheless.
    pub damage: Option<String>,
}

/// Reads and decodes a file.
pub fn read(path: &Path) -> Result<Picture, PictureError> {
    decode(&read_bytes(path)?)
}

/// The bytes of a file that is not too long to be an image.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, PictureError> {
    let length = checked_length(path)?;
    let mut bytes = Vec::with_capacity(length as usize);
    File::open(path)?.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The header alone, from the first part of the file where that is enough.
pub fn read_header(path: &Path) -> Result<Header, PictureError> {
    let length = checked_length(path)?;
    let mut bytes = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut bytes)?;
    match header(&bytes) {
        Err(PictureError::Truncated(_)) if length > HEAD => header(&read_bytes(path)?),
        found => found,
    }
}

fn checked_length(path: &Path) -> Result<u64, PictureError> {
    // Opening a pipe would wait for ever.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(PictureError::NotAFile);
    }
    if metadata.len() > LONGEST_FILE {
        return Err(PictureError::TooLong(metadata.len()));
    }
    Ok(metadata.len())
}

/// What the first bytes of a file say about its image.
pub fn header(bytes: &[u8]) -> Result<Header, PictureError> {
    let header = match file_type(bytes)? {
        FileType::Jpeg => jpeg::header(bytes)?,
        FileType::Png => png::header(bytes)?,
    };
    let [width, height] = header.size.map(u64::from);
    if width == 0 || height == 0 {
        return Err(PictureError::Broken(format!("{width} x {height} pixels")));
    }
    if width * height > MOST_PIXELS {
        return Err(PictureError::TooManyPixels { width, height });
    }
    Ok(header)
}

/// Decodes the bytes of a file. A decoder that panics is a broken image.
pub fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
    let header = header(bytes)?;
    let work = || match header.file_type {
        FileType::Jpeg => jpeg::decode(bytes),
        FileType::Png => png::decode(bytes, &header).map(|pixels| (pixels, None)),
    };
    let (pixels, damage) = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(PictureError::Broken("the decoder gave up".into())))?;
    let [width, height] = header.size.map(|side| side as usize);
    if pixels.len() != width * height * 3 {
        let found = pixels.len();
        return Err(PictureError::Broken(format!("{found} bytes for {width} x {height} pixels")));
    }
    Ok(Picture { image: Image { width, height, pixels }, header, damage })
}

/// The format by the file's first bytes, whatever it is called.
pub fn file_type(bytes: &[u8]) -> Result<FileType, PictureError> {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
    const OTHERS: [(&[u8], &str); 9] = [
        (b"GIF8", "a GIF image"),
        (b"BM", "a BMP image"),
        (b"II*\0", "a TIFF image"),
        (b"MM\0*", "a TIFF image"),
        (b"\0\0\x01\0", "an icon"),
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"<!DOCTYPE", "an HTML page"),
        (b"<html", "an HTML page"),
    ];
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    if bytes.starts_with(b"\xff\xd8\xff") {
        return Ok(FileType::Jpeg);
    }
    if bytes.starts_with(PNG) {
        return Ok(FileType::Png);
    }
    if bytes.len() < PNG.len() && (PNG.starts_with(bytes) || b"\xff\xd8\xff".starts_with(bytes)) {
        return Err(PictureError::Truncated("not even the first bytes are there".into()));
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Err(PictureError::NotAPicture("a WebP image".into()));
    }
    let name = OTHERS.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, name)| *name);
    let text =
        bytes.iter().take(64).all(|byte| byte.is_ascii_graphic() || b" \t\r\n".contains(byte));
    let other = if text { "a text file" } else { "something else" };
    Err(PictureError::NotAPicture(name.unwrap_or(other).into()))
}

/// A grey channel as RGB.
fn repeat(grey: &[u8]) -> Vec<u8> {
    let mut rgb = vec![0; grey.len() * 3];
    for (pixel, value) in rgb.chunks_exact_mut(3).zip(grey) {
        pixel.fill(*value);
    }
    rgb
}
