//! The classes of the synthetic scenes: an outline filled with a texture.
//!
//! Neither alone gives the class away: a disc is plain or striped, stripes fill a disc or a cross.
//! Colours, sizes, rotations and aspect ratios are drawn alike for all classes.

/// One class of object.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    pub name: &'static str,
    pub outline: Outline,
    pub texture: Texture,
}

const fn class(name: &'static str, outline: Outline, texture: Texture) -> Class {
    Class { name, outline, texture }
}

/// All classes, in the order of their indices.
pub const CLASSES: [Class; 8] = [
    class("disc", Outline::Disc, Texture::Plain),
    class("striped-disc", Outline::Disc, Texture::Stripes),
    class("square", Outline::Square, Texture::Plain),
    class("checked-square", Outline::Square, Texture::Checks),
    class("triangle", Outline::Triangle, Texture::Plain),
    class("ring", Outline::Ring, Texture::Plain),
    class("striped-cross", Outline::Cross, Texture::Stripes),
    class("dotted-star", Outline::Star, Texture::Dots),
];

/// A shape within `[-1, 1] x [-1, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outline {
    Disc,
    Square,
    /// Equilateral, its corners on the unit circle.
    Triangle,
    Ring,
    Cross,
    /// Five points.
    Star,
}

/// Inner radius of the ring.
const HOLE: f32 = 0.55;
/// Half the width of a bar of the cross.
const BAR: f32 = 0.36;
/// Where the tips of the star point.
const TIPS: [[f32; 2]; 5] = [
    [0.0, -1.0],
    [0.951_056_5, -0.309_017],
    [0.587_785_25, 0.809_017],
    [-0.587_785_25, 0.809_017],
    [-0.951_056_5, -0.309_017],
];
/// The edge of the star from a tip at radius 1 to a dent at half of it: `along * x + across * y`
/// reaches `along` where `x` runs towards the tip.
const EDGE: [f32; 2] = [0.293_892_62, 0.595_491_5];

impl Outline {
    /// Its area.
    pub fn area(self) -> f64 {
        match self {
            Self::Disc => std::f64::consts::PI,
            Self::Square => 4.0,
            Self::Triangle => 1.299_038,
            Self::Ring => std::f64::consts::PI * (1.0 - f64::from(HOLE * HOLE)),
            Self::Cross => 4.0 * f64::from(BAR) * (2.0 - f64::from(BAR)),
            Self::Star => 1.469_463,
        }
    }

    /// Whether the point belongs to it.
    pub fn contains(self, x: f32, y: f32) -> bool {
        match self {
            Self::Disc => x * x + y * y <= 1.0,
            Self::Square => x.abs() <= 1.0 && y.abs() <= 1.0,
            Self::Triangle => y <= 0.5 && 0.866_025_4 * x.abs() - 0.5 * y <= 0.5,
            Self::Ring => (HOLE * HOLE..=1.0).contains(&(x * x + y * y)),
            Self::Cross => {
                let (x, y) = (x.abs(), y.abs());
                x.max(y) <= 1.0 && x.min(y) <= BAR
            }
            Self::Star => {
                // The nearest tip is the one that points most the same way.
                let mut along = f32::MIN;
                let mut across = 0.0;
                for [tip_x, tip_y] in TIPS {
                    let towards = x * tip_x + y * tip_y;
                    if towards > along {
                        along = towards;
                        across = (x * tip_y - y * tip_x).abs();
                    }
                }
                EDGE[0] * along + EDGE[1] * across <= EDGE[0]
            }
        }
    }
}

/// How two colours share the inside of an outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texture {
    Plain,
    Stripes,
    Checks,
    Dots,
}

impl Texture {
    /// Whether a point shows the second colour; `x` and `y` count periods of the texture.
    pub fn is_second(self, x: f32, y: f32) -> bool {
        match self {
            Self::Plain => false,
            Self::Stripes => fraction(x) < 0.5,
            Self::Checks => (fraction(x) < 0.5) != (fraction(y) < 0.5),
            Self::Dots => {
                let (x, y) = (fraction(x) - 0.5, fraction(y) - 0.5);
                x * x + y * y < 0.12
            }
        }
    }
}

/// What is left of a number above -1024 when whole numbers are taken away; faster than `floor`,
/// which is a library call where the processor's own is not assumed.
pub(super) fn fraction(value: f32) -> f32 {
    let positive = value + 1024.0;
    positive - (positive as i32) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_those_of_the_outlines() {
        let steps = 400;
        for Class { outline, .. } in CLASSES {
            let mut inside = 0;
            for row in 0..steps {
                for column in 0..steps {
                    let at = |step: i32| (step as f32 + 0.5) / steps as f32 * 2.2 - 1.1;
                    inside += i32::from(outline.contains(at(column), at(row)));
                }
            }
            let area = f64::from(inside) * (2.2 / f64::from(steps)).powi(2);
            assert!((area / outline.area() - 1.0).abs() < 0.01, "{outline:?}: {area}");
        }
    }

    #[test]
    fn no_outline_leaves_its_frame() {
        for Class { outline, .. } in CLASSES {
            for step in -12..=12 {
                let along = step as f32 / 10.0;
                for outside in [-1.001_f32, 1.001] {
                    assert!(!outline.contains(along, outside), "{outline:?}");
                    assert!(!outline.contains(outside, along), "{outline:?}");
                }
            }
        }
    }

    #[test]
    fn no_two_classes_look_alike() {
        for (index, one) in CLASSES.iter().enumerate() {
            for other in &CLASSES[index + 1..] {
                assert_ne!(one.name, other.name);
                assert!(one.outline != other.outline || one.texture != other.texture);
            }
        }
    }
}
