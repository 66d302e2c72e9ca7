//! Boxes on the host: corners, IoU, generalised IoU and its gradient (deim-facts 3.10, 3.11).
//!
//! Costs are `f32` in the order of the official operations, so that matches agree with the reference
//! to a few units in the last place; so are the bins of edges. Losses are few and computed in `f64`,
//! whatever the tensors hold.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// A floating-point number of either precision.
pub trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    const ZERO: Self;
    const HALF: Self;
    const ONE: Self;
    /// Rounded, if need be.
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    fn larger(self, other: Self) -> Self;
    fn smaller(self, other: Self) -> Self;
    fn size(self) -> Self;
}

macro_rules! real {
    ($($float:ty)*) => {$(
        impl Real for $float {
            const ZERO: Self = 0.0;
            const HALF: Self = 0.5;
            const ONE: Self = 1.0;
            fn of(value: f64) -> Self {
                value as Self
            }
            fn wide(self) -> f64 {
                f64::from(self)
            }
            fn larger(self, other: Self) -> Self {
                self.max(other)
            }
            fn smaller(self, other: Self) -> Self {
                self.min(other)
            }
            fn size(self) -> Self {
                self.abs()
            }
        }
    )*};
}
real!(f32 f64);

/// Centre, width and height: `[cx, cy, w, h]`.
pub type Box4<T = f32> = [T; 4];
/// Two corners: `[x1, y1, x2, y2]`.
pub type Corners<T = f32> = [T; 4];

/// The same box in 64 bits.
pub fn exact(numbers: Box4) -> Box4<f64> {
    numbers.map(f64::from)
}

/// Corners of a box; a negative width or height counts as zero.
pub fn corners<T: Real>([cx, cy, w, h]: Box4<T>) -> Corners<T> {
    let (half_w, half_h) = (T::HALF * w.larger(T::ZERO), T::HALF * h.larger(T::ZERO));
    [cx - half_w, cy - half_h, cx + half_w, cy + half_h]
}

/// Centre, width and height of two corners.
pub fn centred<T: Real>([x1, y1, x2, y2]: Corners<T>) -> Box4<T> {
    [T::HALF * (x1 + x2), T::HALF * (y1 + y2), x2 - x1, y2 - y1]
}

/// Sum of the absolute differences of two boxes' four numbers.
pub fn l1<T: Real>(a: Box4<T>, b: Box4<T>) -> T {
    a.iter().zip(b).map(|(a, b)| (*a - b).size()).fold(T::ZERO, |sum, size| sum + size)
}

/// How two boxes lie to each other; all similarity measures are ratios of these areas.
#[derive(Clone, Copy, Debug)]
struct Overlap<T> {
    intersection: T,
    union: T,
    /// Area of the smallest box around both.
    hull: T,
}

fn overlap<T: Real>(a: Corners<T>, b: Corners<T>) -> Overlap<T> {
    let area = |c: Corners<T>| (c[2] - c[0]) * (c[3] - c[1]);
    let width = (a[2].smaller(b[2]) - a[0].larger(b[0])).larger(T::ZERO);
    let height = (a[3].smaller(b[3]) - a[1].larger(b[1])).larger(T::ZERO);
    let intersection = width * height;
    let hull_width = (a[2].larger(b[2]) - a[0].smaller(b[0])).larger(T::ZERO);
    let hull_height = (a[3].larger(b[3]) - a[1].smaller(b[1])).larger(T::ZERO);
    Overlap {
        intersection,
        union: area(a) + area(b) - intersection,
        hull: hull_width * hull_height,
    }
}

/// Intersection over union, without an epsilon as in the official code.
pub fn iou<T: Real>(a: Corners<T>, b: Corners<T>) -> T {
    let areas = overlap(a, b);
    areas.intersection / areas.union
}

/// The area that two boxes cover together.
pub fn union_area<T: Real>(a: Corners<T>, b: Corners<T>) -> T {
    overlap(a, b).union
}

/// Generalised IoU, in `(-1, 1]`.
pub fn giou<T: Real>(a: Corners<T>, b: Corners<T>) -> T {
    let areas = overlap(a, b);
    areas.intersection / areas.union - (areas.hull - areas.union) / areas.hull
}

/// Generalised IoU of a predicted box with a target, and its gradient by the prediction's
/// `cx, cy, w, h`.
///
/// Where an edge of both boxes coincides, minimum and maximum are not differentiable; like PyTorch,
/// half of the slope goes to the prediction.
pub fn giou_with_gradient<T: Real>(prediction: Box4<T>, target: Corners<T>) -> (T, [T; 4]) {
    let corner = corners(prediction);
    let areas = overlap(corner, target);
    let [x1, y1, x2, y2] = corner;
    let [tx1, ty1, tx2, ty2] = target;

    // Sides of the intersection and of the hull as functions of the prediction's corners.
    let sides = |low: T, high: T, target_low: T, target_high: T| {
        let inner = high.smaller(target_high) - low.larger(target_low);
        let open = if inner >= T::ZERO { T::ONE } else { T::ZERO };
        Sides {
            inner: inner.larger(T::ZERO),
            inner_by_low: -open * share_of_larger(low, target_low),
            inner_by_high: open * share_of_larger(-high, -target_high),
            outer: high.larger(target_high) - low.smaller(target_low),
            outer_by_low: -share_of_larger(-low, -target_low),
            outer_by_high: share_of_larger(high, target_high),
        }
    };
    let horizontal = sides(x1, x2, tx1, tx2);
    let vertical = sides(y1, y2, ty1, ty2);

    // giou = I/U - 1 + U/H with U = A + B - I, so
    // dgiou = dI/U - I dU/U^2 + dU/H - U dH/H^2 and dU = dA - dI.
    let by_intersection = T::ONE / areas.union;
    let by_union = T::ONE / areas.hull - areas.intersection / (areas.union * areas.union);
    let by_hull = -areas.union / (areas.hull * areas.hull);
    let slope = |inner: T, area: T, outer: T| {
        by_intersection * inner + by_union * (area - inner) + by_hull * outer
    };
    let (width, height) = (x2 - x1, y2 - y1);
    let by_x1 = slope(
        horizontal.inner_by_low * vertical.inner,
        -height,
        horizontal.outer_by_low * vertical.outer,
    );
    let by_x2 = slope(
        horizontal.inner_by_high * vertical.inner,
        height,
        horizontal.outer_by_high * vertical.outer,
    );
    let by_y1 = slope(
        vertical.inner_by_low * horizontal.inner,
        -width,
        vertical.outer_by_low * horizontal.outer,
    );
    let by_y2 = slope(
        vertical.inner_by_high * horizontal.inner,
        width,
        vertical.outer_by_high * horizontal.outer,
    );

    let positive = |side: T| if side >= T::ZERO { T::HALF } else { T::ZERO };
    let gradient = [
        by_x1 + by_x2,
        by_y1 + by_y2,
        positive(prediction[2]) * (by_x2 - by_x1),
        positive(prediction[3]) * (by_y2 - by_y1),
    ];
    let value = areas.intersection / areas.union - (areas.hull - areas.union) / areas.hull;
    (value, gradient)
}

/// One axis of intersection and hull, with derivatives by the prediction's lower and upper edge.
struct Sides<T> {
    inner: T,
    inner_by_low: T,
    inner_by_high: T,
    outer: T,
    outer_by_low: T,
    outer_by_high: T,
}

/// Derivative of `max(own, other)` by `own`.
fn share_of_larger<T: Real>(own: T, other: T) -> T {
    if own > other {
        T::ONE
    } else if own == other {
        T::HALF
    } else {
        T::ZERO
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_box() -> impl Strategy<Value = Box4> {
        (0.05_f32..0.95, 0.05_f32..0.95, 0.02_f32..0.6, 0.02_f32..0.6)
            .prop_map(|(cx, cy, w, h)| [cx, cy, w, h])
    }

    proptest! {
        #[test]
        fn corners_and_back_is_the_same_box(b in any_box()) {
            for (back, own) in centred(corners(b)).iter().zip(b) {
                prop_assert!((back - own).abs() < 1e-6);
            }
        }

        #[test]
        fn giou_is_symmetric_and_between_minus_one_and_iou(a in any_box(), b in any_box()) {
            let (a, b) = (corners(a), corners(b));
            let value = giou(a, b);
            prop_assert_eq!(value, giou(b, a));
            prop_assert!(value > -1.0 - 1e-6 && value <= iou(a, b) + 1e-6, "{}", value);
            prop_assert!((giou(a, a) - 1.0).abs() < 1e-5);
        }

        #[test]
        fn the_gradient_of_giou_is_its_slope(a in any_box(), b in any_box()) {
            let target = corners(b);
            let (value, gradient) = giou_with_gradient(a, target);
            prop_assert_eq!(value, giou(corners(a), target));
            // Slopes in f64 with a small step; kinks within the step are skipped.
            let exact = |shift: usize, by: f64| {
                let mut moved = a.map(f64::from);
                moved[shift] += by;
                giou_f64(moved, target.map(f64::from))
            };
            for (axis, &gradient) in gradient.iter().enumerate() {
                let step = 1e-6;
                let (up, here, down) = (exact(axis, step), exact(axis, 0.0), exact(axis, -step));
                let (right, left) = ((up - here) / step, (here - down) / step);
                if (right - left).abs() > 1e-2 {
                    continue;
                }
                let slope = (right + left) / 2.0;
                prop_assert!(
                    (slope - f64::from(gradient)).abs() < 1e-2 + 1e-3 * slope.abs(),
                    "axis {}: slope {}, gradient {}", axis, slope, gradient
                );
            }
        }
    }

    fn giou_f64([cx, cy, w, h]: [f64; 4], t: [f64; 4]) -> f64 {
        let a = [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0];
        let inner =
            (a[2].min(t[2]) - a[0].max(t[0])).max(0.0) * (a[3].min(t[3]) - a[1].max(t[1])).max(0.0);
        let union = w * h + (t[2] - t[0]) * (t[3] - t[1]) - inner;
        let hull = (a[2].max(t[2]) - a[0].min(t[0])) * (a[3].max(t[3]) - a[1].min(t[1]));
        inner / union - (hull - union) / hull
    }

    #[test]
    fn equal_edges_share_the_slope_between_both_boxes() {
        // The hull's slopes are halved as the intersection's are: at the optimum nothing pulls.
        let target = [0.5, 0.5, 0.2, 0.3];
        let (value, gradient) = giou_with_gradient(target, corners(target));
        assert_eq!(value, 1.0);
        assert!(gradient.iter().all(|slope: &f32| slope.abs() < 1e-5), "{gradient:?}");
    }
}
