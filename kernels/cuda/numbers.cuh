// The exponential, the logarithm, and keys that order entries: counterparts of kernels/src/exp.rs
// and kernels/src/topk/select.rs, operation by operation.
#pragma once
#include "common.cuh"

// e^d for d up to 88; NaN and anything below -86 give e^-86.
DEVICE float exponential(float d) {
  float r = fmaxf(d, -86.0f);
  float power = __fmaf_rn(r, 1.44269504088896340736f, ROUNDER);
  float n = __fsub_rn(power, ROUNDER);
  r = __fmaf_rn(n, -0.693147180559945309417f, r);
  float p = __fmaf_rn(0.008312502f, r, 0.041890334f);
  p = __fmaf_rn(p, r, 0.16667116f);
  p = __fmaf_rn(p, r, 0.4999923f);
  p = __fmaf_rn(p, r, 1.0f);
  p = __fmaf_rn(p, r, 1.0f);
  return __uint_as_float(__float_as_uint(p) + (__float_as_uint(power) << 23));
}

// The natural logarithm of a finite x >= 0.
DEVICE double logarithm(double x) {
  if (x <= 0.0) return __longlong_as_double((long long)0xfff0000000000000ull);
  u64 bits = (u64)__double_as_longlong(x);
  long long exponent = (long long)(bits - 0x3fe6a09e667f3bcdull) >> 52;
  double m = __longlong_as_double((long long)(bits - ((u64)exponent << 52)));
  double z = __ddiv_rn(__dsub_rn(m, 1.0), __dadd_rn(m, 1.0));
  double w = __dmul_rn(z, z);
  double series = __fma_rn(w, 0.0, 1.0 / 21.0);
  series = __fma_rn(w, series, 1.0 / 19.0);
  series = __fma_rn(w, series, 1.0 / 17.0);
  series = __fma_rn(w, series, 1.0 / 15.0);
  series = __fma_rn(w, series, 1.0 / 13.0);
  series = __fma_rn(w, series, 1.0 / 11.0);
  series = __fma_rn(w, series, 1.0 / 9.0);
  series = __fma_rn(w, series, 1.0 / 7.0);
  series = __fma_rn(w, series, 1.0 / 5.0);
  series = __fma_rn(w, series, 1.0 / 3.0);
  series = __fma_rn(w, series, 1.0);
  double twice = __dmul_rn(__dmul_rn(2.0, z), series);
  return __fma_rn((double)exponent, 0.693147180559945309417232121458, twice);
}

// An integer that orders like `value`, which is not NaN; -0 and +0 are the same.
DEVICE u32 order_of(float value) {
  u32 bits = __float_as_uint(__fadd_rn(value, 0.0f));
  return bits ^ ((u32)((int)bits >> 31) | 0x80000000u);
}

DEVICE float value_of(u32 order) {
  return __uint_as_float(order ^ (~(u32)((int)order >> 31) | 0x80000000u));
}

// Smaller for larger values and, among equal ones, for smaller indices.
DEVICE u64 key_of(float value, u32 index) { return (u64)~order_of(value) << 32 | index; }
