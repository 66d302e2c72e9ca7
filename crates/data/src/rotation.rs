//! Sine and cosine from additions and multiplications alone.
//!
//! The standard library's come from the platform's C library and may differ in the last bit; these
//! do not, so a scene or a mosaic is the same on every machine.

use std::f64::consts::TAU;

/// Cosine and sine of `turns` full turns.
pub(crate) fn cos_sin(turns: f64) -> (f64, f64) {
    let quarters = (turns * 4.0).round();
    let (cos, sin) = series((turns - quarters / 4.0) * TAU);
    match (quarters as i64).rem_euclid(4) {
        0 => (cos, sin),
        1 => (-sin, cos),
        2 => (-cos, -sin),
        _ => (sin, -cos),
    }
}

/// The power series, exact to the last bits for an angle of at most an eighth of a turn.
fn series(angle: f64) -> (f64, f64) {
    let square = angle * angle;
    let (mut cos, mut sin) = (1.0, 1.0);
    for step in (1..=9).rev() {
        let even = f64::from(2 * step);
        cos = 1.0 - square / ((even - 1.0) * even) * cos;
        sin = 1.0 - square / (even * (even + 1.0)) * sin;
    }
    (cos, angle * sin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        for step in -500..500 {
            let turns = f64::from(step) / 173.0;
            let (cos, sin) = cos_sin(turns);
            assert!((cos - (turns * TAU).cos()).abs() < 1e-13, "cos of {turns} turns: {cos}");
            assert!((sin - (turns * TAU).sin()).abs() < 1e-13, "sin of {turns} turns: {sin}");
        }
    }
}
