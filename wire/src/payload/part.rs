//! Arrays that already lie in the payload when its root is written.

use core::marker::PhantomData;
use rkyv::{
    Archive, Archived, Place, Serialize,
    rancor::Fallible,
    vec::{ArchivedVec, VecResolver},
};

/// `len` elements at byte `pos` of the payload, written there by someone else (the network, a
/// kernel).
///
/// Archived like any array, as (i32 offset, u32 length): only the root's pointer is resolved here,
/// so that no serialiser walks over tensor data.
#[derive(Debug, PartialEq, Eq)]
pub struct Part<T> {
    pos: u32,
    len: u32,
    of: PhantomData<T>,
}

impl<T> Part<T> {
    /// Elements that start at byte `pos` of the payload. An empty part's `pos` counts too: readers
    /// demand that pointers do not step back behind data of earlier fields.
    #[must_use]
    pub const fn new(pos: u32, len: u32) -> Self {
        Self { pos, len, of: PhantomData }
    }

    /// First byte.
    #[must_use]
    pub const fn pos(&self) -> u32 {
        self.pos
    }

    /// Elements.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// True where there are no elements.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Part<T> {}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl<T: Archive> Archive for Part<T> {
    type Archived = ArchivedVec<Archived<T>>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: Self::Resolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_len(self.len as usize, resolver, out);
    }
}

impl<T: Archive, S: Fallible + ?Sized> Serialize<S> for Part<T> {
    fn serialize(&self, _: &mut S) -> Result<Self::Resolver, S::Error> {
        Ok(VecResolver::from_pos(self.pos as usize))
    }
}
