//! Who a peer is to a node: the roles that its certificate, or the operator's configuration, gives
//! it. What each may do is the node's policy.

use crate::kind::registry;

registry! {
    /// One of the parts that a peer can have.
    pub enum Role: u8 {
        /// Asks for work.
        Client = 0, "client";
        /// A host that offers workers.
        WorkerHost = 1, "worker-host";
        /// Agents, or a host of them.
        Agent = 2, "agent";
        /// Another node: the one above, or one below.
        Node = 3, "node";
        /// Gives orders to the mesh and reads everything.
        Operator = 4, "operator";
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Roles(u8);

impl Roles {
    /// None: such a peer may do nothing.
    pub const NONE: Self = Self(0);
    /// Every role there is.
    pub const ALL: Self = Self((1 << Role::ALL.len()) - 1);

    /// The set of one role.
    #[must_use]
    pub const fn of(role: Role) -> Self {
        Self(1 << role.code())
    }

    /// This set and one role more.
    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | Self::of(role).0)
    }

    /// True if the set has this role.
    #[must_use]
    #[inline]
    pub const fn has(self, role: Role) -> bool {
        self.meets(Self::of(role))
    }

    /// True if the two sets share a role.
    #[must_use]
    #[inline]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// True for the set without roles.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The roles, in code order.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.iter().copied().filter(move |role| self.has(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        roles.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let set = Roles::of(Role::Agent).with(Role::Client);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Role::Client, Role::Agent]);
        assert!(set.has(Role::Agent) && !set.has(Role::Operator));
        assert!(set.meets(Roles::ALL) && !set.meets(Roles::NONE) && Roles::NONE.is_empty());
        assert_eq!(Role::ALL.iter().copied().collect::<Roles>(), Roles::ALL);
    }
}
