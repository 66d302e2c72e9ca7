//! Types of numbers, and tensors as they are in files.

use crate::error::{Problem, broken};

/// The types that weights have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes of one number.
    pub fn size(self) -> u64 {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// As NumPy and PyTorch call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::Bool => "bool",
        }
    }
}

/// A tensor: its numbers in row-major order, little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Tensor {
    pub fn from_f32s(shape: &[usize], values: &[f32]) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    pub fn from_i64s(shape: &[usize], values: &[i64]) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::I64, shape: shape.to_vec(), bytes }
    }

    pub fn from_bools(shape: &[usize], values: &[bool]) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let bytes = values.iter().map(|&value| u8::from(value)).collect();
        Self { dtype: Dtype::Bool, shape: shape.to_vec(), bytes }
    }

    /// The numbers as 64-bit floats; only integers beyond 2^53 lose anything.
    pub fn f64s(&self) -> Vec<f64> {
        let bytes = &self.bytes;
        match self.dtype {
            Dtype::F64 => words(bytes, f64::from_le_bytes),
            Dtype::F32 => words(bytes, |word| f64::from(f32::from_le_bytes(word))),
            Dtype::F16 => words(bytes, |word| f64::from(from_f16(u16::from_le_bytes(word)))),
            Dtype::BF16 => words(bytes, |word| f64::from(from_bf16(u16::from_le_bytes(word)))),
            Dtype::I64 => words(bytes, |word| i64::from_le_bytes(word) as f64),
            Dtype::I32 => words(bytes, |word| f64::from(i32::from_le_bytes(word))),
            Dtype::I16 => words(bytes, |word| f64::from(i16::from_le_bytes(word))),
            Dtype::I8 => bytes.iter().map(|&byte| f64::from(byte as i8)).collect(),
            Dtype::U8 | Dtype::Bool => bytes.iter().map(|&byte| f64::from(byte)).collect(),
        }
    }

    /// The numbers as 32-bit floats: exact for the floats up to 32 bits, rounded for others.
    pub fn f32s(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => words(&self.bytes, f32::from_le_bytes),
            _ => self.f64s().into_iter().map(|value| value as f32).collect(),
        }
    }
}

fn words<const N: usize, T>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&word| value(word)).collect()
}

fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

fn from_f16(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2_f32.powi(exponent - 25),
    }
}

/// How a tensor lies in its storage; counts are in numbers, not bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// No tensor of a detector has more axes than four; PyTorch allows 64.
const MAX_RANK: usize = 16;

impl View {
    /// A view that lies within a storage of `available` numbers.
    pub fn new(
        offset: u64,
        shape: Vec<u64>,
        strides: Vec<u64>,
        available: u64,
    ) -> Result<Self, Problem> {
        if shape.len() != strides.len() || shape.len() > MAX_RANK {
            return broken(format!("a tensor of shape {shape:?} with strides {strides:?}"));
        }
        let view = Self { offset, shape, strides };
        match view.end() {
            Some(end) if end <= available => Ok(view),
            _ => broken(format!(
                "a tensor of shape {:?} does not fit its storage of {available} numbers",
                view.shape
            )),
        }
    }

    /// How many numbers the tensor has; none if no machine could count them.
    pub fn count(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().try_fold(1_u64, |count, &side| count.checked_mul(side))
    }

    /// The place after the last number that it touches.
    fn end(&self) -> Option<u64> {
        match self.count()? {
            0 => Some(self.offset),
            _ => self.offset.checked_add(self.span()?),
        }
    }

    /// From its first number to after its last.
    fn span(&self) -> Option<u64> {
        self.shape.iter().zip(&self.strides).try_fold(1_u64, |span, (&side, &stride)| {
            span.checked_add((side.checked_sub(1)?).checked_mul(stride)?)
        })
    }

    /// First byte in the storage and number of bytes that hold the tensor.
    pub fn bytes(&self, size: u64) -> Option<(u64, u64)> {
        let span = if self.count()? == 0 { 0 } else { self.span()? };
        Some((self.offset.checked_mul(size)?, span.checked_mul(size)?))
    }

    /// Whether the numbers lie one after the other in row-major order.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&side, &stride)| {
            let holds = side == 1 || stride == expected;
            expected *= side.max(1);
            holds
        })
    }

    /// The tensor's bytes in row-major order, from those of its span.
    pub fn gather(&self, span: Vec<u8>, size: usize) -> Vec<u8> {
        if self.count() == Some(0) || self.is_contiguous() {
            return span;
        }
        let mut gathered = Vec::with_capacity(self.count().unwrap_or(0) as usize * size);
        let mut index = vec![0; self.shape.len()];
        loop {
            let steps = index.iter().zip(&self.strides).map(|(place, stride)| place * stride);
            let start = steps.sum::<u64>() as usize * size;
            gathered.extend_from_slice(&span[start..start + size]);
            // The next index: the last axis runs fastest.
            let mut axis = index.len();
            loop {
                if axis == 0 {
                    return gathered;
                }
                axis -= 1;
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_numbers_are_what_ieee_says() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(from_f16(bits), value, "{bits:04x}");
        }
        assert!(from_f16(0x7e00).is_nan());
        assert!(from_f16(0x8000).is_sign_negative());
        assert_eq!(from_bf16(0x3fc0), 1.5);
    }

    #[test]
    fn a_transposed_view_is_read_in_its_own_order() {
        let view = View::new(0, vec![3, 2], vec![1, 3], 6).unwrap();
        assert_eq!(view.gather(vec![0, 1, 2, 3, 4, 5], 1), [0, 3, 1, 4, 2, 5]);
        // Two bytes a number, and a first number that is not the storage's.
        let view = View::new(1, vec![2], vec![2], 4).unwrap();
        assert_eq!(view.bytes(2), Some((2, 6)));
        assert_eq!(view.gather(vec![2, 3, 4, 5, 6, 7], 2), [2, 3, 6, 7]);
    }

    #[test]
    fn a_view_beyond_its_storage_is_refused_whatever_overflows() {
        let huge = u64::MAX / 2;
        for (offset, shape, strides) in [
            (0, vec![7], vec![1]),
            (1, vec![6], vec![1]),
            (huge, vec![1], vec![1]),
            (0, vec![huge, 4], vec![4, 1]),
            (0, vec![2, 3], vec![huge, 1]),
            (0, vec![huge, huge], vec![0, 0]),
            (0, vec![2], vec![1, 1]),
            (7, vec![0], vec![1]),
        ] {
            assert!(View::new(offset, shape.clone(), strides, 6).is_err(), "{offset} {shape:?}");
        }
        // Nothing is read of an empty tensor, however long its other sides are.
        assert!(View::new(0, vec![huge, 0, huge], vec![huge, 1, 1], 6).is_ok());
    }
}
