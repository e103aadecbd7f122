//! Which entries: a bound from the groups' maxima, then the entries that reach it.

use super::{BLOCK, Grouping};
use crate::row::Format;
use crate::simd::{Simd, WIDTH};

/// Room for entries that reach the bound. Well above `MAX_K`, so that making room is rare.
pub(super) const ROOM: usize = 4096;

/// A key that is smaller for larger values and, among equal ones, for smaller indices.
#[inline(always)]
fn pack(value: f32, index: u32) -> u64 {
    u64::from(!order(value)) << 32 | u64::from(index)
}

/// The index and the value of a key.
#[inline(always)]
pub(super) fn unpack(key: u64) -> (u32, f32) {
    (key as u32, value_at(!(key >> 32) as u32))
}

/// An integer that orders like `value`, which is not NaN.
#[inline(always)]
fn order(value: f32) -> u32 {
    // Adding +0 makes -0 the same as +0.
    let bits = (value + 0.0).to_bits();
    let negative = (bits.cast_signed() >> 31).cast_unsigned();
    bits ^ (negative | 0x8000_0000)
}

/// The inverse of [`order`].
#[inline(always)]
const fn value_at(order: u32) -> f32 {
    let positive = (order.cast_signed() >> 31).cast_unsigned();
    f32::from_bits(order ^ (!positive | 0x8000_0000))
}

/// The largest of all maxima, +0 rather than -0.
#[inline(always)]
pub(super) fn largest<S: Simd>(s: S, maxima: &[[f32; WIDTH]]) -> f32 {
    let mut top = s.splat(f32::NEG_INFINITY);
    for maximum in maxima {
        top = s.max(s.load(maximum), top);
    }
    s.largest(top) + 0.0
}

/// A value that at least `k` entries reach and, ties aside, not many more; -inf if there is none.
#[inline(always)]
pub(super) fn bound<S: Simd>(s: S, maxima: &[[f32; WIDTH]], k: usize, max: f32) -> f32 {
    /// Halvings of the value range before those of the bit range, which always end.
    const BY_VALUE: usize = 12;
    // Invariant: at least k reach `low`, or it is -inf; fewer than k reach `high`.
    let (mut low, mut high) = (f32::NEG_INFINITY, max);
    if reaching(s, maxima, high) >= k {
        return high;
    }
    let mut steps = 0;
    loop {
        let (below, above) = (order(low), order(high));
        if above - below <= 1 {
            return low;
        }
        let by_value = low.midpoint(high);
        let middle = if steps < BY_VALUE && low < by_value && by_value < high {
            by_value
        } else {
            value_at(below + (above - below) / 2)
        };
        let reached = reaching(s, maxima, middle);
        if reached < k {
            high = middle;
        } else if reached <= k + k / 8 + WIDTH {
            return middle;
        } else {
            low = middle;
        }
        steps += 1;
    }
}

/// Number of groups that reach `bound`.
#[inline(always)]
fn reaching<S: Simd>(s: S, maxima: &[[f32; WIDTH]], bound: f32) -> usize {
    let bound = s.splat(bound);
    let mut reached = 0;
    for maximum in maxima {
        reached += s.bits(s.at_least(s.load(maximum), bound)).count_ones();
    }
    reached as usize
}

/// The best entries so far.
pub(super) struct Best<'a> {
    k: usize,
    /// What an entry must reach to be taken; NaN when none can.
    bound: f32,
    len: usize,
    keys: &'a mut [u64; ROOM],
}

impl<'a> Best<'a> {
    /// Nothing yet. At least `k` entries reach `bound`, or it is -inf.
    pub(super) fn new(k: usize, bound: f32, keys: &'a mut [u64; ROOM]) -> Self {
        Self { k, bound, len: 0, keys }
    }

    /// Keeps the k best, and asks of later entries to be better than all but those.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self) {
        let (_, worst, _) = self.keys[..self.len].select_nth_unstable(self.k - 1);
        let (_, value) = unpack(*worst);
        self.bound = if value == f32::INFINITY { f32::NAN } else { value.next_up() };
        self.len = self.k;
    }

    /// Sorts; gives the number of entries found.
    pub(super) fn finish(&mut self) -> usize {
        let count = self.len.min(self.k);
        if self.len > 2 * self.k && self.k > 0 {
            self.keys[..self.len].select_nth_unstable(self.k - 1);
            self.len = self.k;
        }
        self.keys[..self.len].sort_unstable();
        count
    }

    /// Takes the entries of a block that `reached` has a bit for.
    #[inline(always)]
    fn take<T: Format>(&mut self, block: &[T::Bytes; BLOCK], first: usize, mut reached: u64) {
        while reached != 0 {
            let place = reached.trailing_zeros() as usize % BLOCK;
            reached &= reached - 1;
            let key = pack(T::widen(block[place]), (first + place) as u32);
            self.keys[self.len % ROOM] = key;
            self.len += 1;
        }
        if self.len > ROOM - BLOCK {
            self.make_room();
        }
    }
}

/// Takes every entry that reaches the bound, in order of index.
#[inline(always)]
pub(super) fn collect<S: Simd, T: Format>(
    s: S,
    entries: &[T::Bytes],
    grouping: Grouping,
    maxima: &[[f32; WIDTH]],
    best: &mut Best<'_>,
) {
    let groups = entries.chunks(grouping.size * BLOCK).zip(maxima).enumerate();
    for (number, (group, maximum)) in groups {
        if s.bits(s.at_least(s.load(maximum), s.splat(best.bound))) == 0 {
            continue;
        }
        let mut first = number * grouping.size * BLOCK;
        let (blocks, tail) = group.as_chunks::<BLOCK>();
        for block in blocks {
            let reached = reached::<S, T>(s, block, best.bound);
            if reached != 0 {
                best.take::<T>(block, first, reached);
            }
            first += BLOCK;
        }
        if !tail.is_empty() {
            let block = T::pad(tail, T::LOWEST);
            let real = (1 << tail.len()) - 1;
            let reached = reached::<S, T>(s, &block, best.bound);
            best.take::<T>(&block, first, reached & real);
        }
    }
}

/// A bit for every entry of a block that reaches `bound`.
#[inline(always)]
fn reached<S: Simd, T: Format>(s: S, block: &[T::Bytes; BLOCK], bound: f32) -> u64 {
    let bound = s.splat(bound);
    let mut reached = 0;
    for (vector, place) in block.as_chunks().0.iter().zip([0, 16, 32, 48]) {
        reached |= u64::from(s.bits(s.at_least(T::load(s, vector), bound))) << place;
    }
    reached
}
