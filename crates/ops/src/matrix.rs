//! Matrix products on slices.

use rayon::prelude::*;

use crate::flex;

/// A matrix in memory, row by row, or its transpose.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: isize,
    column_stride: isize,
}

impl<'a> Matrix<'a> {
    /// `rows * columns` values, row by row.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} x {columns}");
        Self { values, rows, columns, row_stride: columns as isize, column_stride: 1 }
    }

    /// `rows` rows from `first` on.
    fn part(self, first: usize, rows: usize) -> Self {
        assert!(first + rows <= self.rows, "rows of the matrix");
        let values = &self.values[first * self.row_stride as usize..];
        Self { values, rows, ..self }
    }

    /// The transpose, without moving anything.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Rows of the left matrix that one thread takes at a time.
const ROWS: usize = 128;

/// [`multiply_precisely`] on all threads, cut as in [`multiply_by_rows`].
pub(crate) fn multiply_precisely_by_rows(
    left: Matrix,
    right: Matrix,
    product: &mut [f32],
    add: bool,
) {
    by_rows(left, right, product, |left, product| multiply_precisely(left, right, product, add));
}

/// [`multiply`] on all threads: the cut into rows depends on the size alone, and rows do not share
/// anything, so neither does the result depend on the threads.
pub(crate) fn multiply_by_rows(left: Matrix, right: Matrix, product: &mut [f32], add: bool) {
    by_rows(left, right, product, |left, product| multiply(left, right, product, add));
}

fn by_rows(
    left: Matrix,
    right: Matrix,
    product: &mut [f32],
    multiply: impl Fn(Matrix, &mut [f32]) + Sync + Send,
) {
    let elements = left.rows * right.columns * left.columns / 8;
    let parts = product.par_chunks_mut(ROWS * right.columns).enumerate();
    flex::for_each(elements, parts, |(part, product)| {
        let rows = product.len() / right.columns;
        multiply(left.part(part * ROWS, rows), product);
    });
}

/// Terms of an inner product that are added up on their own in [`multiply_precisely`].
const TERMS: usize = 64;

/// [`multiply`] with a smaller rounding error: long sums are sums of short ones. For what a network
/// hands on, where an error near zero decides whether a unit is on.
pub(crate) fn multiply_precisely(left: Matrix, right: Matrix, product: &mut [f32], add: bool) {
    assert_eq!(left.columns, right.rows, "the inner sizes of a matrix product must agree");
    let depth = left.columns;
    let terms = depth.div_ceil(depth.div_ceil(TERMS).max(1)).max(1);
    for first in (0..depth).step_by(terms) {
        let count = terms.min(depth - first);
        let left = left.transposed().part(first, count).transposed();
        multiply(left, right.part(first, count), product, add || first > 0);
    }
}

/// `product = left * right`, or `product += left * right`, on the calling thread.
#[expect(unsafe_code, reason = "the matrix library's only entry point is unsafe")]
pub(crate) fn multiply(left: Matrix, right: Matrix, product: &mut [f32], add: bool) {
    assert_eq!(left.columns, right.rows, "the inner sizes of a matrix product must agree");
    assert_eq!(product.len(), left.rows * right.columns, "the size of a matrix product");
    // SAFETY: all three matrices lie within their slices: `Matrix::new` and the asserts above compare
    // the sizes with the lengths, strides are those of a dense matrix or its transpose, and `product`
    // is borrowed mutably, so it overlaps with neither input.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            product.as_mut_ptr(),
            1,
            right.columns as isize,
            add,
            left.values.as_ptr(),
            left.column_stride,
            left.row_stride,
            right.values.as_ptr(),
            right.column_stride,
            right.row_stride,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
