//! JPEG: a walk over the headers for what the decoder does not tell, then the decoder.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{Colour, FileType, Header, PictureError, exif, repeat};

/// What the segments before the first scan say.
struct Segments {
    size: [u32; 2],
    components: u8,
    /// The colour transform of Adobe's segment.
    adobe: Option<u8>,
    orientation: u8,
    /// Where the data of the first scan begins.
    scan: usize,
}

fn segments(bytes: &[u8]) -> Result<Segments, PictureError> {
    let short = || PictureError::Truncated("it ends before the image begins".into());
    let broken = |what: &str| PictureError::Broken(what.into());
    let (mut frame, mut adobe, mut orientation) = (None, None, 1);
    let mut at = 2;
    loop {
        while *bytes.get(at).ok_or_else(short)? != 0xff {
            at += 1;
        }
        while *bytes.get(at).ok_or_else(short)? == 0xff {
            at += 1;
        }
        let marker = bytes[at];
        at += 1;
        // Stuffed bytes, restarts and start of image have no length.
        if matches!(marker, 0x00 | 0x01 | 0xd0..=0xd8) {
            continue;
        }
        if marker == 0xd9 {
            return Err(broken("it ends before the image begins"));
        }
        let length = bytes.get(at..at + 2).ok_or_else(short)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length < 2 {
            return Err(broken("a segment shorter than its own length"));
        }
        let content = bytes.get(at + 2..at + length).ok_or_else(short)?;
        at += length;
        match (marker, content) {
            // Every kind of frame; among them are three markers of tables.
            (0xc0..=0xcf, [_, h1, h0, w1, w0, components, ..])
                if !matches!(marker, 0xc4 | 0xc8 | 0xcc) =>
            {
                let size =
                    [[w1, w0], [h1, h0]].map(|[high, low]| u32::from(*high) << 8 | u32::from(*low));
                frame = Some((size, *components));
            }
            (0xe1, [b'E', b'x', b'i', b'f', 0, _, tiff @ ..]) => {
                orientation = exif::orientation(tiff);
            }
            (0xee, [b'A', b'd', b'o', b'b', b'e', .., transform]) if content.len() >= 12 => {
                adobe = Some(if content.len() == 12 { *transform } else { content[11] });
            }
            (0xda, _) => {
                let (size, components) = frame.ok_or_else(|| broken("a scan without a frame"))?;
                return Ok(Segments { size, components, adobe, orientation, scan: at });
            }
            _ => {}
        }
    }
}

pub fn header(bytes: &[u8]) -> Result<Header, PictureError> {
    let Segments { size, components, orientation, .. } = segments(bytes)?;
    let colour = match components {
        1 | 2 => Colour::Grey,
        4 => Colour::Cmyk,
        _ => Colour::Rgb,
    };
    Ok(Header {
        file_type: FileType::Jpeg,
        size,
        colour,
        alpha: false,
        sixteen_bits: false,
        orientation,
    })
}

/// RGB pixels, and what was wrong with the data where they could be had nevertheless.
pub fn decode(bytes: &[u8]) -> Result<(Vec<u8>, Option<String>), PictureError> {
    let segments = segments(bytes)?;
    // libjpeg goes on after damage but waits for the end for ever.
    if !bytes[segments.scan..].windows(2).any(|pair| pair == [0xff, 0xd9]) {
        return Err(PictureError::Truncated("it has no end of image".into()));
    }
    match attempt(bytes, &segments, true) {
        Ok(pixels) => Ok((pixels, None)),
        Err(damage) => {
            let pixels = attempt(bytes, &segments, false).map_err(PictureError::Broken)?;
            Ok((pixels, Some(damage)))
        }
    }
}

fn attempt(bytes: &[u8], segments: &Segments, strict: bool) -> Result<Vec<u8>, String> {
    // Adobe's transform 2 is YCCK, which the decoder turns into RGB as PIL does.
    let cmyk = segments.components == 4 && segments.adobe != Some(2);
    let wanted = match segments.components {
        1 => ColorSpace::Luma,
        _ if cmyk => ColorSpace::CMYK,
        _ => ColorSpace::RGB,
    };
    // A second frame could promise more pixels to the decoder than were checked.
    let [width, height] = segments.size.map(|side| side as usize);
    let options = DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(width)
        .set_max_height(height)
        .jpeg_set_out_colorspace(wanted);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    Ok(match wanted {
        ColorSpace::Luma => repeat(&pixels),
        ColorSpace::CMYK => inks_to_rgb(&pixels),
        _ => pixels,
    })
}

/// CMYK to RGB without a colour profile, in PIL's whole numbers. As PIL, it takes all inks for
/// inverted, which is how Adobe writes them.
fn inks_to_rgb(inks: &[u8]) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(inks.len() / 4 * 3);
    for ink in inks.chunks_exact(4) {
        let light = u32::from(ink[3]);
        pixels.extend((0..3).map(|at| {
            // A product over 255, rounded.
            let product = u32::from(255 - ink[at]) * light + 128;
            light.saturating_sub((product + (product >> 8)) >> 8) as u8
        }));
    }
    pixels
}
