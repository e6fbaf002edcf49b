//! What capabilities keep for one instance, such as the spans that its guest has started.

use std::any::{Any, TypeId};
use std::collections::HashMap;

/// The states of capabilities, each with a type of its own.
#[derive(Default)]
pub(crate) struct ProviderStates(HashMap<TypeId, Box<dyn Any + Send>>);

impl ProviderStates {
    /// Returns the state with the type `T`; `None` if it was not set.
    pub(crate) fn get<T: Send + 'static>(&mut self) -> &mut Option<T> {
        let state = self.0.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(None::<T>));
        state.downcast_mut().expect("the state with this type id is an `Option<T>`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_own_state() {
        let mut states = ProviderStates::default();
        assert_eq!(states.get::<u8>(), &None);
        *states.get() = Some(1_u8);
        *states.get() = Some("a");
        assert_eq!(states.get::<u8>(), &Some(1));
        assert_eq!(states.get::<&str>(), &Some("a"));
    }
}
