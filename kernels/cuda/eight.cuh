// Eight columns of a row: what a thread of the elementwise kernels takes at a time.
#pragma once
#include "common.cuh"

// Floats of columns col..col + 8, all of which are there.
DEVICE void eight_floats(const float* from, u32 col, float* to) {
  if (is_aligned<float4>(from)) {
    float4 low = __ldg((const float4*)(from + col)), high = __ldg((const float4*)(from + col) + 1);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
  } else {
#pragma unroll
    for (u32 i = 0; i < 8; i++) to[i] = __ldg(from + col + i);
  }
}

// A row of hidden states as its kernel sees it: t = x - mean, 0 in masked columns.
template <class E>
struct Hidden {
  const typename E::Word* row;
  u32 cols;
  const float* mean;   // or null
  const u32* masked;   // a bit per column; or null

  __device__ __forceinline__ Hidden(const void* row, u32 cols, const float* mean, const u32* masked)
      : row((const typename E::Word*)row), cols(cols), mean(mean), masked(masked) {}

  __device__ __forceinline__ float at(u32 col) const {
    if (masked && (__ldg(masked + col / 32) >> col % 32 & 1)) return 0.0f;
    float x = E::widen(__ldg(row + col));
    return mean ? __fsub_rn(x, __ldg(mean + col)) : x;
  }

  // Whether eights of columns can be loaded at once.
  __device__ __forceinline__ bool is_wide() const {
    return cols % 8 == 0 && is_aligned<uint4>(row);
  }

  // Asks memory for columns col..col + 8, a multiple of 8; 0 beyond the row. WIDE: see `is_wide`.
  template <bool WIDE>
  __device__ __forceinline__ void fetch(u32 col, Eight<E>& raw) const {
    u32 left = col < cols ? cols - col : 0;
    if (WIDE && left > 0) {
      raw.load_wide(row + col);
    } else {
      raw.load(row + col, WIDE ? 0 : left);
    }
  }

  // What was fetched, as floats; 0 beyond the row.
  __device__ __forceinline__ void finish(u32 col, const Eight<E>& raw, float* t) const {
    raw.widen(t);
    if (mean && col < cols) {
      float m[8];
      if (cols - col >= 8) {
        eight_floats(mean, col, m);
      } else {
#pragma unroll
        for (u32 i = 0; i < 8; i++) m[i] = i < cols - col ? __ldg(mean + col + i) : 0.0f;
      }
#pragma unroll
      for (u32 i = 0; i < 8; i++) t[i] = __fsub_rn(t[i], m[i]);
    }
    if (masked && col < cols) {
      u32 bits = __ldg(masked + col / 32) >> col % 32;
#pragma unroll
      for (u32 i = 0; i < 8; i++) t[i] = bits >> i & 1 ? 0.0f : t[i];
    }
  }

  // Both.
  template <bool WIDE>
  __device__ __forceinline__ void eight(u32 col, float* t) const {
    Eight<E> raw;
    fetch<WIDE>(col, raw);
    finish(col, raw, t);
  }
};

// The low bytes of four words in one.
DEVICE u32 four_bytes(u32 a, u32 b, u32 c, u32 d) {
  return __byte_perm(__byte_perm(a, b, 0x0040), __byte_perm(c, d, 0x0040), 0x5410);
}

// Writes eight codes, each in the low byte of a word, at columns col..; none beyond the row.
DEVICE void store_codes(u8* codes, u32 cols, u32 col, const u32* words) {
  if (col < cols && cols - col >= 8 && is_aligned<uint2>(codes)) {
    *(uint2*)(codes + col) = make_uint2(four_bytes(words[0], words[1], words[2], words[3]),
                                        four_bytes(words[4], words[5], words[6], words[7]));
    return;
  }
#pragma unroll
  for (u32 i = 0; i < 8; i++) {
    if (col < cols && i < cols - col) codes[col + i] = (u8)words[i];
  }
}

// Reads eight codes from columns col..; 0 beyond the row.
DEVICE void load_codes(const u8* codes, u32 cols, u32 col, float* to) {
  u32 words[2] = {0, 0};
  if (cols - col >= 8 && is_aligned<uint2>(codes)) {
    uint2 both = __ldg((const uint2*)(codes + col));
    words[0] = both.x, words[1] = both.y;
  } else {
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
      if (i < cols - col) words[i / 4] |= (u32)codes[col + i] << 8 * (i % 4);
    }
  }
#pragma unroll
  for (u32 i = 0; i < 8; i++) {
    to[i] = __int2float_rn((int)(words[i / 4] << (24 - 8 * (i % 4))) >> 24);
  }
}

// Writes eight values as elements of `dtype` at columns col..; none beyond the row.
DEVICE void store_eight(u32 dtype, void* out, u32 cols, u32 col, const float* v) {
  bool whole = cols - col >= 8 && is_aligned<uint4>(out);
  if (whole && dtype == DTYPE_F32) {
    float4* to = (float4*)((float*)out + col);
    to[0] = make_float4(v[0], v[1], v[2], v[3]);
    to[1] = make_float4(v[4], v[5], v[6], v[7]);
  } else if (whole) {
    u32 words[4];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
      u32 low = dtype == DTYPE_F16 ? narrow_f16(v[2 * i]) : narrow_bf16(v[2 * i]);
      u32 high = dtype == DTYPE_F16 ? narrow_f16(v[2 * i + 1]) : narrow_bf16(v[2 * i + 1]);
      words[i] = low | high << 16;
    }
    *(uint4*)((u16*)out + col) = make_uint4(words[0], words[1], words[2], words[3]);
  } else {
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
      if (i < cols - col) store_as(dtype, out, (u64)col + i, v[i]);
    }
  }
}
