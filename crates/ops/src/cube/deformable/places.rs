//! How the kernels of deformable attention see a location: its level and the four cells around it.

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
pub(super) struct Place {
    /// False if no cell is near, and if the location is NaN.
    pub(super) near: bool,
    left: f32,
    top: f32,
    right_share: f32,
    bottom_share: f32,
    first: usize,
    height: usize,
    width: usize,
}

#[cube]
pub(super) fn place<L: Float>(
    locations: &[L],
    at: usize,
    first: usize,
    height: usize,
    width: usize,
) -> Place {
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
pub(super) struct Corner {
    pub(super) inside: bool,
    pub(super) token: usize,
    pub(super) share: f32,
    pub(super) slope_x: f32,
    pub(super) slope_y: f32,
}

#[cube]
pub(super) fn corner(place: &Place, #[comptime] right: bool, #[comptime] bottom: bool) -> Corner {
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
