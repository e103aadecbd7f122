//! Plain Rust: the definition that the other levels must match.

use half::f16;

use super::{Simd, WIDTH};

#[derive(Clone, Copy)]
pub(super) struct Scalar;

type F = [f32; WIDTH];
type M = [bool; WIDTH];

#[inline(always)]
fn each<T: Copy, U>(a: [T; WIDTH], f: impl Fn(T) -> U) -> [U; WIDTH] {
    std::array::from_fn(|lane| f(a[lane]))
}

#[inline(always)]
fn pairs<T: Copy, U>(a: [T; WIDTH], b: [T; WIDTH], f: impl Fn(T, T) -> U) -> [U; WIDTH] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

impl Simd for Scalar {
    type F = F;
    type M = M;
    const REGISTERS: usize = 4;

    #[inline(always)]
    fn prefetch<T>(self, _: &T) {}
    #[inline(always)]
    fn splat(self, value: f32) -> F {
        [value; WIDTH]
    }
    #[inline(always)]
    fn load(self, from: &[f32; WIDTH]) -> F {
        *from
    }
    #[inline(always)]
    fn load_f32(self, from: &[[u8; 4]; WIDTH]) -> F {
        each(*from, f32::from_le_bytes)
    }
    #[inline(always)]
    fn load_f16(self, from: &[[u8; 2]; WIDTH]) -> F {
        each(*from, |bytes| f16::from_le_bytes(bytes).to_f32_const())
    }
    #[inline(always)]
    fn load_bf16(self, from: &[[u8; 2]; WIDTH]) -> F {
        each(*from, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))
    }
    #[inline(always)]
    fn load_bf16_split(self, from: &[[u8; 2]; 2 * WIDTH]) -> [F; 2] {
        let widen = |[low, high]: [u8; 2]| f32::from_le_bytes([0, 0, low, high]);
        [0, 1].map(|odd| std::array::from_fn(|lane| widen(from[2 * lane + odd])))
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; WIDTH]) -> F {
        each(*from, f32::from)
    }
    #[inline(always)]
    fn store(self, value: F, to: &mut [f32; WIDTH]) {
        *to = value;
    }

    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        pairs(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        pairs(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        pairs(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        pairs(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        pairs(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: F) -> F {
        each(a, f32::abs)
    }
    #[inline(always)]
    fn max_magnitude(self, a: F, top: F) -> F {
        pairs(a, top, |a, top| f32::from_bits(a.abs().to_bits().max(top.to_bits())))
    }
    #[inline(always)]
    fn shift_exponent(self, a: F, power: F) -> F {
        pairs(a, power, |a, power| f32::from_bits(a.to_bits().wrapping_add(power.to_bits() << 23)))
    }

    #[inline(always)]
    fn at_least(self, a: F, b: F) -> M {
        pairs(a, b, |a, b| a >= b)
    }
    #[inline(always)]
    fn is_nan(self, a: F) -> M {
        each(a, f32::is_nan)
    }
    #[inline(always)]
    fn or(self, a: M, b: M) -> M {
        pairs(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn bits(self, mask: M) -> u32 {
        mask.iter().rev().fold(0, |bits, &lane| bits << 1 | u32::from(lane))
    }

    #[inline(always)]
    fn store_i8(self, value: F, to: &mut [i8; WIDTH]) {
        *to = each(value, |x| x.to_bits() as i8);
    }
    #[inline(always)]
    fn store_f16(self, value: F, to: &mut [u16; WIDTH]) {
        *to = each(value, |x| if x.is_nan() { 0x7e00 } else { f16::from_f32_const(x).to_bits() });
    }
    #[inline(always)]
    fn store_bf16(self, value: F, to: &mut [u16; WIDTH]) {
        *to = each(value, |x| {
            let bits = x.to_bits();
            let even = (bits >> 16) & 1;
            if x.is_nan() { 0x7fc0 } else { ((bits + 0x7fff + even) >> 16) as u16 }
        });
    }

    #[inline(always)]
    fn sum(self, a: F) -> f32 {
        fold(a, |a, b| a + b)
    }
    #[inline(always)]
    fn sum_four(self, vectors: [F; 4]) -> [f32; 4] {
        vectors.map(|vector| self.sum(vector))
    }
    #[inline(always)]
    fn largest(self, a: F) -> f32 {
        fold(a, |a, b| if a > b { a } else { b })
    }
}

#[inline(always)]
fn fold(mut a: F, f: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            a[lane] = f(a[lane], a[lane + half]);
        }
    }
    a[0]
}
