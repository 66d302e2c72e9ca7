//! The kernels of deformable attention, and how they see a location.

use cubecl::prelude::*;

#[derive(CubeLaunch, CubeType, Clone)]
pub(super) struct Level {
    /// The first of its tokens.
    pub(super) first: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) points: usize,
}

#[derive(CubeLaunch, CubeType, Clone)]
pub(super) struct Sizes {
    pub(super) tokens: usize,
    pub(super) heads: usize,
    /// Vectors of channels in a head.
    pub(super) vectors: usize,
    pub(super) queries: usize,
    /// Locations of one head of one query.
    pub(super) total: usize,
}

/// Where a location lies in its level.
#[derive(CubeType, Clone)]
struct Place {
    /// False if no cell is near, and if the location is NaN.
    near: bool,
    left: f32,
    top: f32,
    right_share: f32,
    bottom_share: f32,
    first: usize,
    height: usize,
    width: usize,
}

#[cube]
fn place<L: Float>(locations: &[L], at: usize, first: usize, height: usize, width: usize) -> Place {
    let x = f32::cast_from(locations[2 * at]) * f32::cast_from(width) - 0.5f32;
    let y = f32::cast_from(locations[2 * at + 1]) * f32::cast_from(height) - 0.5f32;
    let near =
        x > -1.0f32 && x < f32::cast_from(width) && y > -1.0f32 && y < f32::cast_from(height);
    let left = f32::floor(x);
    let top = f32::floor(y);
    Place { near, left, top, right_share: x - left, bottom_share: y - top, first, height, width }
}

/// One of the four cells around a near location.
#[derive(CubeType, Clone)]
struct Corner {
    inside: bool,
    token: usize,
    share: f32,
    slope_x: f32,
    slope_y: f32,
}

#[cube]
fn corner(place: &Place, #[comptime] right: bool, #[comptime] bottom: bool) -> Corner {
    let column = if right { place.left + 1.0f32 } else { place.left };
    let row = if bottom { place.top + 1.0f32 } else { place.top };
    let share_x = if right { place.right_share } else { 1.0f32 - place.right_share };
    let share_y = if bottom { place.bottom_share } else { 1.0f32 - place.bottom_share };
    let sign_x = comptime!(if right { 1.0f32 } else { -1.0f32 });
    let sign_y = comptime!(if bottom { 1.0f32 } else { -1.0f32 });
    let width = f32::cast_from(place.width);
    let height = f32::cast_from(place.height);
    let inside = column >= 0.0f32 && column < width && row >= 0.0f32 && row < height;
    // Zero outside, for a column of -1 is no index.
    let column = usize::cast_from(select(inside, column, 0.0f32));
    let row = usize::cast_from(select(inside, row, 0.0f32));
    Corner {
        inside,
        token: place.first + row * place.width + column,
        share: share_x * share_y,
        slope_x: sign_x * share_y * width,
        slope_y: sign_y * share_x * height,
    }
}

/// `scale` times a cell's values, zero if it lies outside.
#[cube]
fn scaled<F: Float, N: Size>(
    value: &[Vector<F, N>],
    corner: &Corner,
    base: usize,
    step: usize,
    scale: f32,
) -> Vector<f32, N> {
    if corner.inside {
        Vector::cast_from(value[base + corner.token * step]) * Vector::new(scale * corner.share)
    } else {
        Vector::new(0.0f32)
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn attend_kernel<F: Float, L: Float, W: Float, N: Size>(
    value: &[Vector<F, N>],
    locations: &[L],
    weights: &[W],
    output: &mut [Vector<F, N>],
    levels: Sequence<Level>,
    sizes: Sizes,
    items: usize,
    #[define(F, L, W)] _dtypes: [ElemType; 3],
) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let row = item / sizes.vectors;
    let head = row % sizes.heads;
    let image = row / (sizes.heads * sizes.queries);
    let step = sizes.heads * sizes.vectors;
    let base = image * sizes.tokens * step + head * sizes.vectors + item % sizes.vectors;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut at = row * sizes.total;
    let count = comptime![levels.len()];
    #[unroll]
    for index in 0..count {
        let level = levels.index(index);
        for _ in 0..level.points {
            let place = place::<L>(locations, at, level.first, level.height, level.width);
            if place.near {
                let weight = f32::cast_from(weights[at]);
                sum += scaled::<F, N>(value, &corner(&place, false, false), base, step, weight);
                sum += scaled::<F, N>(value, &corner(&place, true, false), base, step, weight);
                sum += scaled::<F, N>(value, &corner(&place, false, true), base, step, weight);
                sum += scaled::<F, N>(value, &corner(&place, true, true), base, step, weight);
            }
            at += 1;
        }
    }
    output[item] = Vector::cast_from(sum);
}

/// The inner product of the output's gradient and a cell's values.
#[cube]
fn product<F: Float, N: Size>(
    value: &[Vector<F, N>],
    gradient: &[Vector<F, N>],
    value_at: usize,
    gradient_at: usize,
    vectors: usize,
) -> f32 {
    let mut sums = Vector::<f32, N>::new(0.0f32);
    for index in 0..vectors {
        let of_value = Vector::<f32, N>::cast_from(value[value_at + index]);
        sums += of_value * Vector::cast_from(gradient[gradient_at + index]);
    }
    sums.vector_sum()
}

/// The inner product of the output's gradient and a corner's values, zero if it lies outside.
#[cube]
fn product_at<F: Float, N: Size>(
    value: &[Vector<F, N>],
    gradient: &[Vector<F, N>],
    corner: &Corner,
    base: usize,
    gradient_at: usize,
    sizes: &Sizes,
) -> f32 {
    if corner.inside {
        let at = base + corner.token * sizes.heads * sizes.vectors;
        product::<F, N>(value, gradient, at, gradient_at, sizes.vectors)
    } else {
        0.0f32.runtime()
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn location_gradient_kernel<F: Float, L: Float, W: Float, N: Size>(
    value: &[Vector<F, N>],
    locations: &[L],
    weights: &[W],
    gradient: &[Vector<F, N>],
    d_locations: &mut [L],
    d_weights: &mut [W],
    levels: Sequence<Level>,
    sizes: Sizes,
    items: usize,
    #[define(F, L, W)] _dtypes: [ElemType; 3],
) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let point = item % sizes.total;
    let row = item / sizes.total;
    let head = row % sizes.heads;
    let image = row / (sizes.heads * sizes.queries);
    let base = (image * sizes.tokens * sizes.heads + head) * sizes.vectors;
    let gradient_at = row * sizes.vectors;
    let mut start = 0usize.runtime();
    let mut first = 0usize.runtime();
    let mut height = 0usize.runtime();
    let mut width = 0usize.runtime();
    let count = comptime![levels.len()];
    #[unroll]
    for index in 0..count {
        let level = levels.index(index);
        if point >= start && point < start + level.points {
            first = level.first;
            height = level.height;
            width = level.width;
        }
        start += level.points;
    }
    let place = place::<L>(locations, item, first, height, width);
    let mut d_weight = 0.0f32.runtime();
    let mut d_x = 0.0f32.runtime();
    let mut d_y = 0.0f32.runtime();
    if place.near {
        let weight = f32::cast_from(weights[item]);
        let a = corner(&place, false, false);
        let b = corner(&place, true, false);
        let c = corner(&place, false, true);
        let d = corner(&place, true, true);
        let of_a = product_at::<F, N>(value, gradient, &a, base, gradient_at, &sizes);
        let of_b = product_at::<F, N>(value, gradient, &b, base, gradient_at, &sizes);
        let of_c = product_at::<F, N>(value, gradient, &c, base, gradient_at, &sizes);
        let of_d = product_at::<F, N>(value, gradient, &d, base, gradient_at, &sizes);
        d_weight = a.share * of_a + b.share * of_b + c.share * of_c + d.share * of_d;
        d_x = a.slope_x * of_a + b.slope_x * of_b + c.slope_x * of_c + d.slope_x * of_d;
        d_y = a.slope_y * of_a + b.slope_y * of_b + c.slope_y * of_c + d.slope_y * of_d;
        d_x *= weight;
        d_y *= weight;
    }
    d_weights[item] = W::cast_from(d_weight);
    d_locations[2 * item] = L::cast_from(d_x);
    d_locations[2 * item + 1] = L::cast_from(d_y);
}

#[cube]
fn add(d_value: &mut [Atomic<f32>], corner: &Corner, base: usize, step: usize, scale: f32) {
    if corner.inside {
        d_value[base + corner.token * step].fetch_add(scale * corner.share);
    }
}

/// One unit for one channel of one head of one query: neighbouring units add to neighbouring
/// channels of the same cell.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn atomic_kernel<F: Float, L: Float, W: Float>(
    locations: &[L],
    weights: &[W],
    gradient: &[F],
    d_value: &mut [Atomic<f32>],
    levels: Sequence<Level>,
    sizes: Sizes,
    items: usize,
    #[define(F, L, W)] _dtypes: [ElemType; 3],
) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let row = item / sizes.vectors;
    let head = row % sizes.heads;
    let image = row / (sizes.heads * sizes.queries);
    let step = sizes.heads * sizes.vectors;
    let base = image * sizes.tokens * step + head * sizes.vectors + item % sizes.vectors;
    let slope = f32::cast_from(gradient[item]);
    let mut at = row * sizes.total;
    let count = comptime![levels.len()];
    #[unroll]
    for index in 0..count {
        let level = levels.index(index);
        for _ in 0..level.points {
            let place = place::<L>(locations, at, level.first, level.height, level.width);
            if place.near {
                let scale = f32::cast_from(weights[at]) * slope;
                add(d_value, &corner(&place, false, false), base, step, scale);
                add(d_value, &corner(&place, true, false), base, step, scale);
                add(d_value, &corner(&place, false, true), base, step, scale);
                add(d_value, &corner(&place, true, true), base, step, scale);
            }
            at += 1;
        }
    }
}

/// One unit for one head of one cell, which nothing else writes.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn ordered_kernel<F: Float, L: Float, W: Float, N: Size>(
    locations: &[L],
    weights: &[W],
    gradient: &[Vector<F, N>],
    d_value: &mut [Vector<f32, N>],
    levels: Sequence<Level>,
    sizes: Sizes,
    items: usize,
    #[define(F, L, W)] _dtypes: [ElemType; 3],
) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let head = item % sizes.heads;
    let token = item / sizes.heads % sizes.tokens;
    let image = item / (sizes.heads * sizes.tokens);
    // The level of the cell, its place there, and the level's first point.
    let mut start = 0usize.runtime();
    let mut point = 0usize.runtime();
    let mut points = 0usize.runtime();
    let mut first = 0usize.runtime();
    let mut height = 1usize.runtime();
    let mut width = 1usize.runtime();
    let count = comptime![levels.len()];
    #[unroll]
    for index in 0..count {
        let level = levels.index(index);
        if token >= level.first && token < level.first + level.height * level.width {
            point = start;
            points = level.points;
            first = level.first;
            height = level.height;
            width = level.width;
        }
        start += level.points;
    }
    let column = f32::cast_from((token - first) % width);
    let row = f32::cast_from((token - first) / width);
    for query in 0..sizes.queries {
        let of_query = (image * sizes.queries + query) * sizes.heads + head;
        for index in 0..points {
            let at = of_query * sizes.total + point + index;
            let x = f32::cast_from(locations[2 * at]) * f32::cast_from(width) - 0.5f32;
            let y = f32::cast_from(locations[2 * at + 1]) * f32::cast_from(height) - 0.5f32;
            let away_x = f32::abs(x - column);
            let away_y = f32::abs(y - row);
            // Written so that a NaN location is nowhere near.
            if away_x < 1.0f32 && away_y < 1.0f32 {
                let share = (1.0f32 - away_x) * (1.0f32 - away_y);
                let scale = Vector::<f32, N>::new(f32::cast_from(weights[at]) * share);
                for vector in 0..sizes.vectors {
                    let slope = gradient[of_query * sizes.vectors + vector];
                    d_value[item * sizes.vectors + vector] += scale * Vector::cast_from(slope);
                }
            }
        }
    }
}
