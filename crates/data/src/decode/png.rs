//! PNG of every colour type and depth.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};

use super::{Colour, FileType, Header, MOST_PIXELS, PictureError, exif, repeat};

/// Most memory for what is not pixels, such as text and colour profiles.
const SIDE_DATA: usize = 64 << 20;

fn decoder(bytes: &[u8]) -> Decoder<Cursor<&[u8]>> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: SIDE_DATA });
    decoder.set_ignore_text_chunk(true);
    decoder
}

fn wrong(error: DecodingError) -> PictureError {
    match error {
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            PictureError::Truncated("it ends inside of the image".into())
        }
        error => PictureError::Broken(error.to_string()),
    }
}

pub fn header(bytes: &[u8]) -> Result<Header, PictureError> {
    let mut decoder = decoder(bytes);
    let info = decoder.read_header_info().map_err(wrong)?;
    let colour = match info.color_type {
        ColorType::Grayscale | ColorType::GrayscaleAlpha => Colour::Grey,
        ColorType::Indexed => Colour::Palette,
        ColorType::Rgb | ColorType::Rgba => Colour::Rgb,
    };
    Ok(Header {
        file_type: FileType::Png,
        size: [info.width, info.height],
        colour,
        alpha: matches!(info.color_type, ColorType::GrayscaleAlpha | ColorType::Rgba),
        sixteen_bits: info.bit_depth == BitDepth::Sixteen,
        orientation: chunk(bytes, b"eXIf").map_or(1, exif::orientation),
    })
}

/// The content of the first chunk of this kind before the pixels.
fn chunk<'a>(bytes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    let mut at = 8;
    loop {
        let head = bytes.get(at..at + 8)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = at.checked_add(8)?.checked_add(length)?;
        match &head[4..] {
            kind if kind == wanted => return bytes.get(at + 8..end),
            b"IDAT" => return None,
            _ => at = end.checked_add(4)?,
        }
    }
}

/// RGB pixels.
pub fn decode(bytes: &[u8], header: &Header) -> Result<Vec<u8>, PictureError> {
    let mut decoder = decoder(bytes);
    decoder.set_transformations(Transformations::EXPAND);
    decoder.set_limits(Limits { bytes: SIDE_DATA + MOST_PIXELS as usize * 8 });
    let mut reader = decoder.read_info().map_err(wrong)?;
    let size =
        reader.output_buffer_size().ok_or_else(|| PictureError::Broken("too large".into()))?;
    let mut raw = vec![0; size];
    let frame = reader.next_frame(&mut raw).map_err(wrong)?;
    raw.truncate(frame.buffer_size());
    let (colour, depth) = (frame.color_type, frame.bit_depth);
    if depth == BitDepth::Sixteen {
        // PIL keeps 16-bit grey and clips it on the way to RGB, but takes the high byte of the rest.
        let clips = header.colour == Colour::Grey && !header.alpha;
        raw = raw
            .chunks_exact(2)
            .map(|pair| if clips && pair[0] > 0 { 255 } else { pair[usize::from(clips)] })
            .collect();
    }
    Ok(match colour {
        ColorType::Grayscale => repeat(&raw),
        ColorType::GrayscaleAlpha => raw.chunks_exact(2).flat_map(|pair| [pair[0]; 3]).collect(),
        ColorType::Rgba => raw.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::Rgb => raw,
        ColorType::Indexed => return Err(PictureError::Broken("a palette that stayed one".into())),
    })
}
