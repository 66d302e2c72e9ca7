//! The colours of figures: on light paper, on a dark screen, and in grey.
//!
//! A figure is drawn in the light colours. Its document carries a style sheet that a browser applies
//! where the reader prefers dark pages; a PNG or a file for a paper has one theme, fixed.

use plotters::prelude::RGBColor;

pub const BLACK: RGBColor = RGBColor(0x1a, 0x1a, 0x1a);
pub const GREY: RGBColor = RGBColor(0x59, 0x59, 0x59);
pub const MIDDLE: RGBColor = RGBColor(0x8c, 0x8c, 0x8c);
pub const PALE: RGBColor = RGBColor(0xd9, 0xd9, 0xd9);
pub const SHADE: RGBColor = RGBColor(0xf4, 0xf4, 0xf4);
pub const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
/// Okabe and Ito's colours, which also colour-blind readers can tell, ordered so that neighbours
/// differ in grey; darkened where they would be too pale for a line.
pub const SERIES: [RGBColor; 6] = [
    BLACK,
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xb8, 0x86, 0x00),
    RGBColor(0x00, 0x7a, 0x5a),
    RGBColor(0xb0, 0x5a, 0x8c),
];

/// Every colour and what it becomes on a dark page.
const DARK: [(RGBColor, RGBColor); 11] = [
    (BLACK, RGBColor(0xe6, 0xe6, 0xe6)),
    (GREY, RGBColor(0xad, 0xad, 0xad)),
    (MIDDLE, RGBColor(0x5c, 0x5c, 0x5c)),
    (PALE, RGBColor(0x3d, 0x3d, 0x3d)),
    (SHADE, RGBColor(0x1f, 0x1f, 0x1f)),
    (PAPER, RGBColor(0x12, 0x12, 0x12)),
    (SERIES[1], RGBColor(0xff, 0x8c, 0x3b)),
    (SERIES[2], RGBColor(0x5a, 0xb4, 0xf0)),
    (SERIES[3], RGBColor(0xf0, 0xc2, 0x41)),
    (SERIES[4], RGBColor(0x3d, 0xc9, 0x9c)),
    (SERIES[5], RGBColor(0xe3, 0x9a, 0xc4)),
];

/// The colours that a figure is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// Light, and dark where the reader prefers it.
    #[default]
    Reader,
    Light,
    Dark,
    /// As a printer without colours sees it.
    Grey,
}

const STYLE: &str = "<style>";
const STYLE_END: &str = "</style>\n";

/// Every attribute that paints, as it stands in a document, and the declaration that repaints it on a
/// dark page.
pub fn dark_paints() -> impl Iterator<Item = (String, String)> {
    let paints = |(light, dark): (RGBColor, RGBColor)| {
        ["fill", "stroke"]
            .map(|paint| (format!("{paint}=\"{}\"", hex(light)), format!("{paint}:{}", hex(dark))))
    };
    DARK.into_iter().flat_map(paints)
}

/// Adds the style sheet for dark pages to a finished document.
pub fn adapt(svg: &str) -> String {
    let mut rules = String::new();
    for (attribute, paint) in dark_paints() {
        if svg.contains(&attribute) {
            rules.push_str(&format!("[{attribute}]{{{paint}}}"));
        }
    }
    let sheet = format!("{STYLE}@media(prefers-color-scheme:dark){{{rules}}}{STYLE_END}");
    match svg.split_once(">\n") {
        Some((head, body)) => format!("{head}>\n{sheet}{body}"),
        None => svg.to_owned(),
    }
}

/// A figure in one theme.
pub fn themed(svg: &str, theme: Theme) -> String {
    if theme == Theme::Reader {
        return svg.to_owned();
    }
    let plain = match (svg.find(STYLE), svg.find(STYLE_END)) {
        (Some(from), Some(to)) => format!("{}{}", &svg[..from], &svg[to + STYLE_END.len()..]),
        _ => svg.to_owned(),
    };
    let mut parts = plain.split("\"#");
    let mut document = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        document.push('"');
        match part.get(..6).and_then(parse) {
            Some(color) => {
                document.push_str(&hex(painted(color, theme)));
                document.push_str(&part[6..]);
            }
            None => {
                document.push('#');
                document.push_str(part);
            }
        }
    }
    document
}

fn painted(color: RGBColor, theme: Theme) -> RGBColor {
    match theme {
        Theme::Reader | Theme::Light => color,
        Theme::Dark => {
            DARK.iter().find(|(light, _)| *light == color).map_or(color, |(_, dark)| *dark)
        }
        Theme::Grey => {
            let RGBColor(red, green, blue) = color;
            let grey =
                (299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue)) / 1000;
            RGBColor(grey as u8, grey as u8, grey as u8)
        }
    }
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

fn parse(digits: &str) -> Option<RGBColor> {
    let value = u32::from_str_radix(digits, 16).ok()?;
    let [_, red, green, blue] = value.to_be_bytes();
    Some(RGBColor(red, green, blue))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWN: &str = "<svg>\n<rect fill=\"#FFFFFF\"/><line stroke=\"#0072B2\"/></svg>";

    #[test]
    fn a_dark_page_gets_a_rule_for_each_paint_that_is_used_and_no_other() {
        let adapted = adapt(DRAWN);
        assert!(adapted.contains("[fill=\"#FFFFFF\"]{fill:#121212}"), "{adapted}");
        assert!(adapted.contains("[stroke=\"#0072B2\"]{stroke:#5AB4F0}"), "{adapted}");
        assert!(!adapted.contains("[stroke=\"#FFFFFF\"]"), "{adapted}");
        assert_eq!(themed(&adapted, Theme::Light), DRAWN);
    }

    #[test]
    fn a_fixed_theme_repaints_everything_once() {
        let dark = themed(&adapt(DRAWN), Theme::Dark);
        assert_eq!(dark, DRAWN.replace("#FFFFFF", "#121212").replace("#0072B2", "#5AB4F0"));
        let grey = themed(&adapt(DRAWN), Theme::Grey);
        assert_eq!(grey, DRAWN.replace("#0072B2", "#575757"));
    }

    #[test]
    fn every_colour_is_readable_on_its_background_in_both_themes() {
        let light = |RGBColor(red, green, blue): RGBColor| {
            let linear = |value: u8| (f64::from(value) / 255.0).powf(2.2);
            0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
        };
        let contrast = |a: RGBColor, b: RGBColor| {
            let (a, b) = (light(a), light(b));
            (a.max(b) + 0.05) / (a.min(b) + 0.05)
        };
        for color in SERIES.into_iter().chain([GREY]) {
            for theme in [Theme::Light, Theme::Dark] {
                let ratio = contrast(painted(color, theme), painted(PAPER, theme));
                assert!(ratio > 3.0, "{color:?} {theme:?}: {ratio}");
            }
        }
    }
}
