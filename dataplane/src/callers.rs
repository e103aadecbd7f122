//! Which number an identity has on this node, for as long as it runs.

use dataplane_core::driver::Caller;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Identities of one run. Certificates are issued by the operator, who can make more names than
/// this only on purpose; what is over it is not let in.
const AT_MOST: usize = 65_536;

/// Numbers of identities, by name; 0 is everybody who proves nothing.
#[derive(Debug, Default)]
pub(crate) struct Callers(Mutex<HashMap<String, u32>>);

impl Callers {
    /// Who this is. `None` where the table is full.
    pub(crate) fn identify(&self, identity: &tls::Identity) -> Option<Caller> {
        // What a panicking holder leaves is whole: every change is one call of the map.
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = numbers.len() + 1;
        let number = match numbers.get(identity.name()) {
            Some(number) => *number,
            None if next > AT_MOST => return None,
            None => {
                let number = u32::try_from(next).ok()?;
                numbers.insert(identity.name().to_owned(), number);
                number
            }
        };
        Some(Caller { identity: number, roles: identity.roles() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Role, Roles};

    #[test]
    fn a_name_keeps_its_number_and_none_is_zero() {
        let callers = Callers::default();
        let identity = |name, role| tls::Identity::new(name, Roles::of(role)).expect("a name");
        let number = |name| callers.identify(&identity(name, Role::Agent)).expect("room").identity;
        assert_eq!((number("a"), number("b"), number("a")), (1, 2, 1));
        let operator = callers.identify(&identity("a", Role::Operator)).expect("room");
        assert_eq!(operator, Caller { identity: 1, roles: Roles::of(Role::Operator) });
    }
}
