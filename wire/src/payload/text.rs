//! Text in payloads: a pointer and a length, never inline.

use rkyv::{
    Archive, Place, Serialize, SerializeUnsized,
    boxed::{ArchivedBox, BoxResolver},
    rancor::Fallible,
};
use std::borrow::Cow;

/// UTF-8 text of a payload. Literals are not copied.
///
/// Archived as a boxed `str` (i32 offset, u32 length), which foreign readers handle like every
/// other pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(Cow<'static, str>);

impl Text {
    /// Text that is known when the program is built.
    #[must_use]
    pub const fn literal(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Cow::Owned(text.to_owned()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl Archive for Text {
    type Archived = ArchivedBox<str>;
    type Resolver = BoxResolver;

    fn resolve(&self, resolver: Self::Resolver, out: Place<Self::Archived>) {
        ArchivedBox::resolve_from_ref(self.as_str(), resolver, out);
    }
}

impl<S> Serialize<S> for Text
where
    S: Fallible + ?Sized,
    str: SerializeUnsized<S>,
{
    fn serialize(&self, serializer: &mut S) -> Result<Self::Resolver, S::Error> {
        ArchivedBox::serialize_from_ref(self.as_str(), serializer)
    }
}
